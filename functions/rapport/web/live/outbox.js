/** Messages on their way: kept until the server has them, sent in the order of each chat, once. */

import { Bell } from "./bell.js";
import { openDrawer } from "./drawer.js";
import { Conflict, NotAllowed, NotFound, Unprocessable, asLiveError } from "./errors.js";
import { randomId } from "./random_id.js";
import { Store } from "./store.js";
import { backoff, wait } from "./timing.js";

/** @import { Drawer, Kept } from "./drawer.js" */
/** @import { LiveError } from "./errors.js" */
/** @import { Json } from "./events.js" */
/** @import { CatchUp } from "./catch_up.js" */

/**
 * @typedef {Readonly<Kept & { state: "pending" | "refused" }>} PendingMessage as it is shown meanwhile
 *
 * @typedef {object} OutboxSnapshot
 * @property {readonly PendingMessage[]} pending all that waits or was refused, as it was written
 * @property {LiveError | null} error why something waits that should have been sent
 *
 * A chat is named by one of the three ids; what is sent by two names is not in order.
 *
 * @typedef {object} Written
 * @property {string} [conversationId]
 * @property {string} [bookingId]
 * @property {string} [customerId] whose chat in the portal it is, which the first message opens
 * @property {string} message
 * @property {string} [type]
 * @property {unknown} [content]
 * @property {string} [replyTo]
 */

// at whose every repetition the message itself would be at fault
const REFUSALS = [NotAllowed, NotFound, Conflict, Unprocessable];

/** @extends {Store<OutboxSnapshot>} */
export class Outbox extends Store {
  /** @type {OutboxSnapshot} */
  #shown = { pending: Object.freeze([]), error: null };
  #bell = new Bell();
  #isClosed = false;
  /** Why a chat waits. @type {Map<string, LiveError>} */
  #troubles = new Map();
  /** @type {Promise<Drawer> | null} */
  #drawer = null;
  #hub;

  /** @param {CatchUp} hub */
  constructor(hub) {
    super();
    this.#hub = hub;
    void this.#run();
  }

