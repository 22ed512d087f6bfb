import { reasonOf } from "@rapport/live/elements/parts.js";

/** @import { Message } from "@rapport/live" */
/** @import { PendingMessage } from "../../live/outbox.js" */
/** @import { Phone } from "../common/config.js" */

/**
 * A message that the customer has written here.
 *
 * @typedef {object} Written
 * @property {string} ref
 * @property {string} message
 * @property {number} at
 * @property {string | null} id WhatsApp's, once it has been brought
 * @property {string | null} refusal
 */

const PAUSE = 1000;
const KEPT = 200;

/**
 * What a customer's phone shows: what was written here, and what the business has sent. It looks
 * like a subscription and like an outbox, so that a conversation is shown as on the other pages.
 */
export class PhoneChat {
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {any[]} */
  #received = [];
  /** @type {Set<string>} */
  #read = new Set();
  /** @type {Written[]} */
  #written;
  /** @type {{ rows: readonly Message[], pending: readonly PendingMessage[], state: any, error: any } | null} */
  #snapshot = null;
  #isAway = false;
  #isLoaded = false;
  #isClosed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  #phone;

  /** @param {Phone} phone */
  constructor(phone) {
    this.#phone = phone;
    this.#written = JSON.parse(localStorage.getItem(this.#place) ?? "[]");
    void this.#look();
  }

  /** Whether the stand-in answers. */
  get isAway() {
    return this.#isAway;
  }

  getSnapshot() {
    this.#snapshot ??= /** @type {any} */ ({
      rows: this.#rows(),
      pending: this.#written.filter(({ id }) => !id).map((one) => pendingOf(one)),
      state: this.#isLoaded ? "connected" : "connecting",
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
    /** @type {Written} */
    const one = { ref: crypto.randomUUID(), message, at: Date.now(), id: null, refusal: null };
    this.#keep([...this.#written, one]);
    try {
      const answer = await fetch("messages", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ phone_number_id: this.#phone.phone_number_id, from: this.#phone.number, name: this.#phone.name, text: message }),
      });
      const said = await answer.json();
      if (!answer.ok || said.status !== 200) throw new Error(said.error?.message ?? said.error ?? said.answer ?? String(answer.status));
      one.id = said.webhook.entry[0].changes[0].value.messages[0].id;
    } catch (error) {
      one.refusal = reasonOf(error);
    }
    this.#keep([...this.#written]);
    await this.#look();
  }

  /**
   * Forgets what could not be brought.
   *
   * @param {string} ref
   */
  async dismiss(ref) {
    this.#keep(this.#written.filter((one) => one.ref !== ref));
  }

  get #place() {
    return `rapport-phone ${this.#phone.phone_number_id} ${this.#phone.number}`;
  }

  /** @param {Written[]} written */
  #keep(written) {
    this.#written = written.slice(-KEPT);
    localStorage.setItem(this.#place, JSON.stringify(this.#written));
    this.#tell();
  }

  async #look() {
    clearTimeout(this.#next);
    try {
      const query = new URLSearchParams({ phone_number_id: this.#phone.phone_number_id, to: this.#phone.number });
      const answer = await fetch(`messages?${query}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const { messages, reads } = await answer.json();
      this.#received = messages;
      this.#read = new Set(reads.map((/** @type {any} */ read) => read.message_id));
      this.#isAway = false;
    } catch {
      this.#isAway = true;
    }
    this.#isLoaded = true;
    this.#tell();
    if (!this.#isClosed) this.#next = setTimeout(() => this.#look(), document.hidden ? PAUSE * 5 : PAUSE);
  }

  /** @returns {readonly Message[]} */
  #rows() {
    const mine = this.#written
      .filter(({ id }) => id)
      .map(({ id, ref, message, at }) => ({ id, client_ref: ref, sender_type: "client", message, type: "text", at, status: this.#read.has(String(id)) ? "read" : "delivered" }));
    const theirs = this.#received.map((one) => ({
      id: one.id,
      client_ref: null,
      sender_type: "operator",
      message: one.text_shown,
      type: one.type,
      at: Date.parse(one.at),
      status: one.statuses.at(-1) ?? "sent",
      reply_to: one.reply_to,
    }));
    return /** @type {any} */ (
      [...mine, ...theirs]
        .sort((a, b) => a.at - b.at)
        .map((one, index) => ({ ...one, seq: index + 1, conversation_id: "phone", created_at: new Date(one.at).toISOString(), reactions: {} }))
    );
  }

  #tell() {
    const before = JSON.stringify(this.#snapshot);
    this.#snapshot = null;
    if (JSON.stringify(this.getSnapshot()) === before) return;
    for (const listener of [...this.#listeners]) listener();
  }
}

/**
 * @param {Written} one
 * @returns {PendingMessage}
 */
function pendingOf({ ref, message, at, refusal }) {
  return /** @type {any} */ ({ clientRef: ref, message, writtenAt: at, refusal, customerId: "phone", state: refusal ? "refused" : "pending" });
}
