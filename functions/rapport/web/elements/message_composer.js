import { html, nothing } from "lit";
import { sizeOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { ACCEPTED } from "./media/limits.js";
import { kindOf, reasonOf } from "./parts.js";
import { text } from "./texts.js";

/** @import { Message, Outbox } from "../live/index.js" */
/** @import { PendingMessage } from "../live/outbox.js" */
/** @import { Chat } from "./conversation_view.js" */
/** @import { Files } from "./media/files.js" */
/** @import { Upload, Uploads } from "./media/uploads.js" */
/** @import { Template } from "./template_words.js" */

/** @typedef {{ id: string, title: string, detail: string }} Suggestion */

const LONGEST = 4096;
const SLASH = /^\/(\S*)$/;

const canRecord = typeof MediaRecorder === "function" && !!globalThis.navigator?.mediaDevices;

/**
 * Where a message is written: its words, files, a voice message or a template, and what it answers.
 * It rises `message-sent` as something is sent, `message-typed` with every key, `reply-ended` when
 * nothing is answered any more; `composer-slash` with what follows a slash that begins the text,
 * and `composer-choice` with the id of the suggestion that was chosen.
 */
export class MessageComposer extends PageElement {
  /** @override */
  static properties = {
    outbox: { attribute: false },
    chat: { attribute: false },
    closed: { attribute: false },
    hint: { attribute: false },
    files: { attribute: false },
    canAttach: { attribute: false },
    readTemplates: { attribute: false },
    answered: { attribute: false },
    quote: { attribute: false },
    top: { attribute: false },
    instead: { attribute: false },
    tools: { attribute: false },
    suggestions: { attribute: false },
    drafts: { attribute: false },
    active: { state: true },
    isRecording: { state: true },
    trouble: { state: true },
  };

  /** Texts that were begun, by chat. @type {Map<string, string>} */
  #own = new Map();
  /** What followed the slash when it was last told. @type {string | null} */
  #slash = null;
  /** @type {Uploads | null} */
  #uploads = null;

  constructor() {
    super();
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {Chat | null} */
    this.chat = null;
    this.closed = "";
    this.hint = "";
    /** @type {Files | null} */
    this.files = null;
    /** Whether files may be sent in this chat. */
    this.canAttach = false;
    /** Reads the templates that may be sent in this chat; null where there are none. @type {(() => Promise<readonly Template[]>) | null} */
    this.readTemplates = null;
    /** The message that is answered. @type {Readonly<Message> | null} */
    this.answered = null;
    /** Its words, as they are quoted. */
    this.quote = "";
    /** @type {unknown} */
    this.top = null;
    /** @type {unknown} */
    this.instead = null;
    /** @type {unknown} */
    this.tools = null;
    /** @type {readonly Suggestion[] | null} */
    this.suggestions = null;
    /** Where texts that were begun are kept, by chat; without it, here. @type {Map<string, string> | null} */
    this.drafts = null;
    this.active = 0;
    this.isRecording = false;
    /** What went wrong with the last try to send. */
    this.trouble = "";
  }

  /** The text that is begun. */
  get words() {
    return (this.drafts ?? this.#own).get(this.#name) ?? "";
  }

  /**
   * Puts a text in the place of the one that is begun.
   *
   * @param {string} words
   */
  write(words) {
    this.#keep(words);
    this.focusField();
  }

  /** Has keys go to the text. */
  focusField() {
    this.#field?.focus();
  }

  /**
   * Takes files that were dropped, pasted or chosen.
   *
   * @param {Iterable<File>} files
   */
  async take(files) {
    const { conversationId } = this.chat ?? {};
    // the list is the browser's, and is empty a moment later
    const taken = [...files];
    if (!conversationId || !this.canAttach || this.closed) return;
    const uploads = await this.#openUploads();
    if (!uploads) return;
    this.trouble = uploads.add(conversationId, taken);
    this.focusField();
  }

  /** What uploads files, which comes with the first one; null where it can't be had. */
  async #openUploads() {
    const { files } = this;
    if (!files || this.#uploads) return this.#uploads;
    try {
      const { Uploads } = await import("./media/uploads.js");
      if (files === this.files) this.#uploads ??= new Uploads(files, (message) => this.#hand(message), () => this.requestUpdate());
    } catch {
      this.trouble = text("chat.part-failed");
    }
    return this.#uploads;
  }

  /**
   * The picture of a file that was uploaded from here.
   *
   * @param {unknown} uploadId
   */
  previewOf(uploadId) {
    return this.#uploads?.previewOf(uploadId) ?? null;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    window.addEventListener("online", this.#online);
    window.addEventListener("beforeunload", this.#leaving);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    window.removeEventListener("online", this.#online);
    window.removeEventListener("beforeunload", this.#leaving);
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (changed.has("files")) this.#uploads = null;
    if (changed.has("chat")) {
      this.trouble = "";
      this.isRecording = false;
      this.#tellSlash();
    }
    if (changed.has("suggestions")) this.active = 0;
  }

  /** @override */
  render() {
    return html`${this.trouble ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${this.trouble}</p>` : nothing}
      ${this.top ?? nothing} ${this.instead ?? (this.closed ? this.#closedNotice() : this.isRecording ? this.#recorder() : this.#form())}`;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  updated(changed) {
    if (changed.has("answered") && this.answered) this.focusField();
    this.querySelector('[role="option"][aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }

  get #name() {
    return Object.values(this.chat ?? {}).join();
  }

  get #field() {
    return /** @type {HTMLTextAreaElement | null} */ (this.querySelector("#composer-words"));
  }

  #closedNotice() {
    return html`<div class="composer-closed">
      ${icons.clock}<span>${this.closed}</span>
      ${this.readTemplates
        ? html`<button type="button" class="button" @click=${this.#chooseTemplate}>${icons.template}${text("template.send")}</button>`
        : nothing}
    </div>`;
  }

  #recorder() {
    return html`<div class="composer">
      <voice-recorder @voice-recorded=${this.#recorded} @voice-cancelled=${this.#stopRecording}></voice-recorder>
    </div>`;
  }

  #form() {
    const { suggestions } = this;
    const uploads = this.#uploads?.of(this.chat?.conversationId ?? "") ?? [];
    const active = suggestions?.[this.active];
    return html`<form class="composer" @submit=${this.#submit} @paste=${this.#paste}>
      ${this.answered ? this.#answered() : nothing}
      ${uploads.length ? html`<ul class="uploads" aria-label=${text("media.chosen")}>${uploads.map((one) => this.#upload(one))}</ul>` : nothing}
      ${suggestions ? this.#suggestions(suggestions) : nothing}
      <div class="composer-row">
        <label class="hidden" for="composer-words">${text("chat.write")}</label>
        <textarea
          id="composer-words"
          rows="1"
          dir="auto"
          maxlength=${LONGEST}
          placeholder=${uploads.length ? text("media.caption") : text("chat.write")}
          aria-describedby="composer-hint"
          role=${suggestions ? "combobox" : nothing}
          aria-expanded=${suggestions ? "true" : nothing}
          aria-controls=${suggestions ? "composer-suggestions" : nothing}
          aria-activedescendant=${active ? `suggestion-${active.id}` : nothing}
          .value=${this.words}
          @input=${this.#typed}
          @keydown=${this.#key}
        ></textarea>
        ${this.tools ?? nothing}
        <button type="submit" class="button button-main button-round" aria-label=${text("chat.send")} ?disabled=${!this.outbox}>${icons.send}</button>
      </div>
      <div class="composer-foot">
        ${this.canAttach && this.files ? this.#attachments() : nothing}
        ${this.readTemplates
          ? html`<button type="button" class="button-icon" aria-label=${text("template.choose")} title=${text("template.choose")} @click=${this.#chooseTemplate}>${icons.template}</button>`
          : nothing}
        <p id="composer-hint" class="composer-hint muted"><span class="composer-keys">${text("chat.hint")}</span> ${this.hint}</p>
      </div>
    </form>`;
  }

  #attachments() {
    return html`<input type="file" class="hidden" id="composer-files" multiple tabindex="-1" aria-hidden="true" accept=${ACCEPTED} @change=${this.#chosen} />
      <button
        type="button"
        class="button-icon"
        aria-label=${text("media.attach")}
        title=${text("media.attach")}
        @click=${() => /** @type {HTMLElement | null} */ (this.querySelector("#composer-files"))?.click()}
      >
        ${icons.attach}
      </button>
      ${canRecord
        ? html`<button type="button" class="button-icon" aria-label=${text("media.record")} title=${text("media.record")} @click=${this.#record}>${icons.microphone}</button>`
        : nothing}`;
  }

  #answered() {
    return html`<div class="answered">
      <blockquote class="quote"><span class="answered-to">${text("chat.answering")}</span><bdi>${this.quote}</bdi></blockquote>
      <button type="button" class="button-icon" aria-label=${text("chat.answer.end")} @click=${() => this.tell("reply-ended")}>${icons.close}</button>
    </div>`;
  }

  /** @param {Upload} upload */
  #upload(upload) {
    const { id, name, type, preview, state, sent, file, reason, how } = upload;
    const share = file.size ? Math.min(1, sent / file.size) : 0;
    return html`<li class="upload upload-${state}">
      <span class="upload-picture">${preview ? html`<img src=${preview} alt="" />` : type === "audio" ? icons.sound : type === "video" ? icons.video : icons.file}</span>
      <span class="file-words">
        <bdi class="file-name" title=${name}>${how.isVoice ? text("kind.voice") : name}</bdi>
        ${state === "sending"
          ? html`<progress max="1" .value=${share} aria-label=${text("media.sending", { name })}></progress>`
          : html`<span class="file-facts" role=${reason ? "alert" : nothing}>${reason || `${kindOf(type ?? "document")} · ${sizeOf(file.size)}`}</span>`}
        ${state === "waiting" ? html`<button type="button" class="link" @click=${() => this.#uploads?.again()}>${text("media.again")}</button>` : nothing}
      </span>
      <button type="button" class="button-icon" aria-label=${text(state === "sending" ? "media.cancel" : "media.take-back", { name })} @click=${() => this.#uploads?.remove(id)}>
        ${icons.close}
      </button>
    </li>`;
  }

  /** @param {readonly Suggestion[]} suggestions */
  #suggestions(suggestions) {
    if (!suggestions.length) return html`<p id="composer-suggestions" class="suggestions suggestions-none muted" role="status">${text("chat.suggestions.none")}</p>`;
    return html`<ul id="composer-suggestions" class="suggestions" role="listbox" aria-label=${text("chat.suggestions")}>
      ${suggestions.map(
        ({ id, title, detail }, index) =>
          html`<li
            id="suggestion-${id}"
            role="option"
            aria-selected=${index === this.active ? "true" : "false"}
            @mousedown=${(/** @type {Event} */ event) => event.preventDefault()}
            @click=${() => this.tell("composer-choice", id)}
          >
            <strong>${title}</strong><span class="muted">${detail}</span>
          </li>`,
      )}
    </ul>`;
  }

  /** @param {InputEvent} event */
  #typed(event) {
    this.#keep(/** @type {HTMLTextAreaElement} */ (event.target).value);
    this.tell("message-typed");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // not the one that ends a word of Japanese or Chinese
    if (event.isComposing) return;
    if (this.suggestions && this.#keyOfSuggestions(event, this.suggestions)) return event.preventDefault();
    if (event.key === "Escape" && this.answered) return this.tell("reply-ended");
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    void this.#send();
  }

  /**
   * Whether a key was for the suggestions.
   *
   * @param {KeyboardEvent} event
   * @param {readonly Suggestion[]} suggestions
   */
  #keyOfSuggestions({ key, shiftKey }, suggestions) {
    if (key === "Escape") {
      this.tell("composer-slash", { beginning: null });
      return true;
    }
    const count = suggestions.length;
    if (!count) return false;
    if (key === "ArrowDown" || key === "ArrowUp") {
      this.active = (this.active + (key === "ArrowDown" ? 1 : count - 1)) % count;
      return true;
    }
    if ((key !== "Enter" && key !== "Tab") || shiftKey) return false;
    this.tell("composer-choice", suggestions[this.active].id);
    return true;
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    void this.#send();
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    const files = event.clipboardData?.files;
    if (!files?.length || !this.canAttach) return;
    event.preventDefault();
    void this.take(files);
  }

  /** @param {Event} event */
  #chosen(event) {
    const input = /** @type {HTMLInputElement} */ (event.target);
    void this.take(input.files ?? []);
    // the same file may be chosen again
    input.value = "";
  }

  async #send() {
    const message = this.words.trim();
    const { chat, outbox, answered } = this;
    if (!chat || !outbox) return;
    const ready = this.#uploads?.of(chat.conversationId ?? "").filter(({ state }) => state === "ready") ?? [];
    if (!message && !ready.length) return;
    this.#keep("");
    this.trouble = "";
    if (answered) this.tell("reply-ended");
    this.tell("message-sent");
    const replyTo = answered?.id ?? null;
    const isTold = !!ready.length && !!this.#uploads?.send(chat.conversationId ?? "", message, replyTo);
    try {
      if (message && !isTold) await outbox.send({ ...chat, message, ...(replyTo && !ready.length ? { replyTo } : {}) });
    } catch (error) {
      // what could not even be kept is not lost
      this.#keep(message);
      this.trouble = text("chat.not-sent", { reason: reasonOf(error) });
    }
    this.focusField();
  }

  /** @param {import("./media/uploads.js").FileMessage} message */
  async #hand({ conversationId, type, content, replyTo }) {
    await this.outbox?.send({ conversationId, message: "", type, content, ...(replyTo ? { replyTo } : {}) });
    this.tell("message-sent");
  }

  #record = async () => {
    try {
      await import("./media/recorder.js");
      this.isRecording = true;
    } catch {
      this.trouble = text("chat.part-failed");
    }
  };

  /** @param {CustomEvent<Blob>} event */
  #recorded = (event) => {
    const { conversationId } = this.chat ?? {};
    const replyTo = this.answered?.id ?? null;
    if (conversationId) void this.#openUploads().then((uploads) => uploads?.addVoice(conversationId, event.detail, replyTo));
    if (this.answered) this.tell("reply-ended");
    this.#stopRecording();
  };

  #stopRecording = () => {
    this.isRecording = false;
    void this.updateComplete.then(() => this.focusField());
  };

  #chooseTemplate = async () => {
    const { readTemplates, outbox, chat } = this;
    if (!readTemplates || !outbox || !chat) return;
    try {
      const { TemplatePicker } = await import("./template_picker.js");
      TemplatePicker.open(readTemplates, async (content) => {
        this.tell("message-sent");
        return sendOrRefuse(outbox, { ...chat, message: "", type: "template", content });
      });
    } catch {
      this.trouble = text("chat.part-failed");
    }
  };

  #online = () => this.#uploads?.again();

  /** @param {BeforeUnloadEvent} event */
  #leaving = (event) => {
    // a file that is not uploaded is kept by this page alone
    if (this.#uploads?.isBusy) event.preventDefault();
  };

  /** @param {string} words */
  #keep(words) {
    (this.drafts ?? this.#own).set(this.#name, words);
    // at once: keys that follow must find it so
    if (this.#field && this.#field.value !== words) this.#field.value = words;
    this.#tellSlash();
    this.requestUpdate();
  }

  #tellSlash() {
    const beginning = SLASH.exec(this.words)?.[1] ?? null;
    if (beginning === this.#slash) return;
    this.#slash = beginning;
    this.tell("composer-slash", { beginning });
  }
}

/**
 * Sends a message; one that is refused is taken back and returned. One that waits for the network
 * is on its way.
 *
 * @param {Outbox} outbox
 * @param {Parameters<Outbox["send"]>[0]} written
 * @returns {Promise<PendingMessage | null>}
 */
async function sendOrRefuse(outbox, written) {
  const { clientRef } = await outbox.send(written);
  /** @type {PendingMessage | null} */
  const refused = await new Promise((resolve) => {
    const look = () => {
      const { pending, error } = outbox.getSnapshot();
      const one = pending.find((message) => message.clientRef === clientRef);
      if (one?.state === "refused") done(one);
      else if (!one || error) done(null);
    };
    /** @param {PendingMessage | null} answer */
    const done = (answer) => {
      end();
      resolve(answer);
    };
    const end = outbox.subscribe(look);
    queueMicrotask(look);
  });
  if (refused) await outbox.dismiss(clientRef);
  return refused;
}

customElements.define("message-composer", MessageComposer);
