import { html, nothing } from "lit";
import { dayOf, timeOf } from "../format.js";
import { icons } from "../icons.js";
import { PageElement } from "../live_element.js";
import { text } from "../texts.js";
import { FileError } from "./files.js";
import { captionOf } from "./file_words.js";

/** @import { Message } from "../../live/index.js" */
/** @import { FileAddress, Files } from "./files.js" */

/**
 * The pictures of a conversation, one at a time, over the page. Left and right lead to others,
 * Escape back to where it was opened.
 */
export class MediaViewer extends PageElement {
  /** @override */
  static properties = { index: { state: true }, address: { state: true }, reason: { state: true } };

  constructor() {
    super();
    /** @type {readonly Readonly<Message>[]} */
    this.messages = [];
    /** @type {Files | null} */
    this.files = null;
    this.index = 0;
    /** @type {FileAddress | null} */
    this.address = null;
    this.reason = "";
  }

  /**
   * Opens a viewer over the page.
   *
   * @param {Files} files
   * @param {readonly Readonly<Message>[]} messages with pictures, the oldest first
   * @param {string} messageId the one that is shown first
   */
  static open(files, messages, messageId) {
    const viewer = new MediaViewer();
    viewer.files = files;
    viewer.messages = messages;
    viewer.index = Math.max(0, messages.findIndex(({ id }) => id === messageId));
    document.body.append(viewer);
    return viewer;
  }

  /** @override */
  firstUpdated() {
    this.querySelector("dialog")?.showModal();
    void this.#load();
  }

  /** @override */
  render() {
    const message = this.messages[this.index];
    if (!message) return nothing;
    const count = this.messages.length;
    const caption = captionOf(message);
    return html`<dialog class="viewer" aria-label=${text("media.viewer")} @close=${() => this.remove()} @keydown=${this.#key} @click=${this.#outside}>
      <header class="viewer-head">
        <p class="viewer-facts">
          <bdi>${message.sender_name ?? ""}</bdi>
          <time datetime=${message.created_at}>${dayOf(message.created_at)}, ${timeOf(message.created_at)}</time>
        </p>
        <p class="viewer-count" role="status">${text("media.count", { n: this.index + 1, all: count })}</p>
        <button type="button" class="button-icon" aria-label=${text("media.download.this")} @click=${this.#save}>${icons.download}</button>
        <button type="button" class="button-icon" autofocus aria-label=${text("media.close")} @click=${() => this.querySelector("dialog")?.close()}>${icons.close}</button>
      </header>
      <div class="viewer-stage">
        <button type="button" class="button-icon viewer-step" aria-label=${text("media.previous")} ?disabled=${!this.index} @click=${() => this.#go(this.index - 1)}>${icons.back}</button>
        ${this.reason
          ? html`<p class="viewer-trouble" role="alert">${icons.warning}${this.reason}</p>`
          : this.address
            ? html`<img class="viewer-picture" src=${this.address.url} alt=${caption || text("kind.image")} @error=${this.#broken} />`
            : html`<p class="viewer-trouble" role="status">${text("page.loading")}</p>`}
        <button type="button" class="button-icon viewer-step viewer-next" aria-label=${text("media.next")} ?disabled=${this.index === count - 1} @click=${() => this.#go(this.index + 1)}>${icons.back}</button>
      </div>
      ${caption ? html`<p class="viewer-caption" dir="auto">${caption}</p>` : nothing}
    </dialog>`;
  }

  /** @param {number} index */
  #go(index) {
    if (index < 0 || index >= this.messages.length || index === this.index) return;
    this.index = index;
    this.address = null;
    this.reason = "";
    void this.#load();
  }

  async #load() {
    const message = this.messages[this.index];
    try {
      const address = await this.files?.read(message.id);
      if (message === this.messages[this.index] && address) this.address = address;
    } catch (error) {
      if (message === this.messages[this.index]) this.#fail(error);
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    this.reason = error instanceof FileError && error.status === 404 ? text("media.none") : error instanceof Error ? error.message : String(error);
  }

  #broken = () => this.#fail(new FileError(text("media.broken")));

  #save = async () => {
    try {
      await this.files?.save(this.messages[this.index].id);
    } catch (error) {
      this.#fail(error);
    }
  };

  /** @param {KeyboardEvent} event */
  #key = (event) => {
    const last = this.messages.length - 1;
    const to = { ArrowLeft: this.index - 1, ArrowRight: this.index + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#go(to);
  };

  /** @param {MouseEvent} event */
  #outside = (event) => {
    const target = /** @type {Element} */ (event.target);
    if (target.matches("dialog, .viewer-stage")) this.querySelector("dialog")?.close();
  };
}

customElements.define("media-viewer", MediaViewer);
