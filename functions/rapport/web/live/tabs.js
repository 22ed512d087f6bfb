/**
 * One socket for all tabs of a login: the tab that holds the lock joins what any of them wants and
 * passes on what it hears. What a tab does with that is its own affair, with its own cursor: when
 * the leader is gone another tab leads, and each catches up.
 */

import { NotAllowed, Unavailable } from "./errors.js";

/** @import { LiveError } from "./errors.js" */

/**
 * How the leader is doing.
 *
 * @typedef {{ joined: string[], refused: string[], error: string | null }} News
 *
 * @typedef {object} Keeper
 * @property {(name: string, event: string, payload: unknown) => void} receive takes what the leader has heard
 * @property {() => News} news
 * @property {() => void} wake another tab leads, or this one, or there are news
 */

export class Tabs {
  /** Whether this tab has a socket of its own, as always where tabs can't talk to each other. */
  isLeader = true;
  /** What other tabs want to be joined. @type {Set<string>} */
  asked = new Set();
  /** @type {Map<string, SharedTopic>} */
  topics = new Map();
  #login = "";
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #resign = () => {};
  #said = "";
  #keeper;

  /** @param {Keeper} keeper */
  constructor(keeper) {
    this.#keeper = keeper;
  }

  /**
   * Goes to the tabs of a login.
   *
   * @param {string} login
   */
  async enter(login) {
    if (login === this.#login) return;
    this.leave();
    this.#login = login;
    if (typeof window === "undefined" || !navigator.locks) return;
    this.isLeader = false;
    this.#channel = new BroadcastChannel(login);
    this.#channel.onmessage = ({ data }) => this.#take(data);
    const { signal } = (this.#leaving = new AbortController());
    await new Promise((known) => void this.#compete({ ifAvailable: true }, known));
    if (!this.isLeader) void this.#compete({ signal });
  }

  #leaving = new AbortController();

  /** Leaves them; another may lead. */
  leave() {
    this.#login = "";
    this.#channel?.close();
    this.#channel = null;
    this.#leaving.abort();
    this.#resign();
    this.asked.clear();
    this.isLeader = true;
  }

  /** Leads although another does, who does not answer. */
  steal() {
    if (!this.isLeader) void this.#compete({ steal: true });
  }

  /**
   * Tells the other tabs what the leader has heard.
   *
   * @param {[name: string, event: string, payload: unknown]} heard
   */
  pass(...heard) {
    if (this.isLeader) this.#channel?.postMessage({ heard });
  }

  /** Tells the other tabs how the leader is doing, if that has changed. */
  announce(isAsked = false) {
    if (!this.isLeader || !this.#channel) return;
    const news = this.#keeper.news();
    const said = JSON.stringify(news);
    if (said !== this.#said || isAsked) this.#channel.postMessage({ news });
    this.#said = said;
  }

  /**
   * Asks the leader to join a topic.
   *
   * @param {string} name
   */
  want(name) {
    this.#channel?.postMessage({ want: name });
  }

  /**
   * @param {LockOptions} options
   * @param {(known: unknown) => void} [known]
   */
  async #compete(options, known) {
    const login = this.#login;
    try {
      await navigator.locks.request(login, options, (lock) => {
        if (!lock || login !== this.#login) return known?.(null);
        this.isLeader = true;
        this.#said = "";
        this.#keeper.wake();
        known?.(null);
        return new Promise((resolve) => (this.#resign = () => resolve(null)));
      });
    } catch {
      // another leads, as this tab has not answered; or it has left
      if (login !== this.#login) return;
      this.isLeader = false;
      this.#keeper.wake();
      void this.#compete({ signal: this.#leaving.signal });
    }
  }

  /** @param {any} said */
  #take({ heard, news, want }) {
    if (this.isLeader) {
      if (!want) return;
      this.asked.add(want);
      this.announce(true);
      this.#keeper.wake();
    } else if (heard) {
      if (this.topics.get(heard[0])?.isJoined) this.#keeper.receive(.../** @type {[string, string, unknown]} */ (heard));
    } else if (news) {
      for (const topic of this.topics.values()) topic.take(news);
      this.#keeper.wake();
    }
  }
}

/** A topic that another tab has joined for this one; see Topic. */
export class SharedTopic {
  isShared = true;
  isJoined = false;
  room = undefined;
  #isHeard = false;
  /** @type {((error?: LiveError) => void) | null} */
  #answer = null;
  #tabs;
  #name;

  /**
   * @param {Tabs} tabs
   * @param {string} name
   */
  constructor(tabs, name) {
    this.#tabs = tabs;
    this.#name = name;
    tabs.topics.set(name, this);
  }

  /**
   * Joins, as Topic does.
   *
   * @param {number} timeout
   * @returns {Promise<void>}
   */
  join(timeout) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (!this.#isHeard) this.#tabs.steal();
        this.#answer?.(new Unavailable("Live updates are away (another tab). Changes are asked for meanwhile."));
      }, timeout);
      this.#answer = (error) => {
        clearTimeout(timer);
        this.#answer = null;
        error ? reject(error) : resolve();
      };
      this.#tabs.want(this.#name);
    });
  }

  /**
   * Takes how the leader is doing.
   *
   * @param {News} news
   */
  take({ joined, refused, error }) {
    this.#isHeard = true;
    this.isJoined = joined.includes(this.#name);
    if (this.isJoined) this.#answer?.();
    else if (refused.includes(this.#name)) this.#answer?.(new NotAllowed("You may not follow this, or not any more."));
    else if (error) this.#answer?.(new Unavailable(error));
  }

  /** Leaves it; others may go on. */
  async leave() {
    this.isJoined = false;
    this.#tabs.topics.delete(this.#name);
    this.#answer?.(new Unavailable("The topic was left."));
  }
}
