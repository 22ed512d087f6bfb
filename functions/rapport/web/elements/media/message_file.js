import { html, nothing } from "lit";
import { icons } from "../icons.js";
import { sizeOf } from "../format.js";
import { PageElement } from "../live_element.js";
import { kindOf } from "../parts.js";
import { text } from "../texts.js";
import "./audio_player.js";
import { fileOf } from "./file_words.js";
import { FileError } from "./files.js";

/** @import { Message } from "../../live/index.js" */
/** @import { FileAddress, Files } from "./files.js" */

// px: so far out of sight a file is asked for, so that it is there when it comes into sight
const AHEAD = "200px";

/** @type {Map<Element, () => void>} */
const inSight = new Map();
const sights = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) inSight.get(target)?.();
  },
  // also ahead of the log's own edge, where the browser knows how
  /** @type {IntersectionObserverInit} */ (/** @type {object} */ ({ rootMargin: AHEAD, scrollMargin: AHEAD })),
);

/**
 * The file of a message, asked for when it comes into sight, in a box that has its size from the
 * start. A picture that is chosen rises `file-open` with the message's id.
 */
export class MessageFile extends PageElement {
  /** @override */
  static properties = {
    message: { attribute: false },
    files: { attribute: false },
    canRefetch: { attribute: false },
    address: { state: true },
    state: { state: true },
    reason: { state: true },
  };

  constructor() {
    super();
    /** @type {Readonly<Message> | null} */
    this.message = null;
    /** @type {Files | null} */
    this.files = null;
    /** Whether the user may have WhatsApp be asked again. */
    this.canRefetch = false;
    /** @type {FileAddress | null} */
    this.address = null;
    /** @type {"idle" | "loading" | "pending" | "ready" | "failed" | "over"} */
    this.state = "idle";
    this.reason = "";
    /** @type {string | undefined} */
    this.shown = undefined;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    inSight.set(this, () => this.#comeIntoSight());
    sights.observe(this);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    inSight.delete(this);
    sights.unobserve(this);
  }

  /** @override */
  willUpdate() {
    if (this.message?.id === this.shown) return;
    this.shown = this.message?.id;
    this.address = this.message && this.files ? this.files.known(this.message.id) : null;
    this.state = this.address ? "ready" : "idle";
    this.reason = "";
  }

  /** @override */
  render() {
    const { message } = this;
    if (!message) return nothing;
    switch (message.type) {
      case "image":
        return this.#boxed("picture", this.#picture());
      case "sticker":
        return this.#boxed("sticker", this.address ? html`<img src=${this.address.url} alt=${text("kind.sticker")} @error=${this.#broken} />` : nothing);
      case "video":
        return this.#boxed(
          "video",
          this.address
            ? html`<video controls playsinline preload="metadata" aria-label=${kindOf("video")} src=${this.address.url} @error=${this.#broken}></video>`
            : nothing,
        );
      case "audio":
        return this.#sound();
      default:
        return this.#document();
    }
  }

  #picture() {
    if (!this.address) return nothing;
    return html`<button type="button" class="file-open" aria-label=${text("media.open")} @click=${() => this.tell("file-open", this.message?.id)}>
      <img src=${this.address.url} alt="" decoding="async" @error=${this.#broken} />
    </button>`;
  }

  /**
   * @param {string} kind
   * @param {unknown} content
   */
  #boxed(kind, content) {
    return html`<div class="file-box file-${kind}" data-state=${this.state}>
      ${this.state === "failed" || this.state === "over" ? this.#trouble() : this.#hasContent ? content : this.#waiting()}
    </div>`;
  }

  get #hasContent() {
    return this.state === "ready" && this.address;
  }

  #waiting() {
    const type = this.message?.type ?? "";
    const drawing = type === "video" ? icons.video : icons.picture;
    return html`<span class="file-wait">${drawing}<span>${this.state === "pending" ? text("media.pending") : kindOf(type)}</span></span>`;
  }

  #trouble() {
    const isFailed = this.state === "failed";
    return html`<span class="file-wait" role="status"
      >${icons.warning}<span>${this.reason}</span>
      ${isFailed ? html`<button type="button" class="link" @click=${this.#again}>${text("media.again")}</button>` : nothing}</span
    >`;
  }

  #sound() {
    const isVoice = fileOf(this.message).voice === true;
    const isTroubled = this.state === "failed" || this.state === "over";
    if (isTroubled) return html`<div class="file-line" data-state=${this.state}>${this.#trouble()}</div>`;
    return html`<audio-player
      data-state=${this.state}
      .src=${this.address?.url ?? ""}
      .label=${isVoice ? text("kind.voice") : kindOf("audio")}
      .isVoice=${isVoice}
      @audio-broken=${this.#broken}
    ></audio-player>`;
  }

  #document() {
    const name = this.address?.fileName ?? nameOf(this.message);
    const isTroubled = this.state === "failed" || this.state === "over";
    const facts = [endingOf(name), this.address ? sizeOf(this.address.size) : ""].filter(Boolean).join(" · ");
    return html`<div class="file-line" data-state=${this.state}>
      <span class="file-icon">${icons.file}</span>
      <span class="file-words"
        ><bdi class="file-name" title=${name}>${name}</bdi
        ><span class="file-facts">${isTroubled ? this.reason : this.state === "pending" ? text("media.pending") : facts || kindOf("document")}</span></span
      >
      ${this.state === "failed"
        ? html`<button type="button" class="link" @click=${this.#again}>${text("media.again")}</button>`
        : this.state === "over" || !this.files
          ? nothing
          : html`<button type="button" class="button-icon" aria-label=${text("media.download", { name })} @click=${this.#save}>${icons.download}</button>`}
    </div>`;
  }

  #comeIntoSight() {
    // one whose address ends soon is asked for anew
    if (this.state === "idle") void this.#load();
  }

  async #load() {
    const { message, files } = this;
    if (!message || !files) return;
    this.state = "loading";
    try {
      const address = await files.read(message.id, () => {
        if (this.message === message) this.state = "pending";
      });
      if (this.message?.id !== message.id) return;
      this.address = address;
      this.state = "ready";
    } catch (error) {
      if (this.message?.id === message.id) this.#fail(error);
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    this.address = null;
    const isOver = error instanceof FileError && error.isOver;
    this.state = isOver ? "over" : "failed";
    this.reason = error instanceof FileError && error.status === 404 ? text("media.none") : error instanceof Error ? error.message : String(error);
    this.tell("file-failed", this.message?.id);
  }

  #broken = () => {
    // of an address that has ended nobody says so
    const hasEnded = this.address && this.address.until < Date.now();
    if (hasEnded) void this.#load();
    else this.#fail(new FileError(text("media.broken")));
  };

  #again = async () => {
    const { message, files } = this;
    if (!message || !files) return;
    this.state = "loading";
    try {
      await files.read(message.id);
    } catch (error) {
      // what WhatsApp did not give is asked for again
      if (this.canRefetch && error instanceof FileError && error.status === 409) await files.refetch(message.id).catch(() => {});
    }
    await this.#load();
  };

  #save = async () => {
    try {
      await this.files?.save(this.message?.id ?? "");
    } catch (error) {
      this.#fail(error);
    }
  };
}

/** @param {Readonly<Message> | null} message */
function nameOf(message) {
  const { filename } = fileOf(message);
  return typeof filename === "string" && filename ? filename : kindOf("document");
}

/** @param {string} name */
function endingOf(name) {
  return /\.([a-z0-9]{1,5})$/i.exec(name)?.[1].toUpperCase() ?? "";
}

customElements.define("message-file", MessageFile);
