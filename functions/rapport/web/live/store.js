import { call } from "./errors.js";

/**
 * What is shown, in the shape that React, Vue, Svelte and Lit take: a snapshot, and who is told
 * when it is another one.
 *
 * @template {object} S the snapshot
 */
export class Store {
  /** @type {Readonly<S> | null} */
  #snapshot = null;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  constructor() {
    // bound, as frameworks hand them on
    this.getSnapshot = this.getSnapshot.bind(this);
    this.subscribe = this.subscribe.bind(this);
    this.notify = this.notify.bind(this);
  }

  /** What is shown at the moment: the same object until something else is. */
  getSnapshot() {
    return (this.#snapshot ??= Object.freeze(this.look()));
  }

  /**
   * Calls a function after every change of the snapshot; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.getSnapshot();
    // each call ends on its own, even if the same function is passed twice
    const own = () => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Calls the listeners of the snapshot, if it has changed. */
  notify() {
    const before = this.#snapshot;
    if (!before) return;
    const now = this.look();
    const keys = /** @type {(keyof S)[]} */ (Object.keys(now));
    if (keys.every((key) => isSame(now[key], before[key]))) return;
    this.#snapshot = Object.freeze(now);
    for (const listener of [...this.#listeners]) call(listener);
  }

  /** Calls the listeners for the last time. */
  end() {
    this.notify();
    this.#listeners.clear();
  }

  /**
   * Each store shows something of its own.
   *
   * @protected
   * @returns {S} what is shown
   */
  look() {
    throw new Error();
  }
}

/**
 * @param {unknown} a
 * @param {unknown} b
 */
function isSame(a, b) {
  return a === b || (a instanceof Error && b instanceof Error && a.name === b.name && a.message === b.message);
}
