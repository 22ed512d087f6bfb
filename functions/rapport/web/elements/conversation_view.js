import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { dayKey, dayOf, timeOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { FILE_TYPES, captionOf, fileOf } from "./media/file_words.js";
import "./message_composer.js";
import { callOf } from "./message_line.js";
import { noticeOf } from "./notices.js";
import { bareWords, emptiness, kindOf, reasonOf, refusalOf, skeleton, ticks, trouble } from "./parts.js";
import { MOST_BUBBLES, keyOf, sentAt, shownOf } from "./shown_messages.js";
import { text } from "./texts.js";
import { plain, wordsOfMessage } from "./words.js";

/** @import { Message, Outbox } from "../live/index.js" */
/** @import { PendingMessage } from "../live/outbox.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */
/** @import { Files } from "./media/files.js" */
/** @import { MessageComposer, Suggestion } from "./message_composer.js" */
/** @import { Aside, Bubble, Reaction, Shown } from "./shown_messages.js" */
/** @import { Template } from "./template_words.js" */

export { MOST_BUBBLES };

const STEP = 20;
// px: nearer to an end than this, more is shown there
const NEAR = 240;
const AT_END = 24;
// ms: how long a message stands out that was gone to
const FLASH = 1600;
// ms: a page that shows no frames still shows what has changed
const FRAME_AT_MOST = 250;
const NONE = /** @type {readonly any[]} */ (Object.freeze([]));
const REACTIONS = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

/** @typedef {{ conversationId?: string, customerId?: string, bookingId?: string }} Chat as the outbox names one */

/**
 * A conversation as bubbles, the newest at the end and in sight, with what is on its way and what
 * stands between (`asides`). `side` tells whose are on the right. It rises `messages-seen` with the
 * newest `seq` of each conversation that was in sight, and the events of `<message-composer>`.
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
    channel: {},
    isTyping: { attribute: false },
    files: { attribute: false },
    readTemplates: { attribute: false },
    canAnswer: { attribute: false },
    asides: { attribute: false },
    top: { attribute: false },
    instead: { attribute: false },
    tools: { attribute: false },
    suggestions: { attribute: false },
    drafts: { attribute: false },
    ending: { state: true },
    answered: { state: true },
    reacting: { state: true },
    isDropping: { state: true },
    trouble: { state: true },
    hasNewer: { state: true },
    parts: { state: true },
  };

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
  /** What is gone to once it is there. @type {string | null} */
  #goal = null;
  /** How many elements a file is dragged over. */
  #dragged = 0;

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
    /** The conversation's channel: on WhatsApp staff send files, and react. */
    this.channel = "";
    this.isTyping = false;
    /** Reads and takes files. @type {Files | null} */
    this.files = null;
    /** Reads the templates that may be sent. @type {(() => Promise<readonly Template[]>) | null} */
    this.readTemplates = null;
    /** Whether a message may be chosen to be answered. */
    this.canAnswer = true;
    /** What stands between the messages, the oldest first. @type {readonly Aside[]} */
    this.asides = NONE;
    /** Stands above the composer. @type {unknown} */
    this.top = null;
    /** Stands in the composer's place. @type {unknown} */
    this.instead = null;
    /** Stands before the button that sends. @type {unknown} */
    this.tools = null;
    /** What a slash may become. @type {readonly Suggestion[] | null} */
    this.suggestions = null;
    /** Texts that were begun, by chat, where they outlive the view. @type {Map<string, string> | null} */
    this.drafts = null;
    /** The bubble after the last one that is in the page; null at the end. @type {number | null} */
    this.ending = null;
    /** The message that is answered. @type {Readonly<Message> | null} */
    this.answered = null;
    /** The message for which a reaction is chosen. @type {string | null} */
    this.reacting = null;
    this.isDropping = false;
    /** What went wrong with the last reaction or picture. @type {string} */
    this.trouble = "";
    this.hasNewer = false;
    /** Shows places and contact cards. @type {typeof import("./message_parts.js") | null} */
    this.parts = null;
  }

  /** The text that is begun. */
  get words() {
    return this.#composer?.words ?? "";
  }

  /**
   * Puts a text in the place of the one that is begun.
   *
   * @param {string} words
   */
  write(words) {
    this.#composer?.write(words);
  }

  /**
   * What comes within a frame is shown together.
   *
   * @override
   */
  async scheduleUpdate() {
    if (this.hasUpdated && !document.hidden) await nextFrame();
    super.scheduleUpdate();
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
      this.answered = null;
      this.reacting = null;
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
    const all = this.#shown;
    const { bubbles } = all;
    const end = Math.min(this.ending ?? bubbles.length, bubbles.length);
    const start = Math.max(0, end - MOST_BUBBLES);
    const isLoading = !bubbles.length && !shown.isLoaded;
    const waits = bubbles.filter(({ pending }) => pending?.state === "pending").length;
    return html`<div
        class="chat"
        tabindex="0"
        role="log"
        aria-label=${text("chat.label", { name: this.label })}
        @scroll=${this.#scrolled}
        @keydown=${this.#move}
        @file-open=${this.#open}
        @dragenter=${this.#drag}
        @dragover=${this.#drag}
        @dragleave=${this.#drag}
        @drop=${this.#drag}
      >
        ${shown.error && !bubbles.length ? trouble(text("chat.failed"), shown.error) : nothing}
        ${isLoading ? skeleton(4) : nothing}
        ${!isLoading && !shown.error && !bubbles.length ? emptiness(icons.chat, text("chat.empty"), this.closed ? "" : text("chat.empty.more")) : nothing}
        <ol class="bubbles">
          ${repeat(
            bubbles.slice(start, end),
            ({ key }) => key,
            (bubble, index) => this.#item(bubble, bubbles[start + index - 1], all),
          )}
        </ol>
        ${this.isTyping ? html`<p class="typing muted">${text("chat.typing", { name: this.label })}</p>` : nothing}
      </div>
      ${this.isDropping ? html`<p class="chat-drop">${icons.attach}${text("media.drop")}</p>` : nothing}
      <div class="chat-under">
        ${this.#isAtEnd
          ? nothing
          : html`<button type="button" class="button chat-down" @click=${this.#toEnd}>
              ${icons.down}${this.hasNewer ? text("chat.newer") : text("chat.latest")}
            </button>`}
        ${onTheWay?.error && waits ? html`<p class="chat-note" role="status">${icons.clock}${text("chat.waiting", { n: waits })}</p>` : nothing}
        ${this.trouble ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${this.trouble}</p>` : nothing}
        <message-composer
          .outbox=${this.outbox}
          .chat=${this.chat}
          .closed=${this.closed}
          .hint=${this.hint}
          .files=${this.files}
          .canAttach=${this.#isOurWhatsApp}
          .readTemplates=${this.readTemplates}
          .answered=${this.answered}
          .quote=${this.answered ? quoteOf(this.answered) : ""}
          .top=${this.top}
          .instead=${this.instead}
          .tools=${this.tools}
          .suggestions=${this.suggestions}
          .drafts=${this.drafts}
          @message-sent=${this.#toEnd}
          @reply-ended=${() => (this.answered = null)}
        ></message-composer>
      </div>`;
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
      // what is in it grows as well
      for (const child of log.children) this.#sizes.observe(child);
    }
    if (this.#goal) this.#arrive();
    else if (this.#isAtEnd) this.#showEnd();
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

  get #composer() {
    return /** @type {MessageComposer | null} */ (this.querySelector("message-composer"));
  }

  get #isOurWhatsApp() {
    return this.side === "operator" && this.channel === "whatsapp";
  }

  /** Everything that can be shown. @returns {Shown} */
  get #shown() {
    const pending = this.outbox?.getSnapshot().pending ?? NONE;
    return shownOf(this, this.source?.getSnapshot().rows ?? NONE, pending, this.asides ?? NONE, this.chat);
  }

  /**
   * @param {Bubble} bubble
   * @param {Bubble | undefined} before
   * @param {Shown} all
   */
  #item(bubble, before, all) {
    const isNewDay = !before || dayKey(before.at) !== dayKey(bubble.at);
    const day = isNewDay ? html`<p class="day"><span>${dayOf(bubble.at)}</span></p>` : nothing;
    if (bubble.aside) {
      const { kind, name, content } = bubble.aside;
      return html`<li class="bubble-row aside aside-${kind}" data-key=${bubble.key} aria-label=${name}>${day}${content}</li>`;
    }
    const from = sideOf(bubble, this.side);
    const isFollowing = !isNewDay && !!before && sideOf(before, this.side) === from;
    const isActive = from !== "system" && !!bubble.message;
    return html`<li data-key=${bubble.key} class="bubble-row bubble-${from} ${isFollowing ? "bubble-following" : ""}" tabindex=${isActive ? "-1" : nothing}>
      ${day}
      ${bubble.message ? this.#kept(bubble.message, from, before, isFollowing, all) : this.#pending(/** @type {PendingMessage} */ (bubble.pending), all)}
    </li>`;
  }

  /**
   * @param {Readonly<Message>} message
   * @param {string} from
   * @param {Bubble | undefined} before
   * @param {boolean} isFollowing
   * @param {Shown} all
   */
  #kept(message, from, before, isFollowing, all) {
    const at = sentAt(message);
    if (from === "system") {
      return html`<p class="notice">${noticeOf(message)} <time datetime=${at}>${timeOf(at)}</time></p>`;
    }
    const isNamed = this.side === "operator" && from === "ours" && !(before?.message?.sender_name === message.sender_name && isFollowing);
    const sender = isNamed ? message.sender_name : null;
    const reactions = all.reactionsTo(message);
    const refused = reactions.find(({ trouble }) => trouble);
    return html`<div class="bubble-line">
        <div class="bubble bubble-${message.type}">
          ${sender ? html`<p class="bubble-sender"><bdi>${sender}</bdi></p>` : nothing}
          ${message.reply_to ? this.#quote(message.reply_to, all) : nothing}
          ${message.revoked_at ? html`<p class="bubble-deleted">${icons.deleted}${text("chat.deleted")}</p>` : this.#content(message)}
          <p class="bubble-foot">
            ${message.edited_at && !message.revoked_at ? html`<span>${text("chat.edited")}</span>` : nothing}
            <time datetime=${at}>${timeOf(at)}</time>
            ${from === "ours" ? ticks(message.status) : nothing}
          </p>
        </div>
        ${message.revoked_at ? nothing : this.#actions(message, reactions)}
      </div>
      ${reactions.length ? this.#reactions(message, reactions) : nothing}
      ${refused ? html`<p class="bubble-trouble">${text("chat.react.failed", { reason: refused.trouble ?? "" })}</p>` : nothing}
      ${from === "ours" && message.status === "failed"
        ? html`<p class="bubble-trouble">${text("chat.failed.more", { reason: message.error_message || text("chat.failed.unknown") })}</p>`
        : nothing}`;
  }

  /** @param {Readonly<Message>} message */
  #content(message) {
    if (FILE_TYPES.has(message.type)) {
      const caption = captionOf(message);
      const { link } = fileOf(message);
      // a file that the business has elsewhere is not kept here
      const isElsewhere = typeof link === "string";
      // comes with the first file that is shown
      if (this.files && !isElsewhere) void import("./media/message_file.js").catch(() => (this.trouble = text("chat.part-failed")));
      return html`${this.files && !isElsewhere
          ? html`<message-file .message=${message} .files=${this.files} .canRefetch=${this.side === "operator"}></message-file>`
          : html`<p class="bubble-kind">${icons.file}${kindOf(message.type)}</p>`}
        ${caption ? html`<p class="bubble-words" dir="auto">${wordsOfMessage(message, caption)}</p>` : nothing}`;
    }
    if (message.type === "location" || message.type === "contacts") {
      const { parts } = this;
      if (parts) return message.type === "location" ? parts.locationOf(message) : parts.cardsOf(message);
      // they come with the first one that is shown
      void import("./message_parts.js").then((found) => (this.parts = found), () => (this.trouble = text("chat.part-failed")));
    }
    if (message.type === "call") return html`<p class="bubble-kind">${icons.call}${callOf(message.content)}</p>`;
    const words = bareWords(message.type, message.message);
    return html`${message.type === "text" ? nothing : html`<p class="bubble-kind">${message.type === "template" ? icons.template : icons.file}${kindOf(message.type)}</p>`}
      ${words ? html`<p class="bubble-words" dir="auto">${wordsOfMessage(message, words)}</p>` : nothing}`;
  }

  /**
   * @param {string} id
   * @param {Shown} all
   */
  #quote(id, all) {
    const quoted = all.byId.get(id);
    if (!quoted) return nothing;
    return html`<button type="button" class="quote" aria-label=${text("chat.quoted", { text: quoteOf(quoted) })} @click=${() => this.#goTo(id)}>
      <bdi>${quoteOf(quoted)}</bdi>
    </button>`;
  }

  /**
   * @param {Readonly<Message>} message
   * @param {readonly Reaction[]} reactions
   */
  #actions(message, reactions) {
    const mayReact = this.#isOurWhatsApp && !this.closed && !!this.outbox && !!message.provider_id;
    const mayAnswer = this.canAnswer && !this.closed && !!this.outbox;
    if (!mayReact && !mayAnswer) return nothing;
    const mine = reactions.find(({ isOurs }) => isOurs)?.emoji;
    return html`<div class="bubble-actions">
      ${mayAnswer
        ? html`<button type="button" class="button-icon" aria-label=${text("chat.answer")} title=${text("chat.answer")} @click=${() => this.#answer(message)}>${icons.reply}</button>`
        : nothing}
      ${mayReact
        ? html`<button
            type="button"
            class="button-icon"
            aria-label=${text("chat.react")}
            title=${text("chat.react")}
            aria-expanded=${this.reacting === message.id ? "true" : "false"}
            @click=${() => this.#chooseReaction(message.id)}
          >
            ${icons.smile}
          </button>`
        : nothing}
      ${this.reacting === message.id
        ? html`<div class="emojis" role="group" aria-label=${text("chat.react")} @keydown=${this.#emojiKey}>
            ${REACTIONS.map(
              (emoji) =>
                html`<button type="button" aria-pressed=${emoji === mine ? "true" : "false"} @click=${() => this.#react(message, emoji === mine ? "" : emoji)}>${emoji}</button>`,
            )}
          </div>`
        : nothing}
    </div>`;
  }

  /**
   * @param {Readonly<Message>} message
   * @param {readonly Reaction[]} reactions
   */
  #reactions(message, reactions) {
    return html`<ul class="reactions" aria-label=${text("chat.reactions")}>
      ${reactions.map(({ emoji, isOurs, isPending }) => {
        const isMine = isOurs && this.#isOurWhatsApp && !this.closed;
        return html`<li class=${isPending ? "reaction-pending" : ""}>
          ${isMine
            ? html`<button type="button" aria-label=${text("chat.react.remove", { emoji })} @click=${() => this.#react(message, "")}>${emoji}</button>`
            : html`<span>${emoji}</span>`}
        </li>`;
      })}
    </ul>`;
  }

  /**
   * @param {PendingMessage} pending
   * @param {Shown} all
   */
  #pending(pending, all) {
    const isRefused = pending.state === "refused";
    const file = FILE_TYPES.has(pending.type) ? fileOf(pending) : null;
    const preview = file ? this.#composer?.previewOf(file.upload_id) : null;
    const words = file ? captionOf(pending) : pending.message;
    return html`<div class="bubble-line">
        <div class="bubble bubble-pending bubble-${pending.type}">
          ${pending.replyTo ? this.#quote(pending.replyTo, all) : nothing}
          ${preview ? html`<div class="file-box file-picture"><img src=${preview} alt="" /></div>` : nothing}
          ${pending.type !== "text" && !preview ? html`<p class="bubble-kind">${icons.file}${kindOf(file?.voice ? "voice" : pending.type)}</p>` : nothing}
          ${words ? html`<p class="bubble-words" dir="auto">${words}</p>` : nothing}
          <p class="bubble-foot"><time>${timeOf(pending.writtenAt)}</time>${ticks(pending.state)}</p>
        </div>
      </div>
      ${isRefused
        ? html`<p class="bubble-trouble" role="alert">
            ${text("chat.not-sent", { reason: refusalOf(pending) })}
            ${pending.type === "text" ? html`<button type="button" class="link" @click=${() => this.#edit(pending)}>${text("chat.edit")}</button>` : nothing}
            <button type="button" class="link" @click=${() => this.outbox?.dismiss(pending.clientRef)}>${text("chat.remove")}</button>
          </p>`
        : nothing}`;
  }

  /** @param {PendingMessage} pending */
  async #edit(pending) {
    await this.outbox?.dismiss(pending.clientRef);
    this.write(pending.message);
  }

  /** @param {Readonly<Message>} message */
  #answer(message) {
    this.answered = message;
    this.reacting = null;
  }

  /** @param {string} id */
  async #chooseReaction(id) {
    this.reacting = this.reacting === id ? null : id;
    await this.updateComplete;
    const first = /** @type {HTMLElement | null} */ (this.querySelector('.emojis [aria-pressed="true"]') ?? this.querySelector(".emojis button"));
    first?.focus();
  }

  /** @param {KeyboardEvent} event */
  #emojiKey = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key !== "Escape" && !step) return;
    event.preventDefault();
    event.stopPropagation();
    const now = /** @type {HTMLElement} */ (event.target);
    if (step) return /** @type {HTMLElement | null} */ (step > 0 ? now.nextElementSibling : now.previousElementSibling)?.focus();
    /** @type {HTMLElement | null | undefined} */ (now.closest("li"))?.focus();
    this.reacting = null;
  };

  /**
   * @param {Readonly<Message>} message
   * @param {string} emoji nothing takes the reaction back
   */
  async #react(message, emoji) {
    this.reacting = null;
    this.trouble = "";
    this.#bubbleOf(keyOf(message))?.focus({ preventScroll: true });
    try {
      await this.outbox?.send({ conversationId: message.conversation_id, message: "", type: "reaction", content: { message_id: message.id, emoji } });
    } catch (error) {
      this.trouble = text("chat.not-sent", { reason: reasonOf(error) });
    }
  }

  /**
   * Shows a message in the midst, and has it stand out for a moment.
   *
   * @param {string} id
   */
  #goTo(id) {
    const { bubbles } = this.#shown;
    const index = bubbles.findIndex(({ message }) => message?.id === id);
    if (index < 0) return;
    const end = Math.min(this.ending ?? bubbles.length, bubbles.length);
    this.#goal = bubbles[index].key;
    this.#isAtEnd = false;
    if (index < end - MOST_BUBBLES || index >= end) this.ending = Math.min(bubbles.length, Math.max(MOST_BUBBLES, index + MOST_BUBBLES / 2));
    this.requestUpdate();
  }

  #arrive() {
    const bubble = this.#bubbleOf(this.#goal ?? "");
    this.#goal = null;
    if (!bubble) return;
    bubble.scrollIntoView({ block: "center" });
    bubble.focus({ preventScroll: true });
    bubble.classList.add("bubble-found");
    setTimeout(() => bubble.classList.remove("bubble-found"), FLASH);
  }

  /** @param {CustomEvent<string>} event */
  #open = async (event) => {
    if (!this.files) return;
    const pictures = this.#shown.bubbles.flatMap(({ message }) => (message?.type === "image" && !message.revoked_at ? [message] : []));
    try {
      const { MediaViewer } = await import("./media/viewer.js");
      MediaViewer.open(this.files, pictures, event.detail);
    } catch {
      this.trouble = text("chat.part-failed");
    }
  };

  /**
   * From bubble to bubble by keys; what can be done with one is beside it then.
   *
   * @param {KeyboardEvent} event
   */
  #move = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const target = /** @type {HTMLElement} */ (event.target);
    // keys of what is in a bubble are its own
    if (!step || event.altKey || event.ctrlKey || event.metaKey || !target.matches(".chat, [data-key]")) return;
    const bubbles = [.../** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("[data-key][tabindex]"))];
    const next = bubbles[target.matches("[data-key]") ? bubbles.indexOf(target) + step : step > 0 ? 0 : bubbles.length - 1];
    if (!next) return;
    event.preventDefault();
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };

  /** @param {DragEvent} event */
  #drag = (event) => {
    if (!this.#isOurWhatsApp || !this.files || this.closed || this.instead || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (event.type === "dragenter") this.#dragged += 1;
    else if (event.type === "dragleave") this.#dragged -= 1;
    else if (event.type === "drop") {
      this.#dragged = 0;
      void this.#composer?.take(event.dataTransfer.files);
    }
    this.isDropping = this.#dragged > 0;
  };

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

  #toEnd = () => {
    this.#isAtEnd = true;
    this.ending = null;
    this.hasNewer = false;
    this.requestUpdate();
  };

  get #count() {
    return this.#shown.bubbles.length;
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
    return /** @type {HTMLElement | null} */ (this.querySelector(`[data-key="${CSS.escape(key)}"]`));
  }

  #tellSeen = () => {
    if (document.hidden || !this.isConnected || !this.checkVisibility()) return;
    const rows = this.source?.getSnapshot().rows ?? [];
    if (!this.#isAtEnd) {
      const newest = rows.at(-1);
      if (newest && newest.seq > (this.#seen.get(newest.conversation_id) ?? 0)) this.hasNewer = true;
      return;
    }
    for (const [conversationId, seq] of this.#shown.newest) {
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
 * @param {Bubble} bubble
 * @param {"operator" | "client"} side
 */
function sideOf({ message, aside }, side) {
  if (aside) return "aside";
  if (!message) return "ours";
  if (message.sender_type === "system") return "system";
  return message.sender_type === side ? "ours" : "theirs";
}

/**
 * A message in one line, as it is quoted.
 *
 * @param {Readonly<Message>} message
 */
function quoteOf(message) {
  if (message.revoked_at) return text("chat.deleted");
  if (message.type === "call") return callOf(message.content);
  const words = FILE_TYPES.has(message.type) ? captionOf(message) : bareWords(message.type, message.message);
  return plain(words) || kindOf(fileOf(message).voice ? "voice" : message.type);
}

/** The next frame, or soon where none is shown. @returns {Promise<void>} */
function nextFrame() {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, FRAME_AT_MOST);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

customElements.define("conversation-view", ConversationView);