  /** @override */
  look() {
    return { ...this.#shown };
  }

  /**
   * Keeps a message to be sent, and returns it as it is shown meanwhile. Throws NotSignedIn, and
   * Unprocessable unless one chat is named.
   *
   * @param {Written} written
   */
  async send({ conversationId, bookingId, customerId, message, type = "text", content, replyTo }) {
    if ([conversationId, bookingId, customerId].filter(Boolean).length !== 1) {
      throw new Unprocessable("Name one chat: by conversationId, bookingId or customerId.");
    }
    const { user } = await this.#hub.server.session();
    /** @type {Kept} */
    const kept = {
      user,
      clientRef: randomId(),
      conversationId: conversationId ?? null,
      bookingId: bookingId ?? null,
      customerId: customerId ?? null,
      message,
      type,
      content: content ?? null,
      replyTo: replyTo ?? null,
      writtenAt: Date.now(),
      refusal: null,
    };
    await (await this.#open()).put(kept);
    await this.#look(user);
    this.hurry();
    return shown(kept);
  }

  /**
   * Forgets a message that was refused.
   *
   * @param {string} clientRef
   */
  async dismiss(clientRef) {
    const { user } = await this.#hub.server.session();
    await (await this.#open()).remove(user, clientRef);
    await this.#look(user);
  }

  /** Sends at once, since the network is back or there is something new. */
  hurry() {
    this.#bell.ring();
  }

  /** Ends sending; what is kept stays. */
  async close() {
    this.#isClosed = true;
    this.hurry();
    (await this.#drawer)?.close();
  }

  #open() {
    this.#drawer ??= openDrawer(() => this.hurry());
    // a database that could not be opened is tried again
    this.#drawer.catch(() => (this.#drawer = null));
    return this.#drawer;
  }

  async #run() {
    const { server } = this.#hub;
    for (let failures = 0; !this.#isClosed; ) {
      this.#bell.clear();
      /** @type {LiveError | null} */
      let error = null;
      try {
        if (!this.#hub.isPaused) {
          const { user } = await server.session();
          // one tab sends, or two would mix up the order
          await alone(`rapport-outbox ${user}`, () => this.#sendAll(user));
          await this.#look(user);
        }
      } catch (thrown) {
        error = asLiveError(thrown);
        this.#show(this.#shown.pending, error);
      }
      const waits = error || this.#troubles.size;
      failures = waits ? failures + 1 : 0;
      const retryAfter = Math.max(...[...this.#troubles.values(), error].map((trouble) => trouble?.retryAfter ?? 0));
      await wait(this.#bell, waits ? backoff(server.timing, failures - 1) : Infinity, retryAfter);
    }
  }

  /** @param {string} user */
  async #sendAll(user) {
    this.#troubles.clear();
    /** @type {Map<string, Kept[]>} */
    const chats = new Map();
    for (const message of await (await this.#open()).all(user)) {
      if (!message.refusal) chats.set(chatOf(message), [...(chats.get(chatOf(message)) ?? []), message]);
    }
    // one chat that can't be written to keeps no other waiting
    await Promise.all([...chats.values()].map((messages) => this.#sendChat(messages)));
  }

  /** @param {Kept[]} messages of one chat */
  async #sendChat(messages) {
    for (const message of messages) {
      if (this.#isClosed) return;
      try {
        const record = await this.#post(message);
        const { id, version } = /** @type {{ id: string, version: number }} */ (/** @type {unknown} */ (record));
        // shown as sent before it is no longer shown as pending
        const isShown = this.#hub.take([{ table: "messages", id, version, operation: "INSERT", record, old_record: null }]);
        if (!isShown) await this.#hub.caughtUp();
        await (await this.#open()).remove(message.user, message.clientRef);
      } catch (thrown) {
        const error = asLiveError(thrown);
        if (!REFUSALS.some((kind) => error instanceof kind)) {
          this.#troubles.set(chatOf(message), error);
          return;
        }
        const { message: refusal, code, field, hint, facts } = error;
        await (await this.#open()).put({ ...message, refusal, refused: { code, field, hint, facts } });
      }
      await this.#look(message.user);
    }
  }

  /**
   * @param {Kept} message
   * @returns {Promise<Json>}
   */
  async #post({ conversationId, bookingId, customerId, message, type, content, replyTo, clientRef }) {
    const record = await this.#hub.server.rpc("post_message", {
      conversation_id: conversationId,
      booking_id: bookingId,
      customer_id: customerId,
      message,
      type,
      content,
      reply_to: replyTo,
      client_ref: clientRef,
    });
    return /** @type {Json} */ (record);
  }

  /** @param {string} user */
  async #look(user) {
    const pending = (await (await this.#open()).all(user)).map(shown);
    this.#show(pending, this.#troubles.values().next().value ?? null);
  }

  /**
   * @param {readonly PendingMessage[]} pending
   * @param {LiveError | null} error
   */
  #show(pending, error) {
    const isSame = JSON.stringify(pending) === JSON.stringify(this.#shown.pending);
    this.#shown = { pending: isSame ? this.#shown.pending : Object.freeze(pending), error };
    this.notify();
  }
}

/** @param {Kept} message */
function chatOf({ conversationId, bookingId, customerId }) {
  return String(conversationId ?? bookingId ?? customerId);
}

/**
 * @param {Kept} kept
 * @returns {PendingMessage}
 */
function shown(kept) {
  return Object.freeze({ ...kept, state: kept.refusal ? "refused" : "pending" });
}

/**
 * Does something that one tab at a time may do.
 *
 * @param {string} name
 * @param {() => Promise<void>} work
 */
async function alone(name, work) {
  if (typeof navigator === "undefined" || !navigator.locks) await work();
  else await navigator.locks.request(name, work);
}
