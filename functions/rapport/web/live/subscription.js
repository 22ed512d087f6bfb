import { LiveError, NotAllowed, Unreadable, call } from "./errors.js";
import { stateOf } from "./catch_up.js";
import { Store } from "./store.js";

/** @import { Change, Event, Shown } from "./events.js" */
/** @import { CatchUp, State } from "./catch_up.js" */
/** @import { Scope } from "./scope.js" */
/** @import { Server } from "./server.js" */
/** @import { Source } from "./sources.js" */

const OTHER_VERSION = "Some rows can't be read and stay as they were. The database is of another version than this client. Load the page again.";

/**
 * What a subscription shows: never changed, and the same object until something else is shown.
 *
 * @template {Shown} R
 * @typedef {object} Snapshot
 * @property {readonly R[]} rows in the order in which they are shown
 * @property {State} state
 * @property {boolean} isLoaded whether the rows were read, which stay while the connection is lost
 * @property {boolean} isConnected whether changes arrive as they happen; else they are asked for
 * @property {LiveError | null} error what is wrong at the moment
 * @property {Change<R> | null} latestUpdate the last change that was told
 */

/**
 * Called with the new row; the new and what was told before of it, which is known of all rows that
 * were loaded; the last of it.
 *
 * @template {Shown} R
 * @template {R | null} [Old=R]
 * @typedef {object} RowCallbacks
 * @property {(row: R) => unknown} [onInsert]
 * @property {(row: R, old: Old) => unknown} [onUpdate]
 * @property {(row: R) => unknown} [onDelete]
 * @property {(change: Change<R>) => unknown} [onChange]
 */

/**
 * Rows kept live until `close`. What happens before `ready` is in the rows and not told.
 *
 * @template {Shown} R
 * @template {object} [More={}] what else it shows
 * @extends {Store<Snapshot<R> & More>}
 */
export class Subscription extends Store {
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
  /** @type {Set<{ resolve: () => void, reject: (error: LiveError) => void }>} */
  #waiting = new Set();
  #makeSource;
  #callbacks;
  #order;

  /**
   * `order` sorts rows as they are shown.
   *
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {() => Source<R>} makeSource
   * @param {(rows: R[]) => R[]} order
   * @param {RowCallbacks<R, any>} [callbacks] whose `old` may be null unless all rows are loaded
   */
  constructor(hub, scope, makeSource, order, callbacks = {}) {
    super();
    this.hub = hub;
    this.scope = scope;
    this.#makeSource = makeSource;
    this.#order = order;
    this.#callbacks = callbacks;
    this.source = makeSource();
    if (hub.isClosed) this.isClosed = true;
    else hub.attach(this);
    this.close = this.close.bind(this);
  }

  /** The tables whose changes it follows. */
  get tables() {
    return this.source.tables;
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
    this.end();
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
   * Takes what was broadcast together.
   *
   * @param {Event[]} events
   */
  hear(events) {
    this.take(this.source.hear(events));
  }

  /**
   * Takes a whole catch-up.
   *
   * @param {Event[]} events
   */
  settle(events) {
    this.take(this.source.settle(events));
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
    const changes = await source.reread(server);
    if (source === this.source) this.take(changes);
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
    if (change.eventType === "INSERT") call(onInsert, change.new);
    else if (change.eventType === "UPDATE") call(onUpdate, change.new, change.old);
    else call(onDelete, change.old);
    call(onChange, change);
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

  /**
   * Takes what is to be told.
   *
   * @protected
   * @param {Change<R>[]} changes
   */
  take(changes) {
    if (changes.length) this.#rows = null;
    for (const change of changes) this.#untold.push(change);
  }

  /** @param {LiveError} [error] */
  #wake(error) {
    for (const { resolve, reject } of this.#waiting) error ? reject(error) : resolve();
    this.#waiting.clear();
  }

  /** @returns {readonly R[]} */
  #makeRows() {
    const rows = this.isLoaded ? this.source.rows : [];
    return Object.freeze(this.#order(this.hub.edits.applied(this.tables, rows)));
  }

  /** @override */
  look() {
    const rows = (this.#rows ??= this.#makeRows());
    const state = this.#state;
    const { isLoaded } = this;
    const isConnected = isLoaded && state === "connected";
    return { rows, state, isLoaded, isConnected, error: this.#error, latestUpdate: this.#latest, ...this.more(rows) };
  }

  get #error() {
    const { hub, scope, source } = this;
    return this.#failure ?? hub.error ?? hub.link.refusal(scope) ?? (source.isUnreadable ? new Unreadable(OTHER_VERSION) : null);
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
