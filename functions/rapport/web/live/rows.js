/**
 * Rows of the followed tables as a client sees them: as JSON has them, times as ISO 8601 texts,
 * amounts in minor units of the currency. Columns that are not named in `database.types.ts` may
 * come too, and words that a newer database has.
 */

/** @import { Tables, Told } from "../database.types.js" */

/**
 * What every followed row has; a newer state of a row has a higher version.
 *
 * @typedef {object} Row
 * @property {string} id
 * @property {string} account_id
 * @property {number} version
 * @property {string} updated_at
 *
 * @typedef {Readonly<Told["jobs"]>} Job an appointment
 * @typedef {Readonly<Told["invoices"]>} Invoice
 * @typedef {Readonly<Told["loyalty_transactions"]>} LoyaltyTransaction
 * @typedef {Readonly<Told["messages"]>} Message
 * @typedef {Readonly<Told["customers"]>} Profile a customer as it may see itself
 * @typedef {Readonly<Tables<"contacts_v2">>} ContactV2 a contact as the contacts page shows it
 * @typedef {Readonly<Tables<"contacts_live_chat">>} LiveChatContact a contact as the live chat shows it
 */

const NUMBERS = new Set(["version", "seq", "points", "amount_minor", "tax_minor"]);
const EVERY = ["id", "account_id", "version", "updated_at", "created_at"];

/**
 * The columns that every row of a table has; of a table that is not named here, EVERY.
 *
 * @type {Record<string, string[]>}
 */
const COLUMNS = {
  jobs: [...EVERY, "customer_id", "status", "service_type", "starts_at"],
  invoices: [...EVERY, "customer_id", "status", "number", "currency", "amount_minor", "tax_minor"],
  loyalty_transactions: [...EVERY, "customer_id", "points", "type"],
  messages: [...EVERY, "conversation_id", "seq", "sender_type", "type", "message", "status"],
  contacts: [...EVERY, "status"],
  conversations: [...EVERY, "channel", "status"],
};

/**
 * A row of a table; null where it can't be read.
 *
 * @template {Row} R
 * @param {string} table
 * @param {import("./events.js").Json} record
 * @returns {R | null}
 */
export function readRow(table, record) {
  const isRow = (COLUMNS[table] ?? EVERY).every((column) =>
    NUMBERS.has(column) ? Number.isSafeInteger(record[column]) : typeof record[column] === "string",
  );
  return isRow ? /** @type {R} */ (Object.freeze(record)) : null;
}
