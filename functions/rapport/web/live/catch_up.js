/**
 * Brings changes to the subscriptions: by broadcast as they happen, and the missed ones by cursor.
 *
 * A broadcast is a hint. A gap, a row that is too large to send, or a resync is a reason to catch up
 * at once; the slow poll finds everything else. First the cursor
 * is taken, then rows are read, then the log is followed from the cursor: nothing falls between.
 *
 * The changes of one transaction are never seen apart: each of its broadcasts has their number, and
 * they are taken together or not at all. A catch-up ends at a moment of the database. All
 * subscriptions take the one or the other before any of it is told.
 */

import { Bell } from "./bell.js";
import { Edits } from "./edits.js";
import { NotSignedIn, Unreadable, asLiveError, call, report } from "./errors.js";
import { readEvent } from "./events.js";
import { Topics } from "./topics.js";
import { about, backoff, wait } from "./timing.js";

/** @import { LiveError } from "./errors.js" */
/** @import { Change, Event } from "./events.js" */
/** @import { Server } from "./server.js" */
/** @import { Subscription } from "./subscription.js" */

/**
 * connected: changes arrive as they happen; polling: they are asked for, since Realtime is away;
 * offline: the server or the network is away, or following is paused; error: the server refuses.
 *
 * @typedef {"connecting" | "connected" | "polling" | "offline" | "error" | "needs-auth" | "closed"} State
 */

/**
 * @param {LiveError} error
 * @returns {State}
 */
export function stateOf(error) {
  if (error instanceof NotSignedIn) return "needs-auth";
  return error.retryable ? "offline" : "error";
}

/** The subscriptions of one user, and the one catch-up for all of them. */
export class CatchUp {
  /** @type {LiveError | null} */
  error = null;
  isRunning = false;
  isPaused = false;
  isClosed = false;
  /** Called with all that was told at once. @type {Set<(changes: readonly Change[]) => void>} */
  checkpoints = new Set();
  /** Called when anything that is shown may have changed. @type {Set<() => void>} */
  watchers = new Set();
  /** @type {Set<Subscription<any>>} */
  #followers = new Set();
  /** @type {Set<Subscription<any>>} */
  #stale = new Set();
  /** @type {string | null} */
  #user = null;
  /** @type {string | null} */
  #cursor = null;
  /** Pages of a catch-up that has not come to its end. @type {Event[]} */
  #events = [];
  #isBetweenPages = false;
  /** @type {((_: unknown) => void)[]} */
  #waitingForEnd = [];
  /** What was heard of transactions that are not whole yet, by topic. @type {Map<string, Event[]>} */
  #parts = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #waiting;
  #bell = new Bell();
  #pause = new Bell();
  #run = 0;
  #done = Promise.resolve();
  #hasCaughtUp = false;
  #isTelling = false;
  #isExpecting = false;

