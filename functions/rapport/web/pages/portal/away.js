import { listOf } from "@rapport/live/elements/format.js";
import { text } from "@rapport/live/elements/texts.js";

/** @import { Invoice, Job, LoyaltySubscription, MessageSubscription, Subscription } from "@rapport/live" */

/**
 * What has happened since a customer last saw the page. The newest time of all rows that were in
 * sight is kept in the browser: the server's, so the device's clock need not be right.
 */
export class Away {
  #since = 0;
  #newest = 0;
  #place;
  #jobs;
  #invoices;
  #loyalty;
  #messages;

  /**
   * @param {string} customerId
   * @param {Subscription<Job, {}>} jobs
   * @param {Subscription<Invoice, {}>} invoices
   * @param {LoyaltySubscription} loyalty
   * @param {MessageSubscription} messages
   */
  constructor(customerId, jobs, invoices, loyalty, messages) {
    this.#jobs = jobs;
    this.#invoices = invoices;
    this.#loyalty = loyalty;
    this.#messages = messages;
    this.#place = `rapport-seen ${customerId}`;
    this.#since = this.#newest = Number(localStorage.getItem(this.#place)) || 0;
  }

  /** Notes that the customer sees all that there is. */
  note() {
    const times = [this.#jobs, this.#invoices, this.#loyalty, this.#messages].flatMap((one) =>
      one.look().rows.map((row) => Date.parse(row.updated_at)),
    );
    const newest = times.reduce((max, time) => Math.max(max, time), this.#newest);
    if (newest === this.#newest) return;
    this.#newest = newest;
    localStorage.setItem(this.#place, String(newest));
  }

  /** The customer looks away from now on. */
  leave() {
    this.#since = this.#newest;
  }

  /** A sentence about what is newer than the last look, or nothing. */
  words() {
    const since = this.#since;
    // the first visit misses nothing
    if (!since) return "";
    /** @param {string | null | undefined} time */
    const isNew = (time) => !!time && Date.parse(time) > since;
    const jobs = this.#jobs.look().rows.filter(({ updated_at }) => isNew(updated_at));
    const invoices = this.#invoices.look().rows.filter(({ updated_at }) => isNew(updated_at));
    const lines = this.#loyalty.look().rows.filter(({ created_at, points }) => points > 0 && isNew(created_at));
    const { rows } = this.#messages.look();
    const sent = invoices.filter(({ sent_at }) => isNew(sent_at));
    const newJobs = jobs.filter(({ created_at }) => isNew(created_at)).length;
    const counts = /** @type {const} */ ([
      ["portal.away.jobs.new", newJobs],
      ["portal.away.jobs.changed", jobs.length - newJobs],
      ["portal.away.invoices.new", sent.length],
      ["portal.away.invoices.paid", invoices.filter((one) => one.status === "paid" && !sent.includes(one)).length],
      ["portal.away.invoices.overdue", invoices.filter((one) => one.status === "overdue" && !sent.includes(one)).length],
      ["portal.away.messages", rows.filter(({ sender_type, created_at }) => sender_type === "operator" && isNew(created_at)).length],
      ["portal.away.points", lines.reduce((sum, { points }) => sum + points, 0)],
    ]);
    const parts = counts.filter(([, n]) => n).map(([key, n]) => text(key, { n }));
    return parts.length ? text("portal.away", { what: listOf(parts) }) : "";
  }
}
