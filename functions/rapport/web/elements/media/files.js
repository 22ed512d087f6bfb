/** Files of messages, by the HTTP functions: where to read one, and where to put one. */

import { text } from "../texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */

/**
 * Where a file can be read, for some minutes and without a login.
 *
 * @typedef {object} FileAddress
 * @property {string} url
 * @property {string} fileName
 * @property {string} mimeType
 * @property {number} size in bytes
 * @property {number} until ms since 1970
 *
 * @typedef {object} Announced a file that is to be uploaded
 * @property {string} uploadId
 * @property {string} url
 * @property {Record<string, string>} headers
 */

// requests at the same time: each user's are answered one after the other
const AT_ONCE = 2;
// ms: an address is asked for anew so long before its end
const MARGIN = 20_000;
// ms between questions for a file that is on its way from WhatsApp
const WAITS = [1500, 3000, 5000, 10_000, 20_000];

const EARLY = 1;

/** Why a file can't be read or taken. */
export class FileError extends Error {
  /**
   * @param {string} message for people
   * @param {{ status?: number, field?: string, hint?: string }} [more]
   */
  constructor(message, { status = 0, field, hint } = {}) {
    super(message);
    this.status = status;
    /** As the database has it, by which pages translate. */
    this.code = status ? `PT${status}` : undefined;
    this.field = field;
    this.hint = hint;
  }

  /** Whether the network was away, or the server too busy. */
  get isAway() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** Whether the file is gone, or was never there. */
  get isOver() {
    return this.status === 404 || this.status === 410;
  }
}

export class Files {
  /** @type {Map<string, Promise<FileAddress>>} */
  #asked = new Map();
  /** @type {Map<string, FileAddress>} */
  #known = new Map();
  #running = 0;
  /** @type {(() => void)[]} */
  #waiting = [];
  #supabase;
  #url;

  /**
   * @param {SupabaseClient<any, any, any>} supabase signed in
   * @param {string} url of the HTTP functions
   */
  constructor(supabase, url) {
    this.#supabase = supabase;
    this.#url = url.replace(/\/$/, "");
  }

  /**
   * Where a message's file can be read, at once where that is known.
   *
   * @param {string} messageId
   */
  known(messageId) {
    const found = this.#known.get(messageId);
    return found && found.until > Date.now() ? found : null;
  }

  /**
   * Where a message's file can be read; one that is on its way from WhatsApp is waited for. Throws
   * FileError.
   *
   * @param {string} messageId
   * @param {() => void} [pending] called while it is waited for
   * @returns {Promise<FileAddress>}
   */
  read(messageId, pending) {
    const found = this.known(messageId);
    if (found) return Promise.resolve(found);
    const asked = this.#asked.get(messageId) ?? this.#read(messageId, pending).finally(() => this.#asked.delete(messageId));
    this.#asked.set(messageId, asked);
    return asked;
  }

  /**
   * The bytes of a message's file. Throws FileError.
   *
   * @param {string} messageId
   */
  async bytes(messageId) {
    const { url, fileName } = await this.read(messageId);
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok) {
      this.#known.delete(messageId);
      throw new FileError(text("media.unreachable"), { status: answer?.status });
    }
    return { blob: await answer.blob(), fileName };
  }

  /**
   * Saves a message's file on the device, by the name that is safe. Throws FileError.
   *
   * @param {string} messageId
   */
  async save(messageId) {
    const { blob, fileName } = await this.bytes(messageId);
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: url, download: fileName }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  /**
   * Has WhatsApp be asked for a file again. Throws FileError.
   *
   * @param {string} messageId
   */
  async refetch(messageId) {
    const { error, status } = await this.#supabase.rpc("refetch_media", { message_id: messageId });
    if (error) throw new FileError(error.message, { status });
  }

  /**
   * Announces a file. Throws FileError.
   *
   * @param {{ conversationId: string, type: string, mimeType: string, size: number, fileName: string | null }} file
   * @param {AbortSignal} signal
   * @returns {Promise<Announced>}
   */
  async announce(file, signal) {
    const { body } = await this.#ask("/api/media", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(file), signal });
    return body;
  }

  /**
   * Puts a file's bytes where it was announced. Throws FileError.
   *
   * @param {Announced} announced
   * @param {Blob} bytes
   * @param {(sent: number) => void} progress called with the bytes that have left
   * @param {AbortSignal} signal
   * @returns {Promise<void>}
   */
  put({ url, headers }, bytes, progress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", url);
      // the browser itself says how long it is
      request.setRequestHeader("content-type", headers["content-type"]);
      request.upload.onprogress = ({ loaded }) => progress(loaded);
      request.onload = () => {
        if (request.status < 300) resolve();
        else reject(new FileError(text("media.not-stored", { status: request.status }), { status: request.status }));
      };
      request.onerror = () => reject(new FileError(text("media.unreachable")));
      signal.addEventListener("abort", () => (request.abort(), reject(signal.reason)), { once: true });
      // the type of a file is said by the header alone
      request.send(bytes.slice(0, bytes.size, headers["content-type"]));
    });
  }

  /**
   * @param {string} messageId
   * @param {() => void} [pending]
   * @returns {Promise<FileAddress>}
   */
  async #read(messageId, pending) {
    for (let turn = 0; ; turn += 1) {
      const { status, body } = await this.#inTurn(() => this.#ask(`/api/messages/${encodeURIComponent(messageId)}/media`)).catch((error) => {
        // a message may be told of a moment before others can see it
        if (turn < EARLY && error instanceof FileError && error.status === 404) return { status: 404, body: null };
        throw error;
      });
      if (status === 200) {
        const found = { ...body, until: Date.now() + body.expiresIn * 1000 - MARGIN };
        this.#known.set(messageId, found);
        return found;
      }
      if (turn === WAITS.length) throw new FileError(text("media.pending.long"), { status: 503 });
      if (status === 202) pending?.();
      await new Promise((resolve) => setTimeout(resolve, WAITS[turn]));
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   * @returns {Promise<{ status: number, body: any }>}
   */
  async #ask(path, options = {}) {
    const { data } = await this.#supabase.auth.getSession();
    const headers = { ...options.headers, authorization: `Bearer ${data.session?.access_token ?? ""}` };
    const answer = await fetch(this.#url + path, { ...options, headers }).catch((error) => {
      if (options.signal?.aborted) throw error;
      throw new FileError(text("media.unreachable"));
    });
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new FileError(body.message ?? text("media.unreachable"), { status: answer.status, ...body });
    return { status: answer.status, body };
  }

  /**
   * @template T
   * @param {() => Promise<T>} work
   */
  async #inTurn(work) {
    if (this.#running >= AT_ONCE) await new Promise((resolve) => this.#waiting.push(() => resolve(null)));
    this.#running += 1;
    try {
      return await work();
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}
