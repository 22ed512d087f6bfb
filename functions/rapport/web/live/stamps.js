/**
 * How new what is known of a row is: its version, and whether it is gone. A delete has the
 * version of what it deletes.
 *
 * @typedef {[version: number, gone: boolean]} Stamp
 */

/**
 * A row, or that it is gone.
 *
 * @template {import("./rows.js").Row} R
 * @typedef {object} Known
 * @property {R | null} row
 * @property {number} version
 * @property {number} heardAt when it was last heard of, by the ledger's own count
 * @property {boolean} isDoubtful found missing by a re-read, after which version is unknown
 */

/**
 * Whether a stamp is news to what is known.
 *
 * @param {Known<any>} known
 * @param {Stamp} stamp
 */
export function isNews(known, [version, gone]) {
  return version > known.version || (version === known.version && gone && known.row !== null);
}

/**
 * The stamp of an entry of the log, whose row may be newer than the entry.
 *
 * @param {import("./events.js").Event} event
 * @returns {Stamp}
 */
export function stampOf({ version, record }) {
  return [Math.max(version, Number(record?.version ?? version)), record === null];
}

/**
 * Whether one stamp is at least as new as another.
 *
 * @param {Stamp} a
 * @param {Stamp} b
 */
export function isAsNew(a, b) {
  return a[0] > b[0] || (a[0] === b[0] && a[1] >= b[1]);
}
