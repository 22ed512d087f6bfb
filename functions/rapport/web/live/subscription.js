import { LiveError, NotAllowed, Unreadable, call } from "./errors.js";
import { stateOf } from "./catch_up.js";

/** @import { Change, Event, Heard } from "./events.js" */
/** @import { CatchUp, State } from "./catch_up.js" */
/** @import { Row } from "./rows.js" */
/** @import { Scope } from "./scope.js" */
/** @import { Server } from "./server.js" */
/** @import { Source } from "./sources.js" */

const OTHER_VERSION = "Some rows can't be read and stay as they were: the database is of another version than this page. Load the page again.";

/**
 * What a subscription shows: never changed, and the same object until something else is shown.
 *
 * @template {Row} R
 * @typedef {object} Snapshot
 * @property {readonly R[]} rows in the order in which they are shown
 * @property {State} state
 * @property {boolean} isConnected whether changes arrive as they happen; else they are asked for
 * @property {LiveError | null} error what is wrong at the moment
 * @property {Change<R> | null} latestUpdate the last change that was told
 */

/**
 * Called with the new row; the new and what was told before of it; the last of it.
 *
 * @template {Row} R
 * @typedef {object} RowCallbacks
 * @property {(row: R) => unknown} [onInsert]
 * @property {(row: R, old: R | null) => unknown} [onUpdate]
 * @property {(row: R) => unknown} [onDelete]
 * @property {(change: Change<R>) => unknown} [onChange]
 */

/**
 * Rows kept live until `close`. What happens before `ready` is in the rows and not told.
 *
 * @template {Row} R
 * @template {object} [More={}] what else it shows
 */
export class Subscription {
  isLoaded = false;
  isClosed = false;
  /** @type {Source<R>} */
  source;
  /** @type {CatchUp} */
  hub;
  /** @type {LiveError | null} */
  #failure = null;
  /** @type {Change<R>[]} */
  #untold = [];
  /** @type {Change<R> | null} */
  #latest = null;
  /** The rows of the snapshot; null where they have changed since. @type {readonly R[] | null} */
  #rows = null;
  /** @type {Readonly<Snapshot<R> & More> | null} */
  #snapshot = null;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Set<{ resolve: () => void, reject: (error: LiveError) => void }>} */
  #waiting = new Set();
  #makeSource;
  #callbacks;
  #order;

  /**
   * `order` compares rows as they are shown.
   *
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {() => Source<R>} makeSource
   * @param {(a: R, b: R) => number} order
   * @param {RowCallbacks<R>} [callbacks]
   */
  constructor(hub, scope, makeSource, order, callbacks = {}) {
    this.hub = hub;
    this.scope = scope;
    this.#makeSource = makeSource;
    this.#order = order;
    this.#callbacks = callbacks;
    this.source = makeSource();
    if (hub.isClosed) this.isClosed = true;
    else hub.attach(this);
    // bound, as React, Vue and Svelte hand them on
    this.getSnapshot = this.getSnapshot.bind(this);
    this.subscribe = this.subscribe.bind(this);
    this.close = this.close.bind(this);
  }

  /** The tables whose changes it follows. */
  get tables() {
    return this.source.tables;
  }

  /** What is shown at the moment. */
  getSnapshot() {
    this.#snapshot ??= this.#makeSnapshot();
    return this.#snapshot;
  }

  /**
   * Calls a function after every change of the snapshot; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    // each call ends on its own, whoever hands in the same function twice
    const own = () => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /**
   * Waits until the rows are read. Throws what the server refuses them with; it is asked again,
   * though.
   *
   * @returns {Promise<this>}
   */
  async ready() {
    if (!this.isLoaded && !this.isClosed) {
      await new Promise((resolve, reject) => this.#waiting.add({ resolve: () => resolve(null), reject }));
    }
    return this;
  }

  /** Ends it: nothing is told any more, and what was shown stays. */
  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#untold = [];
    this.hub.detach(this);
    this.#wake();
    this.notify();
    this.#listeners.clear();
  }

  /**
   * Whether what was broadcast together can be told, and nothing before it was missed.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    return this.source.isSure(events);
  }

  /**
   * Takes what was broadcast together; whether doubt is left.
   *
   * @param {Event[]} events
   */
  hear(events) {
    return this.#take(this.source.hear(events));
  }

  /**
   * Takes a whole catch-up; whether doubt is left.
   *
   * @param {Event[]} events
   * @param {number} mark
   */
  settle(events, mark) {
    return this.#take(this.source.settle(events, mark));
  }

