/**
 * Rows that the server makes of several tables. What happens to those says that the rows have to be
 * asked for, and the answer says what they are; nothing of it is computed here.
 */

import { Bell } from "../bell.js";
import { asLiveError } from "../errors.js";
import { ofCustomer } from "../scope.js";
import { Subscription } from "../subscription.js";
import { about, backoff, wait } from "../timing.js";

/** @import { CatchUp } from "../catch_up.js" */
/** @import { LiveError } from "../errors.js" */
/** @import { Change, Event, Shown } from "../events.js" */
/** @import { Server } from "../server.js" */
/** @import { RowCallbacks } from "../subscription.js" */

// ms
const AGAIN = 1000;

/**
 * What is asked for, and what of it is known.
 *
 * @template {Shown} R
 */
export class AskedSource {
  isUnreadable = false;
  /** Rung when there is something to ask for. */
  bell = new Bell();
  /** As they were told. @type {Map<string, R>} */
  known = new Map();

  /** What differs, and was not told yet. @type {Change<R>[]} */
  changes = [];

  /** @type {Event[]} */
  #heard = [];

  /**
   * @param {string} name what its changes are told by
   * @param {string[]} tables that the rows are made of
   */
  constructor(name, tables) {
    this.name = name;
    this.tables = new Set(tables);
  }

  get rows() {
    return [...this.known.values()];
  }

  /** After so many ms something is to be asked for although nothing happens. */
  get dueIn() {
    return Infinity;
  }

  /**
   * Whether it is known of what the events are.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    return events.every((event) => event.record || event.old_record);
  }

  /** @param {Event[]} events */
  hear(events) {
    // A broadcast may come a moment before others can see the transaction that it tells of, so what
    // is asked for at once is asked for again.
    if (!this.#heard.length) setTimeout(() => this.settle(this.#heard.splice(0)), AGAIN);
    this.#heard.push(...events);
    return this.settle(events);
  }

  /**
   * @param {Event[]} events
   * @returns {Change<R>[]}
   */
  settle(events) {
    this.note(events);
    this.bell.ring();
    return [];
  }

  /** @param {Server} server */
  async load(server) {
    this.doubt();
    await this.ask(server);
    this.changes = [];
  }

  /** @returns {Promise<Change<R>[]>} */
  async reread() {
    this.doubt();
    return [];
  }

  /** Has everything be asked for. */
  doubt() {
    this.bell.ring();
  }

  /**
   * Notes what has to be asked for; with each catch-up that ends it is called, also without events.
   *
   * @protected
   * @param {Event[]} _events
   */
  note(_events) {}

  /**
   * Asks for what has been noted.
   *
   * @param {Server} _server
   */
  async ask(_server) {}

  /**
   * Takes what the rows are now; what differs is in `changes`.
   *
   * @protected
   * @param {Map<string, R>} now
   * @param {(row: R) => boolean} [isTold] of those that are new here
   */
  replace(now, isTold = () => true) {
    const { known: before, changes, name: table } = this;
    this.known = now;
    for (const [id, old] of before) if (!now.has(id)) changes.push({ table, eventType: "DELETE", new: null, old });
    for (const [id, row] of now) {
      const old = before.get(id);
      if (!old) {
        if (isTold(row)) changes.push({ table, eventType: "INSERT", new: row, old: null });
      } else if (old !== row && newOf(old, row) === row) changes.push({ table, eventType: "UPDATE", new: row, old });
      else now.set(id, old);
    }
  }
}

/**
 * What is shown from now on: the same object where nothing differs.
 *
 * @template T
 * @param {T} old
 * @param {T} now
 */
export function newOf(old, now) {
  return JSON.stringify(old) === JSON.stringify(now) ? old : now;
}

/**
 * Rows that are asked for when something has happened: at once, and while things go on happening
 * at most once in a while.
 *
 * @template {Shown} R
 * @template {object} [More={}]
 * @extends {Subscription<R, More>}
 */
export class AskedSubscription extends Subscription {
  #bell;

  /**
   * @param {CatchUp} hub
   * @param {() => AskedSource<R>} makeSource
   * @param {RowCallbacks<R>} [callbacks]
   * @param {number} [pause] ms between two questions
   */
  constructor(hub, makeSource, callbacks, pause = 100) {
    const bell = new Bell();
    // in the order of the answers
    super(hub, ofCustomer(), () => Object.assign(makeSource(), { bell }), (rows) => rows, callbacks);
    this.#bell = bell;
    void this.#run(pause);
  }

  /** @protected */
  get asked() {
    return /** @type {AskedSource<R>} */ (this.source);
  }

  /** Asks for everything again. */
  refresh() {
    this.asked.doubt();
  }

  /** @override */
  close() {
    super.close();
    this.#bell.ring();
  }

  /** @param {number} pause */
  async #run(pause) {
    const { hub } = this;
    const { server } = hub;
    let isRefused = false;
    for (let failures = 0; !this.isClosed; ) {
      const isReady = this.isLoaded && !hub.isPaused && !isRefused;
      await this.#bell.wait(isReady ? Math.max(this.asked.dueIn, 0) : Infinity);
      this.#bell.clear();
      // a catch-up follows, and rings
      if (this.isClosed || !this.isLoaded || hub.isPaused) continue;
      const source = this.asked;
      /** @type {LiveError | null} */
      let error = null;
      try {
        await source.ask(server);
      } catch (thrown) {
        error = asLiveError(thrown);
      }
      if (this.isClosed || source !== this.source) continue;
      this.take(source.changes.splice(0));
      this.fail(error);
      this.touch();
      hub.tell();
      isRefused = !!error && !error.retryable;
      if (!error) failures = 0;
      if (error && !isRefused) {
        const { timing } = server;
        await wait(new Bell(), Math.min(backoff(timing, failures++), about(timing.fastPoll)), error.retryAfter);
        this.#bell.ring();
      } else await wait(new Bell(), pause);
    }
  }
}

/**
 * A list that is one answer.
 *
 * @template {Shown} R
 * @extends {AskedSource<R>}
 */
export class AskedList extends AskedSource {
  #isStale = true;
  #read;
  #isOver;

  /**
   * `read` asks for the rows; `isOver` says that they are not right any more since time has gone by.
   *
   * @param {string} name
   * @param {string[]} tables
   * @param {(server: Server) => Promise<R[]>} read
   * @param {(rows: R[]) => boolean} [isOver]
   */
  constructor(name, tables, read, isOver = () => false) {
    super(name, tables);
    this.#read = read;
    this.#isOver = isOver;
  }

  /** @override */
  isSure() {
    // whichever row it was, all are asked for
    return true;
  }

  /** @override */
  doubt() {
    this.#isStale = true;
    super.doubt();
  }

  /** @override @param {Event[]} events */
  note(events) {
    if (events.length || this.#isOver(this.rows)) this.doubt();
  }

  /** @override @param {Server} server */
  async ask(server) {
    if (!this.#isStale) return;
    this.#isStale = false;
    try {
      this.replace(new Map((await this.#read(server)).map((row) => [row.id, Object.freeze(row)])));
    } catch (error) {
      this.#isStale = true;
      throw error;
    }
  }
}
