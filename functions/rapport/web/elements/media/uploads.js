/** Files that are chosen to be sent: looked at, uploaded, and handed on as messages. */

import { sizeOf } from "../format.js";
import { kindOf, reasonOf } from "../parts.js";
import { text } from "../texts.js";
import { FileError } from "./files.js";
import { kindOfFile } from "./limits.js";

/** @import { Files } from "./files.js" */
/** @import { FileType } from "./limits.js" */

/**
 * @typedef {object} Upload
 * @property {string} id
 * @property {string} conversationId
 * @property {Blob} file
 * @property {string} name
 * @property {FileType | null} type null where WhatsApp doesn't take it
 * @property {string} mimeType
 * @property {string | null} preview an address of the file itself, while it is here
 * @property {"ready" | "sending" | "waiting" | "refused"} state
 * @property {number} sent bytes that have left
 * @property {string} reason why it waits or was refused
 * @property {{ caption: string, replyTo: string | null, isVoice: boolean }} how it is to be sent
 *
 * @typedef {object} FileMessage what is handed on once a file is uploaded
 * @property {string} conversationId
 * @property {FileType} type
 * @property {Record<string, unknown>} content
 * @property {string | null} replyTo
 */

/** Characters that WhatsApp takes beneath a file. */
export const LONGEST_CAPTION = 1024;
const NAME_LIMIT = 255;
const MOST = 10;
// types that take words beneath
const WITH_CAPTION = new Set(["image", "video", "document"]);

let count = 0;

export class Uploads {
  /** @type {readonly Upload[]} */
  #all = [];
  /** @type {Map<string, AbortController>} */
  #ending = new Map();
  /** What was sent from here, by the id of its upload, while it is not yet a message. @type {Map<string, string>} */
  #previews = new Map();
  #isSending = false;
  #files;
  #hand;
  #changed;

  /**
   * @param {Files} files
   * @param {(message: FileMessage) => Promise<unknown>} hand has a message be sent whose file is uploaded
   * @param {() => void} changed
   */
  constructor(files, hand, changed) {
    this.#files = files;
    this.#hand = hand;
    this.#changed = changed;
  }

  /**
   * Those of a conversation.
   *
   * @param {string} conversationId
   */
  of(conversationId) {
    return this.#all.filter((one) => one.conversationId === conversationId);
  }

  /** Whether something would be lost with the page. */
  get isBusy() {
    return this.#all.some(({ state }) => state === "sending" || state === "waiting");
  }

  /**
   * The picture of a file that was uploaded from here.
   *
   * @param {unknown} uploadId
   */
  previewOf(uploadId) {
    return this.#previews.get(String(uploadId)) ?? null;
  }

  /**
   * Takes files that the user has chosen. One that WhatsApp refuses is refused at once, in words.
   *
   * @param {string} conversationId
   * @param {Iterable<File>} files
   */
  add(conversationId, files) {
    const room = MOST - this.of(conversationId).length;
    const chosen = [...files];
    for (const file of chosen.slice(0, Math.max(0, room))) this.#keep(conversationId, file, file.name);
    this.#tell();
    return chosen.length > room ? text("media.too-many", { n: MOST }) : "";
  }

  /**
   * Sends a voice message that was recorded here.
   *
   * @param {string} conversationId
   * @param {Blob} recorded
   * @param {string | null} replyTo
   */
  addVoice(conversationId, recorded, replyTo) {
    const upload = this.#keep(conversationId, recorded, "voice.ogg");
    this.#put(upload.id, { how: { caption: "", replyTo, isVoice: true } });
    this.send(conversationId, "", replyTo);
  }

  /**
   * Sends what is ready; the words go beneath the first that takes words. Returns whether they did.
   *
   * @param {string} conversationId
   * @param {string} caption
   * @param {string | null} replyTo
   */
  send(conversationId, caption, replyTo) {
    const ready = this.of(conversationId).filter(({ state }) => state === "ready");
    const first = caption.length <= LONGEST_CAPTION ? ready.find(({ type }) => WITH_CAPTION.has(type ?? "")) : undefined;
    for (const one of ready) {
      const how = { ...one.how, caption: one === first ? caption : "", replyTo: one === ready[0] ? replyTo : null };
      this.#put(one.id, { state: "sending", how });
    }
    void this.#sendAll();
    return !!first;
  }

