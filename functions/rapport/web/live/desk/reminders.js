/** What the rules of an account will send, as the server computes it. */

import { AskedList, AskedSubscription } from "./asked.js";

/** @import { Database } from "../../database.types.js" */
/** @import { CatchUp } from "../catch_up.js" */
/** @import { Server } from "../server.js" */
/** @import { RowCallbacks } from "../subscription.js" */

/**
 * A reminder to come. Its `id` is made of its rule, its occasion and its time: one that is moved is
 * another.
 *
 * @typedef {Readonly<Database["public"]["Functions"]["upcoming_reminders"]["Returns"]["reminders"][number] & { id: string }>} Reminder
 *
 * @typedef {{ accountId: string, days: number, pageSize: number }} Wanted
 */

const TABLES = ["jobs", "invoices", "loyalty_transactions", "reminder_rules", "contacts"];
const DAY = 86_400_000;
const MOST = 200;
// ms between two questions: an answer is computed of all that is due
const PAUSE = 3000;

/** @extends {AskedSubscription<Reminder, { hasMore: boolean }>} */
export class ReminderSubscription extends AskedSubscription {
  #wanted;
  #pages;

  /**
   * @param {CatchUp} hub
   * @param {Wanted} wanted
   * @param {RowCallbacks<Reminder>} [callbacks]
   */
  constructor(hub, wanted, callbacks) {
    const pages = { size: wanted.pageSize, hasMore: false };
    const makeSource = () => new AskedList("upcoming_reminders", TABLES, (server) => read(server, wanted, pages), isOver);
    super(hub, makeSource, callbacks, PAUSE);
    this.#wanted = wanted;
    this.#pages = pages;
  }

  /** Loads a further page, if there is one. */
  loadMore() {
    if (!this.#pages.hasMore) return;
    this.#pages.size += this.#wanted.pageSize;
    this.refresh();
  }

  /** @override */
  more() {
    return { hasMore: this.#pages.hasMore };
  }
}

/**
 * @param {Server} server
 * @param {Wanted} wanted
 * @param {{ size: number, hasMore: boolean }} pages
 */
async function read(server, { accountId, days }, pages) {
  const until = new Date(Date.now() + days * DAY).toISOString();
  /** @type {Reminder[]} */
  const found = [];
  for (let cursor = null; ; ) {
    const page_size = Math.min(MOST, pages.size - found.length);
    const answer = /** @type {Database["public"]["Functions"]["upcoming_reminders"]["Returns"]} */ (
      await server.rpc("upcoming_reminders", { account_id: accountId, until, cursor, page_size })
    );
    for (const reminder of answer.reminders) {
      const { rule_id, job_id, invoice_id, customer_id, due_at } = reminder;
      found.push({ ...reminder, id: [rule_id, job_id ?? invoice_id ?? customer_id, due_at].join(" ") });
    }
    cursor = answer.cursor;
    pages.hasMore = !!cursor;
    if (!cursor || found.length >= pages.size) return found;
  }
}

/**
 * Whether the first has been sent by now.
 *
 * @param {Reminder[]} reminders
 */
function isOver(reminders) {
  return reminders.some(({ send_at }) => send_at && Date.parse(send_at) < Date.now());
}