  /** @param {Server} server */
  constructor(server) {
    this.server = server;
    this.edits = new Edits(this);
    this.link = new Topics(server, this.#hear, () => {
      this.request();
      this.tell();
    });
  }

  /**
   * How it goes, in a word.
   *
   * @returns {State}
   */
  get state() {
    if (this.isClosed) return "closed";
    if (this.isPaused) return "offline";
    if (this.error) return stateOf(this.error);
    if (this.#hasCaughtUp && this.link.isLive) return "connected";
    return this.#hasCaughtUp && this.link.error ? "polling" : "connecting";
  }

  /** Begins, or goes on, to follow; with the first that is followed it begins by itself. */
  start() {
    this.isPaused = false;
    if (this.isRunning || this.isClosed) return;
    this.isRunning = true;
    this.link.start();
    const run = ++this.#run;
    // one catch-up at a time
    this.#done = this.#done.then(() => this.#loop(run));
  }

  /** Takes the cursor for the first subscription, which comes soon and then does not wait for it. */
  expect() {
    this.#isExpecting = true;
    this.start();
  }

  /** Ends the connection and the polls; what is known stays, for `start` to go on from. */
  async stop() {
    this.isPaused = true;
    this.isRunning = false;
    this.#run++;
    this.#bell.ring();
    this.#pause.ring();
    this.#giveUpParts();
    // where no topic is left, nothing else would say so
    this.tell();
    await this.link.stop();
  }

  /** Ends everything, and every subscription. */
  async close() {
    this.isClosed = true;
    for (const follower of [...this.#followers]) follower.close();
    await this.stop();
    this.tell();
  }

  /**
   * Takes a subscription on; its rows are read soon.
   *
   * @param {Subscription<any>} follower
   */
  attach(follower) {
    this.#followers.add(follower);
    this.link.want(follower.scope);
    this.request();
    if (!this.isPaused) this.start();
  }

  /**
   * Lets a subscription go.
   *
   * @param {Subscription<any>} follower
   */
  detach(follower) {
    this.#followers.delete(follower);
    this.#stale.delete(follower);
    this.link.unwant(follower.scope);
  }

  /** Catches up soon. */
  request() {
    this.#bell.ring();
  }

  /** Tries again at once, since the network is back or somebody has signed in. */
  hurry() {
    this.#pause.ring();
    this.link.hurry();
    this.link.refresh();
    this.request();
  }

  /**
   * Takes a whole transaction that was broadcast, or what the server has answered with; false where
   * only a catch-up can tell it.
   *
   * @param {Event[]} events
   */
  take(events) {
    // what comes while rows are being read is in the log as well
    const loaded = [...this.#followers].filter(({ isLoaded }) => isLoaded);
    // rows that are read anew are not of one moment
    if (this.#stale.size || !loaded.every((follower) => follower.isSure(of(follower, events)))) {
      this.request();
      return false;
    }
    for (const follower of loaded) {
      this.#guard(follower, () => follower.hear(of(follower, events)));
    }
    this.tell();
    return true;
  }

  /** Waits until the log has been followed to its end. */
  caughtUp() {
    return new Promise((resolve) => this.#waitingForEnd.push(resolve));
  }

  /**
   * Has the rows of a table be shown anew.
   *
   * @param {string} table
   */
  touch(table) {
    for (const follower of this.#followers) if (follower.tables.has(table)) follower.touch();
    this.tell();
  }

  /** Tells the changes that subscriptions have taken: callbacks first, then the listeners of snapshots. */
  tell() {
    // what callbacks bring about is told by the one who called them
    if (this.#isTelling) return;
    this.#isTelling = true;
    try {
      for (;;) {
        const told = [];
        const followers = [...this.#followers];
        for (const follower of followers) for (const change of follower.untold()) told.push({ follower, change });
        for (const { follower, change } of told) follower.tell(change);
        for (const follower of followers) follower.notify();
        for (const watch of [...this.watchers]) call(watch);
        if (!told.length) break;
        const changes = Object.freeze(told.map(({ change }) => change));
        for (const checkpoint of [...this.checkpoints]) call(checkpoint, changes);
      }
    } finally {
      this.#isTelling = false;
    }
  }

  /**
   * @param {string} name
   * @param {any} payload
   * @param {string} topic
   */
  #hear = (name, payload, topic) => {
    if (!this.isRunning) return;
    if (name === "topics.changed") this.link.rename();
    else if (name !== "resync") {
      const event = readEvent(payload);
      if (event) return this.#gather(event, `${topic} ${payload.transaction}`, payload.count);
    }
    // too much to be told one by one, or not to be read: the log has it
    this.request();
  };

  /**
   * Waits for all that a transaction has told a topic.
   *
   * @param {Event} event
   * @param {string} key
   * @param {number} [count]
   */
  #gather(event, key, count = 1) {
    const events = [...(this.#parts.get(key) ?? []), event];
    if (events.length < count) {
      this.#parts.set(key, events);
      this.#waiting ??= setTimeout(() => this.#giveUpParts(), this.server.timing.gather);
      return;
    }
    this.#parts.delete(key);
    this.take(events);
  }

  /** Leaves to the log what did not come whole. */
  #giveUpParts() {
    clearTimeout(this.#waiting);
    this.#waiting = undefined;
    if (this.#parts.size) this.request();
    this.#parts.clear();
  }

  /** @param {number} run */
  async #loop(run) {
    const { timing } = this.server;
    for (let failures = 0; run === this.#run; ) {
      this.#bell.clear();
      try {
        await this.#catchUp(run);
        if (run !== this.#run) return;
        if (this.error) {
          this.error = null;
          this.link.hurry();
        }
        failures = 0;
        this.#hasCaughtUp = true;
        this.tell();
        for (const resolve of this.#waitingForEnd.splice(0)) resolve(null);
        await this.#bell.wait(about(this.link.isLive ? timing.slowPoll : timing.fastPoll));
      } catch (error) {
        if (run !== this.#run) return;
        this.error = asLiveError(error);
        this.tell();
        this.#pause.clear();
        if (error instanceof NotSignedIn && this.#user) await this.server.renew();
        // requests are many while something is wrong: none hurries this
        await wait(this.#pause, Math.min(backoff(timing, failures++), about(timing.fastPoll)), this.error.retryAfter);
      }
    }
  }

  /** @param {number} run */
  async #catchUp(run) {
    if (!this.#followers.size && !(this.#isExpecting && this.#cursor === null)) {
      // who comes next begins anew
      this.#cursor = null;
      this.#isExpecting = false;
      return;
    }
    await this.#knowUser();
    if (this.#cursor === null) {
      this.#cursor = (await this.server.changesSince(null)).cursor;
      this.#events = [];
      this.#isBetweenPages = false;
      if (!this.#followers.size) return;
    } else if (!this.#isExpecting && [...this.#followers].some(({ isLoaded }) => !isLoaded)) {
      // what has happened before a subscription is not told to it
      await this.#followLog(run);
    }
    this.#isExpecting = false;
    await this.#readRows(run);
    await this.#followLog(run);
  }

  /** Forgets everything when somebody else signs in, or nobody is: it was told to another. */
  async #knowUser() {
    const user = await this.server.session().then(
      (session) => session.user,
      (error) => {
        if (!(error instanceof NotSignedIn)) throw error;
        this.#become(null);
        throw error;
      },
    );
    this.#become(user);
  }

  /** @param {string | null} user */
  #become(user) {
    if (user === this.#user) return;
    this.#user = user;
    this.#cursor = null;
    this.#stale.clear();
    for (const follower of this.#followers) follower.forget();
    this.link.refresh();
  }

  /**
   * Settles what the log has, up to the moment of its last answer.
   *
   * @param {number} run
   */
  async #followLog(run) {
    const user = this.#user;
    const followers = [...this.#followers].filter(({ isLoaded }) => isLoaded);
    for (;;) {
      // pages lead to where the first of them was asked for: only an answer in one page tells of
      // this moment
      const beginsAnew = !this.#isBetweenPages;
      const page = await this.server.changesSince(this.#cursor);
      if (run !== this.#run || user !== this.#user) return;
      this.#cursor = page.cursor;
      this.#isBetweenPages = page.more;
      if (page.resync) {
        this.#events = [];
        for (const follower of followers) this.#stale.add(follower);
        this.link.refresh();
        await this.#readRows(run);
        continue;
      }
      for (const event of page.changes) this.#events.push(event);
      if (beginsAnew && !page.more) break;
    }
    const events = this.#events;
    this.#events = [];
    for (const follower of followers) {
      // the log has moved on: one that can't take what it had reads again
      this.#guard(follower, () => follower.settle(of(follower, events)));
    }
    this.tell();
  }

  /**
   * Reads the rows of new subscriptions, and of all after a resync: one after the other, since the
   * server lets a user read one thing at a time. What was subscribed to first is shown first.
   *
   * @param {number} run
   */
  async #readRows(run) {
    const user = this.#user;
    // what is read anew is told with all else of its moment
    const isShown = !this.#stale.size;
    for (const follower of [...this.#followers]) {
      if (run !== this.#run || user !== this.#user) return;
      try {
        if (this.#stale.has(follower)) {
          await follower.reread(this.server);
          this.#stale.delete(follower);
        } else if (!follower.isLoaded) {
          await follower.load(this.server);
        } else {
          continue;
        }
        follower.fail(null);
        if (isShown) this.tell();
      } catch (thrown) {
        const error = asLiveError(thrown);
        if (error instanceof NotSignedIn) throw error;
        // one that can't be read keeps the others waiting only while none can
        follower.fail(error);
        if (error.retryable) throw error;
      }
    }
  }

  /**
   * @param {Subscription<any>} follower
   * @param {() => void} take
   */
  #guard(follower, take) {
    try {
      take();
    } catch (error) {
      report(error);
      follower.fail(new Unreadable("The database has rows that can't be read."));
      this.#stale.add(follower);
      this.request();
    }
  }
}

/**
 * The events that a subscription follows.
 *
 * @param {Subscription<any>} follower
 * @param {Event[]} events
 */
function of({ tables }, events) {
  return events.filter(({ table }) => tables.has(table));
}
