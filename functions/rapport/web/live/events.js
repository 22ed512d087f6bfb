/**
 * A row as JSON has it, before it is known to be one.
 *
 * @typedef {Record<string, unknown>} Json
 */

/**
 * What a broadcast or an entry of `changes_since` tells of one row. No `record` is a hint to read
 * the row, or with DELETE, that it is gone. Broadcasts alone tell `old_record`.
 *
 * @typedef {object} Event
 * @property {string} table
 * @property {string} id
 * @property {number} version
 * @property {"INSERT" | "UPDATE" | "DELETE"} operation
 * @property {Json | null} record
 * @property {Json | null} old_record
 */

/**
 * What subscriptions show: a row of a table, or what the server makes of several.
 *
 * @typedef {{ readonly id: string }} Shown
 */

/**
 * What subscriptions tell: INSERT has no `old`, DELETE no `new`. `old` is what was told of the row
 * before; null with UPDATE where the row was there before the subscription and was not loaded.
 *
 * `eventType` is as in the payloads of `postgres_changes`.
 *
 * @template {Shown} [R=import("./rows.js").Row]
 * @typedef {{ table: string } & (
 *   | { eventType: "INSERT", new: R, old: null }
 *   | { eventType: "UPDATE", new: R, old: R | null }
 *   | { eventType: "DELETE", new: null, old: R }
 * )} Change
 */

const OPERATIONS = ["INSERT", "UPDATE", "DELETE"];

/**
 * Reads what came from outside; null where a database of another version says something that this
 * client does not know.
 *
 * @param {unknown} json
 * @returns {Event | null}
 */
export function readEvent(json) {
  const { table, id, version, operation, record = null, old_record = null } = /** @type {any} */ (json ?? {});
  if (
    typeof table !== "string" ||
    typeof id !== "string" ||
    !Number.isSafeInteger(version) ||
    !OPERATIONS.includes(operation) ||
    typeof record !== "object" ||
    typeof old_record !== "object"
  ) {
    return null;
  }
  return { table, id, version, operation, record, old_record };
}
