import { followInbox } from "@rapport/live/desk";
import { followAnswer } from "./follow.js";

/** @import { InboxBooking } from "@rapport/live/elements/inbox_list.js" */
/** @import { Desk } from "./desk.js" */

/**
 * What the user has chosen to see.
 *
 * @typedef {object} Choice
 * @property {"all" | "mine" | "free"} whose
 * @property {"" | "open" | "pending" | "closed"} status
 * @property {string} labelId
 * @property {boolean} isSnoozed whether those that wait are shown, instead of the others
 * @property {string} query a name, digits of a number, an email, a tag
 */

/** @type {Choice} */
export const EVERYTHING = { whose: "all", status: "", labelId: "", isSnoozed: false, query: "" };

/** The conversations of the desk, as far as they are shown, and what their bookings are about. */
export class Inbox {
  /** The latest answers, by conversation. @type {{ of: unknown, bookings: ReadonlyMap<string, InboxBooking> }} */
  #bookings = { of: null, bookings: new Map() };
  /** Chats of bookings that were asked for. @type {ReadonlySet<string>} */
  #asked = new Set();
  #desk;
  #end;

  /** @param {Pick<Desk, "live" | "account" | "userId">} desk */
  constructor(desk) {
    this.#desk = desk;
    this.choice = EVERYTHING;
    this.rows = followInbox(desk.live, { accountId: desk.account.id, filter: this.#filter });
    this.answers = followAnswer(desk.live, ["jobs"], () => this.#readBookings());
    this.#end = this.rows.subscribe(() => this.#ask());
  }

  /**
   * Shows others from now on.
   *
   * @param {Partial<Choice>} choice
   */
  choose(choice) {
    this.choice = { ...this.choice, ...choice };
    this.rows.setFilter(this.#filter);
  }

  /** What the bookings are about, by the conversations of their chats. */
  get bookings() {
    const { rows } = this.answers.getSnapshot();
    if (this.#bookings.of !== rows) this.#bookings = { of: rows, bookings: new Map(rows.map((row) => [row.id, row])) };
    return this.#bookings.bookings;
  }

  close() {
    this.#end();
    this.rows.close();
    this.answers.close();
  }

  get #filter() {
    const { whose, status, labelId, isSnoozed, query } = this.choice;
    const wanted = query.trim().slice(0, 200) || null;
    return {
      status: status || null,
      assigneeId: whose === "mine" ? this.#desk.userId : null,
      isFree: whose === "free" || null,
      labelId: labelId || null,
      // who looks for somebody means all conversations
      isSnoozed: wanted && !isSnoozed ? null : isSnoozed,
      query: wanted,
    };
  }

  /** The chats of bookings that are shown. */
  get #chats() {
    const { rows, pinned } = this.rows.getSnapshot();
    return [...rows, ...(pinned ? [pinned] : [])].filter(({ channel }) => channel === "booking").map(({ id }) => id);
  }

  #ask() {
    if (this.#chats.some((id) => !this.#asked.has(id))) this.answers.refresh();
  }

  /** @returns {Promise<(InboxBooking & { id: string })[]>} */
  async #readBookings() {
    const ids = [...new Set(this.#chats)];
    this.#asked = new Set(ids);
    const { server } = this.#desk.live.hub;
    const threads = await server.rows("conversations", ids);
    const jobs = await server.rows("jobs", threads.map(({ booking_id }) => String(booking_id)));
    return threads.flatMap((thread) => {
      const job = jobs.find(({ id }) => id === thread.booking_id);
      return job ? [{ id: String(thread.id), service: String(job.service_type), startsAt: String(job.starts_at) }] : [];
    });
  }
}
