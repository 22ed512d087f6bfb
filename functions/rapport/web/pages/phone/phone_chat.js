import { reasonOf } from "@rapport/live/elements/parts.js";
import { randomId } from "../../live/random_id.js";

/** @import { Message } from "@rapport/live" */
/** @import { PendingMessage } from "../../live/outbox.js" */
/** @import { Phone } from "../common/config.js" */

/**
 * A message that was written here and has not been brought yet.
 *
 * @typedef {object} Waiting
 * @property {string} id
 * @property {string} message
 * @property {number} at
 * @property {string | null} refusal
 */

const PAUSE = 1000;
const SHOWN = 500;

/**
 * What a customer's phone shows: both halves as the stand-in keeps them, whichever browser wrote
 * them. It looks like a subscription and like an outbox, so that a conversation is shown as on the
 * other pages.
 */
export class PhoneChat {
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** What the business has sent. @type {any[]} */
  #received = [];
  /** What the customer has written. @type {any[]} */
  #written = [];
  /** @type {Set<string>} */
  #read = new Set();
  /** @type {Waiting[]} */
  #waiting;
  /** @type {{ rows: readonly Message[], pending: readonly PendingMessage[], state: any, error: any } | null} */
  #snapshot = null;
  #isAway = false;
  #isLoaded = false;
  #isClosed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  /** How often it has looked: the last answer counts. */
  #looks = 0;
  #phone;

  /** @param {Phone} phone */
  constructor(phone) {
    this.#phone = phone;
    this.#waiting = JSON.parse(localStorage.getItem(this.#place) ?? "[]");
    void this.#look();
  }

  /** Whether the stand-in answers. */
  get isAway() {
    return this.#isAway;
  }

  getSnapshot() {
    this.#snapshot ??= /** @type {any} */ ({
      rows: this.#rows(),
      pending: this.#waiting.map((one) => pendingOf(one)),
      state: this.#isLoaded ? "connected" : "connecting",
      isLoaded: this.#isLoaded,
      isConnected: !this.#isAway,
      error: null,
      latestUpdate: null,
    });
    return /** @type {any} */ (this.#snapshot);
  }

  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#next);
    this.#listeners.clear();
  }

  /**
   * Writes to the business, as the customer.
   *
   * @param {{ message: string }} written
   */
  async send({ message }) {
    /** @type {Waiting} */
    const one = { id: `wamid.${randomId()}`, message, at: Date.now(), refusal: null };
    this.#keep([...this.#waiting, one]);
    try {
      const { phone_number_id, number, name } = this.#phone;
      const answer = await fetch("messages", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ phone_number_id, from: number, name, text: message, id: one.id }),
      });
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.error?.message ?? said.error ?? String(answer.status));
    } catch (error) {
      one.refusal = reasonOf(error);
    }
    // what the stand-in has it brings, although it could not at once
    await this.#look();
    this.#keep([...this.#waiting]);
  }

  /**
   * Forgets what could not be brought.
   *
   * @param {string} id
   */
  async dismiss(id) {
    this.#keep(this.#waiting.filter((one) => one.id !== id));
  }

  get #place() {
    return `rapport-phone ${this.#phone.phone_number_id} ${this.#phone.number}`;
  }

  /** @param {Waiting[]} waiting */
  #keep(waiting) {
    this.#waiting = waiting;
    localStorage.setItem(this.#place, JSON.stringify(waiting));
    this.#tell();
  }

  async #look() {
    clearTimeout(this.#next);
    const look = ++this.#looks;
    try {
      const query = new URLSearchParams({ phone_number_id: this.#phone.phone_number_id, to: this.#phone.number, limit: String(SHOWN) });
      const answer = await fetch(`messages?${query}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const { messages, written, reads } = await answer.json();
      if (look !== this.#looks) return;
      this.#received = messages;
      this.#written = written;
      this.#read = new Set(reads.map((/** @type {any} */ read) => read.message_id));
      this.#isAway = false;
      const brought = new Set(written.map((/** @type {any} */ one) => one.id));
      if (this.#waiting.some(({ id }) => brought.has(id))) this.#keep(this.#waiting.filter(({ id }) => !brought.has(id)));
    } catch {
      if (look !== this.#looks) return;
      this.#isAway = true;
    }
    this.#isLoaded = true;
    this.#tell();
    if (!this.#isClosed) this.#next = setTimeout(() => this.#look(), document.hidden ? PAUSE * 5 : PAUSE);
  }

  /** @returns {readonly Message[]} */
  #rows() {
    const mine = this.#written.map((one) => rowOf(one, !one.echo, this.#read.has(one.id) ? "read" : "delivered"));
    const theirs = this.#received.map((one) => rowOf(one, false, one.statuses.at(-1) ?? "sent"));
    const all = [...mine, ...theirs].sort((a, b) => a.at - b.at);
    /** @type {Map<string, any>} */
    const rows = new Map();
    for (const one of all) {
      // what changes another message is none itself
      const about = rows.get(one.content?.message_id ?? one.content?.original_message_id);
      if (one.type === "reaction") about && (about.reactions = { ...about.reactions, [one.sender_type]: one.content.emoji });
      else if (one.type === "edit") about && Object.assign(about, { message: one.content.message.text.body, edited_at: one.created_at });
      else if (one.type === "revoke") about && (about.revoked_at = one.created_at);
      else rows.set(one.id, one);
    }
    return /** @type {any} */ ([...rows.values()].map((one, index) => ({ ...one, seq: index + 1 })));
  }

  #tell() {
    const before = JSON.stringify(this.#snapshot);
    this.#snapshot = null;
    if (JSON.stringify(this.getSnapshot()) === before) return;
    for (const listener of [...this.#listeners]) listener();
  }
}

/**
 * A message as pages show it.
 *
 * @param {any} one
 * @param {boolean} isMine
 * @param {string} status
 */
function rowOf(one, isMine, status) {
  const at = Date.parse(one.at);
  return {
    id: one.id,
    // a bubble stays the same when it is no longer on its way
    client_ref: isMine ? one.id : null,
    conversation_id: "phone",
    sender_type: isMine ? "client" : "operator",
    message: one.text_shown,
    type: one.type,
    content: one[one.type],
    at,
    created_at: new Date(at).toISOString(),
    status,
    reply_to: one.reply_to,
    reactions: {},
  };
}

/**
 * @param {Waiting} one
 * @returns {PendingMessage}
 */
function pendingOf({ id, message, at, refusal }) {
  return /** @type {any} */ ({ clientRef: id, message, writtenAt: at, refusal, customerId: "phone", state: refusal ? "refused" : "pending" });
}