  /** @param {Server} server */
  async load(server) {
    const { source } = this;
    await source.load(server);
    if (source !== this.source) return;
    this.isLoaded = true;
    this.#rows = null;
    this.#wake();
  }

  /**
   * Reads the rows again, and tells what differs.
   *
   * @param {Server} server
   */
  async reread(server) {
    const { source } = this;
    const heard = await source.reread(server);
    if (source === this.source) this.#take(heard);
  }

  /** Forgets all rows, which were another user's. */
  forget() {
    if (!this.isLoaded && !this.#failure) return;
    this.source = this.#makeSource();
    this.isLoaded = false;
    this.#failure = null;
    this.#untold = [];
    this.#latest = null;
    this.#rows = null;
  }

  /**
   * Notes why rows can't be read; null, that they can again.
   *
   * @param {LiveError | null} error
   */
  fail(error) {
    this.#failure = error;
    if (error && !error.retryable) this.#wake(error);
  }

  /** What is to be told, once. */
  untold() {
    const changes = this.#untold;
    this.#untold = [];
    return changes;
  }

  /**
   * Calls the callbacks that a change is for.
   *
   * @param {Change<R>} change
   */
  tell(change) {
    if (this.isClosed) return;
    this.#latest = change;
    const { onInsert, onUpdate, onDelete, onChange } = this.#callbacks;
    if (change.eventType === "INSERT") call(onInsert, /** @type {R} */ (change.new));
    else if (change.eventType === "UPDATE") call(onUpdate, /** @type {R} */ (change.new), change.old);
    else call(onDelete, /** @type {R} */ (change.old));
    call(onChange, change);
  }

  /** Calls those who look at the snapshot, if it has changed. */
  notify() {
    const before = this.#snapshot;
    if (!before) return void (this.#listeners.size && this.#call());
    const now = this.#makeSnapshot();
    const keys = /** @type {(keyof typeof now)[]} */ (Object.keys(now));
    if (keys.every((key) => now[key] === before[key])) return;
    this.#snapshot = now;
    this.#call();
  }

  /**
   * What else is shown.
   *
   * @protected
   * @param {readonly R[]} _rows
   * @returns {More}
   */
  more(_rows) {
    return /** @type {More} */ ({});
  }

  /** Has the rows be shown anew, with the edits that are on their way. */
  touch() {
    this.#rows = null;
  }

  /**
   * A row as it was last told.
   *
   * @protected
   * @param {string} id
   */
  told(id) {
    return this.source.rows.find((row) => row.id === id);
  }

  #call() {
    for (const listener of [...this.#listeners]) call(listener);
  }

  /** @param {Heard<R>} heard */
  #take({ changes, inDoubt }) {
    if (changes.length) this.#rows = null;
    for (const change of changes) this.#untold.push(change);
    return inDoubt;
  }

  /** @param {LiveError} [error] */
  #wake(error) {
    for (const { resolve, reject } of this.#waiting) error ? reject(error) : resolve();
    this.#waiting.clear();
  }

  /** @returns {readonly R[]} */
  #makeRows() {
    const rows = this.isLoaded ? this.source.rows : [];
    return Object.freeze(this.hub.edits.applied(this.tables, rows).sort(this.#order));
  }

  /** @returns {Readonly<Snapshot<R> & More>} */
  #makeSnapshot() {
    this.#rows ??= this.#makeRows();
    const isConnected = this.isLoaded && this.#state === "connected";
    return Object.freeze({
      rows: this.#rows,
      state: this.#state,
      isConnected,
      error: this.#error,
      latestUpdate: this.#latest,
      ...this.more(this.#rows),
    });
  }

  get #error() {
    const error = this.#failure ?? this.hub.error ?? this.hub.link.refusal(this.scope) ?? (this.source.isUnreadable ? new Unreadable(OTHER_VERSION) : null);
    // a refusal that is made anew each time is the same to those who look
    const before = this.#snapshot?.error;
    return error && before?.message === error.message && before.name === error.name ? before : error;
  }

  /** @returns {State} */
  get #state() {
    if (this.isClosed) return "closed";
    if (this.#failure) return stateOf(this.#failure);
    if (this.hub.isPaused || this.hub.error) return this.hub.state;
    if (!this.isLoaded) return "connecting";
    const { link } = this.hub;
    if (link.hears(this.scope)) return "connected";
    const refusal = link.refusal(this.scope);
    if (!refusal) return "connecting";
    return refusal instanceof NotAllowed ? "error" : "polling";
  }
}
