/**
 * Who is there, and who is typing: passing things, which are kept nowhere.
 *
 * What a client says of itself proves nothing: who may send on a topic is proven, so a sign is its
 * side's, and names are those of the tables. One room of a kind and id at a time.
 */

import { call } from "./errors.js";
import { Store } from "./store.js";

/** @import { LiveError } from "./errors.js" */
/** @import { CatchUp } from "./catch_up.js" */
/** @import { RoomKind, Scope } from "./scope.js" */

/**
 * The people who are there, by their `personId`, with the facts that each shows.
 *
 * @typedef {Readonly<Record<string, Readonly<Record<string, unknown>>>>} Online
 *
 * @typedef {object} PresenceSnapshot
 * @property {Online} onlineUsers nobody while that can't be known
 * @property {boolean} isConnected whether others are seen, and see the user
 * @property {LiveError | null} error
 *
 * @typedef {object} TypingSnapshot
 * @property {boolean} isTyping whether somebody else has been writing a moment ago
 * @property {boolean} isConnected
 * @property {LiveError | null} error
 */

const TYPING = "typing";
// who types says so again and again; nobody does for longer without a word
const TYPING_LASTS = 5000;
const SAY_AGAIN = 2000;
/** @type {Online} */
const NOBODY = Object.freeze({});

/**
 * How a user is known to others, as `conversation_people` names them. A page that is not secure
 * (plain http, not localhost) can't make a digest: there it is a name of this page's own.
 *
 * @param {string} user
 */
export async function personId(user) {
  const bytes = crypto.subtle
    ? new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(user)), 0, 16)
    : crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * A topic on which clients show themselves, until `close`.
 *
 * @template {object} S the snapshot
 * @extends {Store<S>}
 */
export class Room extends Store {
  /** What the user shows of itself; null while it is not to be seen. @type {object | null} */
  tracked = null;
  isClosed = false;
  /** @type {LiveError | null} */
  refused = null;

  /**
   * @param {CatchUp} hub
   * @param {RoomKind} kind
   * @param {string | null} [id]
   */
  constructor(hub, kind, id) {
    super();
    this.hub = hub;
    /** @type {Scope} */
    this.scope = { kind, id: id?.toLowerCase() ?? null };
    hub.link.want(this.scope, this);
    if (!hub.isPaused) hub.start();
    hub.watchers.add(this.notify);
    this.close = this.close.bind(this);
  }

  /** Leaves the topic. */
  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    this.hub.link.unwant(this.scope);
    this.hub.watchers.delete(this.notify);
    this.end();
  }

  get isConnected() {
    return !this.isClosed && this.hub.isRunning && this.hub.link.hears(this.scope);
  }

  /** What is wrong at the moment. */
  get error() {
    return this.isClosed ? null : (this.hub.link.refusal(this.scope) ?? this.refused);
  }

  /** Takes that the topic is about to be joined. */
  enter() {}

  /**
   * Takes who is there.
   *
   * @param {Record<string, unknown[]>} _state
   */
  show(_state) {}

  /**
   * Takes what another client has broadcast.
   *
   * @param {string} _event
   */
  hear(_event) {}

  /**
   * Takes that the user may not be seen here.
   *
   * @param {LiveError} reason
   */
  turnAway(reason) {
    this.tracked = null;
    this.refused = reason;
    this.notify();
  }
}

/**
 * Who is there; a client of ours has its `personId` for a key.
 *
 * @extends {Room<PresenceSnapshot>}
 */
export class Presence extends Room {
  /** @type {Online} */
  #online = NOBODY;
  #onChange;

  /**
   * @param {CatchUp} hub
   * @param {"desk" | "staff" | "customer"} where
   * @param {string | null} [id]
   * @param {{ onChange?: (online: Online) => unknown }} [callbacks]
   */
  constructor(hub, where, id, callbacks) {
    super(hub, `presence_${where}`, id);
    this.#onChange = callbacks?.onChange;
  }

  /**
   * Lets others see the user, also after the connection was lost. `error` says soon when the
   * server refuses it, as on the other side's topic. The server ends a topic on which that changes
   * more than five times in 30 seconds.
   *
   * @param {object} [shown]
   */
  async showMe(shown = {}) {
    this.tracked = shown;
    await this.#track();
  }

  /** Ends that. */
  async hideMe() {
    this.tracked = null;
    await this.#track();
  }

  /** @override */
  enter() {
    // who was there before may have left
    this.#online = NOBODY;
  }

  /** @override @param {Record<string, unknown[]>} state */
  show(state) {
    const before = Object.keys(this.#online).sort().join();
    const online = Object.entries(state).map(([key, shown]) => [key, shown.at(-1)]);
    this.#online = Object.freeze(Object.fromEntries(online));
    this.notify();
    if (Object.keys(this.#online).sort().join() !== before) call(this.#onChange, this.#online);
  }

  /** @override */
  look() {
    const { isConnected, error } = this;
    return { onlineUsers: isConnected ? this.#online : NOBODY, isConnected, error };
  }

  async #track() {
    this.refused = null;
    await Promise.all(this.hub.link.joined(this.scope).map((topic) => topic.track()));
  }
}

/**
 * Whether one side of a conversation is writing.
 *
 * @extends {Room<TypingSnapshot>}
 */
export class Typing extends Room {
  #isTyping = false;
  #saidAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ends;
  #onTyping;

  /**
   * @param {CatchUp} hub
   * @param {"staff" | "customer"} side
   * @param {string} conversationId
   * @param {{ onTyping?: () => unknown }} [callbacks]
   */
  constructor(hub, side, conversationId, callbacks) {
    super(hub, `typing_${side}`, conversationId);
    this.#onTyping = callbacks?.onTyping;
  }

  /** Tells others that the user writes; call it for every key, most calls send nothing. */
  async say() {
    const now = Date.now();
    if (!this.isConnected || now - this.#saidAt < SAY_AGAIN) return;
    this.#saidAt = now;
    await Promise.all(this.hub.link.joined(this.scope).map((topic) => topic.send(TYPING, {})));
  }

  /** @override @param {string} event */
  hear(event) {
    if (event !== TYPING || this.isClosed) return;
    this.#setTyping(true);
    clearTimeout(this.#ends);
    this.#ends = setTimeout(() => this.#setTyping(false), TYPING_LASTS);
    call(this.#onTyping);
  }

  /** @override */
  close() {
    clearTimeout(this.#ends);
    super.close();
  }

  /** @override */
  look() {
    const { isConnected, error } = this;
    return { isTyping: isConnected && this.#isTyping, isConnected, error };
  }

  /** @param {boolean} isTyping */
  #setTyping(isTyping) {
    this.#isTyping = isTyping;
    this.notify();
  }
}
