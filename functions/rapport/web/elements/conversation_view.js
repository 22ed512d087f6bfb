import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { dayKey, dayOf, timeOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { bareWords, emptiness, kindOf, reasonOf, skeleton, ticks, trouble } from "./parts.js";
import { text } from "./texts.js";

/** @import { Message, Outbox } from "../live/index.js" */
/** @import { PendingMessage } from "../live/outbox.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

/** So many bubbles are in the page, however many messages there are. */
export const MOST_BUBBLES = 60;
const STEP = 20;
// px: nearer to an end than this, more is shown there
const NEAR = 240;
const AT_END = 24;
const LONGEST = 4096;

/** @typedef {{ conversationId?: string, customerId?: string, bookingId?: string }} Chat as the outbox names one */

/**
 * A message as it is shown: one that is kept, or one on its way.
 *
 * @typedef {object} Bubble
 * @property {string} key
 * @property {string | number} at
 * @property {Message | null} message
 * @property {PendingMessage | null} pending
 */

/**
 * A conversation as bubbles, the newest at the end and in sight, with what is on its way. `side`
 * tells whose are on the right. It rises `messages-seen` with the newest `seq` of each
 * conversation that was in sight, and `message-typed` with every key.
 *
 *     <conversation-view .source=${live.conversation(id)} .outbox=${outbox} .chat=${{ conversationId: id }}></conversation-view>
 */
export class ConversationView extends PageElement {
  /** @override */
  static properties = {
    source: { attribute: false },
    outbox: { attribute: false },
    chat: { attribute: false },
    side: {},
    label: {},
    closed: {},
    hint: {},
    isTyping: { attribute: false },
    ending: { state: true },
    trouble: { state: true },
    hasNewer: { state: true },
  };

  /** Texts that were begun, by chat. @type {Map<string, string>} */
  #drafts = new Map();
  /** The newest seq that was told as seen, by conversation. @type {Map<string, number>} */
  #seen = new Map();
  #isAtEnd = true;
  #isShown = "";
  /** How high the log and its content were when its end was put in sight. */
  #heights = "";
  /** A log that comes into sight, or becomes lower or wider, keeps its end in sight. */
  #sizes = new ResizeObserver(() => {
    if (this.#isAtEnd) this.#showEnd();
    this.#tellSeen();
  });
  /** @type {Element | null} */
  #sized = null;
  /** What stays where it is while others come and go. @type {{ key: string, top: number } | null} */
  #anchor = null;

  constructor() {
    super();
    /** @type {Store<Snapshot<Message>> | null} */
    this.source = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {Chat | null} */
    this.chat = null;
    /** @type {"operator" | "client"} */
    this.side = "operator";
    /** Whose conversation it is. */
    this.label = "";
    /** Why nothing may be written at the moment. */
    this.closed = "";
    this.hint = "";
    this.isTyping = false;
    /** The bubble after the last one that is in the page; null at the end. @type {number | null} */
    this.ending = null;
    /** What went wrong with the last try to send. @type {string} */
    this.trouble = "";
    this.hasNewer = false;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (changed.has("chat") && this.#name !== this.#isShown) {
      this.#isShown = this.#name;
      this.#isAtEnd = true;
      this.#anchor = null;
      this.ending = null;
      this.trouble = "";
      this.hasNewer = false;
    }
    if (this.hasUpdated && !this.#isAtEnd) this.#anchor ??= this.#findAnchor();
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    const onTheWay = this.look("outbox", this.outbox);
    if (!this.source || !shown) return nothing;
    const bubbles = this.#bubbles(shown.rows, onTheWay?.pending ?? []);
    const end = Math.min(this.ending ?? bubbles.length, bubbles.length);
    const start = Math.max(0, end - MOST_BUBBLES);
    const isLoading = !bubbles.length && shown.state === "connecting";
    const waits = bubbles.filter(({ pending }) => pending?.state === "pending").length;
    return html`<div class="chat" tabindex="0" role="log" aria-label=${text("chat.label", { name: this.label })} @scroll=${this.#scrolled}>
        ${shown.error && !bubbles.length ? trouble(text("chat.failed"), shown.error) : nothing}
        ${isLoading ? skeleton(4) : nothing}
        ${!isLoading && !shown.error && !bubbles.length ? emptiness(icons.chat, text("chat.empty"), this.closed ? "" : text("chat.empty.more")) : nothing}
        <ol class="bubbles">
          ${repeat(
            bubbles.slice(start, end),
            ({ key }) => key,
            (bubble, index) => this.#item(bubble, bubbles[start + index - 1], bubbles),
          )}
        </ol>
        ${this.isTyping ? html`<p class="typing muted">${text("chat.typing", { name: this.label })}</p>` : nothing}
      </div>
      ${this.#isAtEnd
        ? nothing
        : html`<button type="button" class="button chat-down" @click=${this.#toEnd}>
            ${icons.down}${this.hasNewer ? text("chat.newer") : text("chat.latest")}
          </button>`}
      ${onTheWay?.error && waits ? html`<p class="chat-note" role="status">${icons.clock}${text("chat.waiting", { n: waits })}</p>` : nothing}
      ${this.trouble ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${this.trouble}</p>` : nothing}
      ${this.#composer()}`;
  }

  /**
   * @override
   * @param {Map<string, unknown>} _changed
   */
  updated(_changed) {
    const log = this.#log;
    if (!log) return;
    if (this.#sized !== log) {
      this.#sized = log;
      this.#sizes.observe(log);
    }
    if (this.#isAtEnd) this.#showEnd();
    else if (this.#anchor) {
      const bubble = this.#bubbleOf(this.#anchor.key);
      if (bubble) log.scrollTop += bubble.getBoundingClientRect().top - this.#anchor.top;
    }
    this.#anchor = null;
    this.#tellSeen();
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    document.addEventListener("visibilitychange", this.#tellSeen);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#sizes.disconnect();
    this.#sized = null;
    document.removeEventListener("visibilitychange", this.#tellSeen);
  }

  get #name() {
    return Object.values(this.chat ?? {}).join();
  }

  get #log() {
    return /** @type {HTMLElement | null} */ (this.querySelector(".chat"));
  }

  get #field() {
    return /** @type {HTMLTextAreaElement | null} */ (this.querySelector("textarea"));
  }

  /**
   * @param {readonly Message[]} rows
   * @param {readonly PendingMessage[]} pending
   * @returns {Bubble[]}
   */
  #bubbles(rows, pending) {
    // rows of several conversations come one conversation after the other
    const sorted = new Set(rows.map((row) => row.conversation_id)).size > 1 ? [...rows].sort(byTime) : rows;
    const kept = new Set(rows.map((row) => row.client_ref).filter(Boolean));
    const { conversationId, customerId, bookingId } = this.chat ?? {};
    const ours = pending.filter(
      (one) =>
        !kept.has(one.clientRef) &&
        ((conversationId && one.conversationId === conversationId) ||
          (customerId && one.customerId === customerId) ||
          (bookingId && one.bookingId === bookingId)),
    );
    return [
      // a message keeps its bubble when it is no longer on its way
      ...sorted.map((message) => ({ key: message.client_ref || message.id, at: message.created_at, message, pending: null })),
      ...ours.map((one) => ({ key: one.clientRef, at: one.writtenAt, message: null, pending: one })),
    ];
  }

  /**
   * @param {Bubble} bubble
   * @param {Bubble | undefined} before
   * @param {Bubble[]} all
   */
  #item(bubble, before, all) {
    const isNewDay = !before || dayKey(before.at) !== dayKey(bubble.at);
    const from = sideOf(bubble, this.side);
    const isFollowing = !isNewDay && !!before && sideOf(before, this.side) === from;
    return html`<li data-key=${bubble.key} class="bubble-row bubble-${from} ${isFollowing ? "bubble-following" : ""}">
      ${isNewDay ? html`<p class="day"><span>${dayOf(bubble.at)}</span></p>` : nothing}
      ${bubble.message ? this.#kept(bubble.message, from, before, isFollowing, all) : this.#pending(/** @type {PendingMessage} */ (bubble.pending))}
    </li>`;
  }

  /**
   * @param {Message} message
   * @param {string} from
   * @param {Bubble | undefined} before
   * @param {boolean} isFollowing
   * @param {Bubble[]} all
   */
  #kept(message, from, before, isFollowing, all) {
    if (from === "system") {
      return html`<p class="notice">${message.message} <time datetime=${message.created_at}>${timeOf(message.created_at)}</time></p>`;
    }
    const quoted = message.reply_to && all.find((one) => one.message?.id === message.reply_to)?.message;
    const emojis = emojisOf(message.reactions);
    const words = bareWords(message.type, message.message);
    const isNamed = this.side === "operator" && from === "ours" && !(before?.message?.sender_name === message.sender_name && isFollowing);
    const sender = isNamed ? message.sender_name : null;
    return html`<div class="bubble">
        ${sender ? html`<p class="bubble-sender"><bdi>${sender}</bdi></p>` : nothing}
        ${quoted ? html`<blockquote class="quote"><bdi>${wordsOf(quoted)}</bdi></blockquote>` : nothing}
        ${message.revoked_at
          ? html`<p class="bubble-deleted">${icons.deleted}${text("chat.deleted")}</p>`
          : html`${message.type === "text" ? nothing : html`<p class="bubble-kind">${icons.file}${kindOf(message.type)}</p>`}
              ${words ? html`<p class="bubble-words" dir="auto">${words}</p>` : nothing}`}
        <p class="bubble-foot">
          ${message.edited_at && !message.revoked_at ? html`<span>${text("chat.edited")}</span>` : nothing}
          <time datetime=${message.created_at}>${timeOf(message.created_at)}</time>
          ${from === "ours" ? ticks(message.status) : nothing}
        </p>
        ${emojis.length ? html`<p class="reactions">${emojis.join(" ")}</p>` : nothing}
      </div>
      ${from === "ours" && message.status === "failed"
        ? html`<p class="bubble-trouble">${text("chat.failed.more", { reason: message.error_message || text("chat.failed.unknown") })}</p>`
        : nothing}`;
  }

  /** @param {PendingMessage} pending */
  #pending(pending) {
    const isRefused = pending.state === "refused";
    return html`<div class="bubble bubble-pending">
        <p class="bubble-words" dir="auto">${pending.message}</p>
        <p class="bubble-foot"><time>${timeOf(pending.writtenAt)}</time>${ticks(pending.state)}</p>
      </div>
      ${isRefused
        ? html`<p class="bubble-trouble" role="alert">
            ${text("chat.not-sent", { reason: pending.refusal ?? "" })}
            <button type="button" class="link" @click=${() => this.#edit(pending)}>${text("chat.edit")}</button>
            <button type="button" class="link" @click=${() => this.outbox?.dismiss(pending.clientRef)}>${text("chat.remove")}</button>
          </p>`
        : nothing}`;
  }

  #composer() {
    if (this.closed) return html`<p class="composer-closed">${icons.clock}<span>${this.closed}</span></p>`;
    return html`<form class="composer" @submit=${this.#submit}>
      <label class="hidden" for="composer-words">${text("chat.write")}</label>
      <textarea
        id="composer-words"
        rows="1"
        dir="auto"
        maxlength=${LONGEST}
        placeholder=${text("chat.write")}
        aria-describedby="composer-hint"
        .value=${this.#drafts.get(this.#name) ?? ""}
        @input=${this.#typed}
        @keydown=${this.#key}
      ></textarea>
      <button type="submit" class="button button-main button-round" aria-label=${text("chat.send")} ?disabled=${!this.outbox}>${icons.send}</button>
      <p id="composer-hint" class="composer-hint muted"><span class="composer-keys">${text("chat.hint")}</span> ${this.hint}</p>
    </form>`;
  }

  /** @param {InputEvent} event */
  #typed(event) {
    this.#drafts.set(this.#name, /** @type {HTMLTextAreaElement} */ (event.target).value);
    this.tell("message-typed");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // not the one that ends a word of Japanese or Chinese
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void this.#send();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    void this.#send();
  }

  async #send() {
    const message = this.#drafts.get(this.#name)?.trim();
    const { chat, outbox } = this;
    if (!message || !chat || !outbox) return;
    this.#write("");
    this.#isAtEnd = true;
    this.ending = null;
    this.trouble = "";
    try {
      await outbox.send({ ...chat, message });
    } catch (error) {
      // what could not even be kept is not lost
      this.#write(message);
      this.trouble = text("chat.not-sent", { reason: reasonOf(error) });
    }
    this.#field?.focus();
  }

  /** @param {PendingMessage} pending */
  async #edit(pending) {
    await this.outbox?.dismiss(pending.clientRef);
    this.#write(pending.message);
    this.#field?.focus();
  }

  /** @param {string} words */
  #write(words) {
    this.#drafts.set(this.#name, words);
    // at once: keys that follow must find it so
    if (this.#field) this.#field.value = words;
    this.requestUpdate();
  }

  #showEnd() {
    const log = this.#log;
    if (!log) return;
    log.scrollTop = log.scrollHeight;
    this.#heights = heightsOf(log);
  }

  #scrolled() {
    const log = this.#log;
    if (!log) return;
    // the end that went out of sight because something grew or shrank was left by nobody
    if (this.#isAtEnd && this.#heights !== heightsOf(log)) return this.#showEnd();
    const below = log.scrollHeight - log.scrollTop - log.clientHeight;
    const count = this.#count;
    const end = Math.min(this.ending ?? count, count);
    const wasAtEnd = this.#isAtEnd;
    this.#isAtEnd = end === count && below < AT_END;
    if (this.#isAtEnd) this.hasNewer = false;
    if (log.scrollTop < NEAR && end > MOST_BUBBLES) {
      this.#anchor = this.#findAnchor();
      this.ending = Math.max(MOST_BUBBLES, end - STEP);
    } else if (below < NEAR && end < count) {
      this.#anchor = this.#findAnchor();
      this.ending = Math.min(count, end + STEP);
    }
    if (this.#isAtEnd && this.ending !== null) this.ending = null;
    if (wasAtEnd !== this.#isAtEnd) this.requestUpdate();
  }

  #toEnd() {
    this.#isAtEnd = true;
    this.ending = null;
    this.hasNewer = false;
    this.requestUpdate();
  }

  get #count() {
    const pending = this.outbox?.getSnapshot().pending ?? [];
    return this.#bubbles(this.source?.getSnapshot().rows ?? [], pending).length;
  }

  /** The first bubble in sight, which stays where it is while others come and go. */
  #findAnchor() {
    const log = this.#log;
    if (!log) return null;
    const top = log.getBoundingClientRect().top;
    for (const bubble of /** @type {NodeListOf<HTMLElement>} */ (log.querySelectorAll("[data-key]"))) {
      const box = bubble.getBoundingClientRect();
      if (box.bottom > top) return { key: bubble.dataset.key ?? "", top: box.top };
    }
    return null;
  }

  /** @param {string} key */
  #bubbleOf(key) {
    return this.querySelector(`[data-key="${CSS.escape(key)}"]`);
  }

  #tellSeen = () => {
    if (document.hidden || !this.isConnected || !this.checkVisibility()) return;
    const rows = this.source?.getSnapshot().rows ?? [];
    if (!this.#isAtEnd) {
      const newest = rows.at(-1);
      if (newest && newest.seq > (this.#seen.get(newest.conversation_id) ?? 0)) this.hasNewer = true;
      return;
    }
    /** @type {Map<string, number>} */
    const newest = new Map();
    for (const { conversation_id: id, seq } of rows) newest.set(id, Math.max(seq, newest.get(id) ?? 0));
    for (const [conversationId, seq] of newest) {
      if (seq <= (this.#seen.get(conversationId) ?? 0)) continue;
      this.#seen.set(conversationId, seq);
      this.tell("messages-seen", { conversationId, seq });
    }
  };
}

/** @param {HTMLElement} log */
function heightsOf(log) {
  return `${log.clientHeight} ${log.scrollHeight}`;
}

/**
 * @param {Message} a
 * @param {Message} b
 */
function byTime(a, b) {
  return Date.parse(a.created_at) - Date.parse(b.created_at) || a.seq - b.seq;
}

/**
 * @param {Bubble} bubble
 * @param {"operator" | "client"} side
 */
function sideOf({ message }, side) {
  if (!message) return "ours";
  if (message.sender_type === "system") return "system";
  return message.sender_type === side ? "ours" : "theirs";
}

/** @param {Message} message */
function wordsOf(message) {
  if (message.revoked_at) return text("chat.deleted");
  return bareWords(message.type, message.message) || kindOf(message.type);
}

/**
 * The emojis of a message's reactions.
 *
 * @param {unknown} reactions
 * @returns {string[]}
 */
function emojisOf(reactions) {
  const all = Array.isArray(reactions) ? reactions : Object.values(reactions ?? {});
  return all.map((one) => (typeof one === "string" ? one : one?.emoji)).filter((one) => typeof one === "string" && one);
}

customElements.define("conversation-view", ConversationView);
