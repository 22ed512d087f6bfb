/**
 * Rows of the followed tables as a client sees them: as JSON has them, times as ISO 8601 texts,
 * amounts in minor units of the currency. Columns that are not named here may come too.
 *
 * @typedef {object} Row what every followed row has; a newer state of a row has a higher version
 * @property {string} id
 * @property {string} account_id
 * @property {number} version
 * @property {string} updated_at
 *
 * @typedef {object} JobColumns
 * @property {string} customer_id
 * @property {"scheduled" | "rescheduled" | "in_progress" | "completed" | "cancelled"} status
 * @property {string} service_type
 * @property {string} starts_at
 * @property {string | null} ends_at
 * @property {string | null} address
 * @property {string | null} description
 * @property {string} created_at
 * @typedef {Readonly<Row & JobColumns>} Job an appointment
 *
 * @typedef {object} InvoiceColumns
 * @property {string} customer_id
 * @property {"draft" | "sent" | "paid" | "overdue" | "void"} status
 * @property {string} number
 * @property {string} currency
 * @property {number} amount_minor
 * @property {number} tax_minor among the amount
 * @property {string | null} job_id
 * @property {string | null} description
 * @property {string | null} issued_on
 * @property {string | null} due_on the last day to pay it, in the account's time zone
 * @property {string | null} sent_at
 * @property {string | null} paid_at
 * @property {string | null} voided_at
 * @property {string} created_at
 * @typedef {Readonly<Row & InvoiceColumns>} Invoice
 *
 * @typedef {object} TransactionColumns
 * @property {string} customer_id
 * @property {number} points negative where they are redeemed or expire
 * @property {"earned" | "redeemed" | "bonus" | "expired"} type
 * @property {string | null} description
 * @property {string | null} expires_on the last day to redeem them, in the account's time zone
 * @property {string} created_at
 * @typedef {Readonly<Row & TransactionColumns>} LoyaltyTransaction
 *
 * @typedef {object} MessageColumns
 * @property {string} conversation_id
 * @property {string | null} customer_id null in a group
 * @property {number} seq counts 1, 2, 3 … in its conversation
 * @property {"client" | "operator" | "system"} sender_type
 * @property {string | null} sender_id
 * @property {string | null} sender_name
 * @property {string} type
 * @property {string} message
 * @property {any} content
 * @property {string | null} reply_to
 * @property {string | null} client_ref
 * @property {"queued" | "sent" | "delivered" | "read" | "failed" | "unknown"} status
 * @property {string | null} booking_id
 * @property {boolean} [is_history] read from the phone app's history: it is never unread
 * @property {boolean} has_invoice
 * @property {any} invoice_data
 * @property {any} reactions
 * @property {string | null} sent_at
 * @property {string | null} delivered_at
 * @property {string | null} read_at
 * @property {string | null} edited_at
 * @property {string | null} revoked_at
 * @property {number | null} error_code
 * @property {string | null} error_message
 * @property {string} created_at
 * @typedef {Readonly<Row & MessageColumns>} Message
 *
 * @typedef {object} ProfileColumns
 * @property {string | null} name
 * @property {string | null} phone
 * @property {string | null} email
 * @property {Record<string, unknown>} preferences
 * @property {string | null} portal_user_id
 * @property {string} created_at
 * @typedef {Readonly<Row & ProfileColumns>} Profile a customer as it may see itself
 */

const NUMBERS = new Set(["version", "seq", "points", "amount_minor", "tax_minor"]);
const EVERY = ["id", "account_id", "version", "updated_at", "created_at"];

/**
 * The columns that every row of a table has.
 *
 * @type {Record<string, string[]>}
 */
const COLUMNS = {
  jobs: [...EVERY, "customer_id", "status", "service_type", "starts_at"],
  invoices: [...EVERY, "customer_id", "status", "number", "currency", "amount_minor", "tax_minor"],
  loyalty_transactions: [...EVERY, "customer_id", "points", "type"],
  messages: [...EVERY, "conversation_id", "seq", "sender_type", "type", "message", "status"],
  customers: EVERY,
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
  const isRow = COLUMNS[table].every((column) =>
    NUMBERS.has(column) ? Number.isSafeInteger(record[column]) : typeof record[column] === "string",
  );
  return isRow ? /** @type {R} */ (Object.freeze(record)) : null;
}