  /** Tries again what waits for the network. */
  again() {
    for (const { id, state } of this.#all) if (state === "waiting") this.#put(id, { state: "sending", reason: "", sent: 0 });
    void this.#sendAll();
  }

  /**
   * Takes a file back, also while it is uploaded.
   *
   * @param {string} id
   */
  remove(id) {
    this.#ending.get(id)?.abort();
    const { preview } = this.#all.find((one) => one.id === id) ?? {};
    if (preview) URL.revokeObjectURL(preview);
    this.#all = this.#all.filter((one) => one.id !== id);
    this.#tell();
  }

  /**
   * @param {string} conversationId
   * @param {Blob} file
   * @param {string} name
   */
  #keep(conversationId, file, name) {
    const kind = kindOfFile({ name, type: file.type });
    const reason = !kind
      ? text("media.refused.type")
      : !file.size
        ? text("media.refused.empty")
        : file.size > kind.limit
          ? text("media.refused.size", { size: sizeOf(file.size), kind: kindOf(kind.type), limit: sizeOf(kind.limit) })
          : "";
    /** @type {Upload} */
    const upload = {
      id: `upload-${(count += 1)}`,
      conversationId,
      file,
      name: name.slice(-NAME_LIMIT),
      type: kind?.type ?? null,
      mimeType: kind?.mimeType ?? file.type,
      preview: !reason && (kind?.type === "image" || kind?.type === "sticker") ? URL.createObjectURL(file) : null,
      state: reason ? "refused" : "ready",
      sent: 0,
      reason,
      how: { caption: "", replyTo: null, isVoice: false },
    };
    this.#all = [...this.#all, upload];
    return upload;
  }

  async #sendAll() {
    if (this.#isSending) return;
    this.#isSending = true;
    for (let next = this.#next; next; next = this.#next) await this.#sendOne(next);
    this.#isSending = false;
  }

  get #next() {
    return this.#all.find(({ state }) => state === "sending");
  }

  /** @param {Upload} upload */
  async #sendOne({ id, conversationId, file, name, type, mimeType, preview, how }) {
    const ending = new AbortController();
    this.#ending.set(id, ending);
    try {
      // Ogg is taken with its codec named
      const whole = mimeType === "audio/ogg" ? "audio/ogg; codecs=opus" : mimeType;
      const announced = await this.#files.announce(
        { conversationId, type: String(type), mimeType: whole, size: file.size, fileName: how.isVoice ? null : name },
        ending.signal,
      );
      await this.#files.put(announced, file, (sent) => this.#put(id, { sent }), ending.signal);
      const content = {
        upload_id: announced.uploadId,
        ...(how.caption ? { caption: how.caption } : {}),
        ...(type === "document" ? { filename: name } : {}),
        ...(how.isVoice ? { voice: true } : {}),
      };
      if (preview) this.#previews.set(announced.uploadId, preview);
      await this.#hand({ conversationId, type: /** @type {FileType} */ (type), content, replyTo: how.replyTo });
      this.#all = this.#all.filter((one) => one.id !== id);
      this.#tell();
    } catch (error) {
      // one that was taken back is no longer there
      const isAway = !(error instanceof FileError) || error.isAway;
      const reason = navigator.onLine ? reasonOf(error) : text("media.offline");
      this.#put(id, { state: isAway ? "waiting" : "refused", sent: 0, reason });
    } finally {
      this.#ending.delete(id);
    }
  }

  /**
   * @param {string} id
   * @param {Partial<Upload>} changes
   */
  #put(id, changes) {
    this.#all = this.#all.map((one) => (one.id === id ? { ...one, ...changes } : one));
    this.#tell();
  }

  #tell() {
    this.#changed();
  }
}
