/** @import { Store } from "./live_element.js" */

/**
 * A part of the rows that a store shows, as a store of its own.
 *
 * @template R
 * @template {{ rows: readonly R[] }} S
 * @param {Store<S>} store
 * @param {(row: S["rows"][number]) => boolean} keep
 * @returns {Store<S>}
 */
export function filtered(store, keep) {
  /** @type {S | null} */
  let whole = null;
  /** @type {S | null} */
  let part = null;
  return {
    getSnapshot() {
      const now = store.getSnapshot();
      if (now !== whole || !part) {
        whole = now;
        part = { ...now, rows: now.rows.filter(keep) };
      }
      return part;
    },
    subscribe: (listener) => store.subscribe(listener),
  };
}
