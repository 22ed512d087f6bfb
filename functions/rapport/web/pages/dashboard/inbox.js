/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Live } from "@rapport/live" */
/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */

/**
 * @typedef {object} InboxSnapshot
 * @property {readonly InboxRow[]} rows the latest first
 * @property {boolean} isLoaded
 * @property {boolean} hasMore
 * @property {{ message: string } | null} error
 */

const PAGE = 50;
// ms: what comes together is read together
const GATHER = 60;

/** The latest conversations, read again when something of theirs has changed. */
export class Inbox {
  /** @type {InboxSnapshot} */
  #snapshot = { rows: [], isLoaded: false, hasMore: false, error: null };
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #status = "";
  #name = "";
  #count = PAGE;
  #reading = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;
  #supabase;
  #end;

  /**
   * @param {SupabaseClient} supabase
   * @param {Live} live
   */
  constructor(supabase, live) {
    this.#supabase = supabase;
    this.#end = live.onCheckpoint(() => this.hurry());
    void this.#read();
  }

  getSnapshot() {
    return this.#snapshot;
  }

  /** @param {() => void} listener */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close() {
    clearTimeout(this.#soon);
    this.#end();
    this.#listeners.clear();
  }

  /**
   * Shows those of a status, and of customers whose names have the text.
   *
   * @param {{ status: string, name: string }} filter
   */
  filter({ status, name }) {
    this.#status = status;
    this.#name = name.trim();
    this.#count = PAGE;
    this.hurry();
  }

  more() {
    this.#count += PAGE;
    this.hurry();
  }

  /** Reads again, soon. */
  hurry() {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      void this.#read();
    }, GATHER);
  }

  async #read() {
    const turn = ++this.#reading;
    let asked = this.#supabase
      .from("inbox")
      .select("id,account_id,customer_id,channel,status,customer_name,last_message,last_message_at,last_message_type,last_sender_type,last_message_status,unread_count,created_at")
      .order("last_message_at", { ascending: false, nullsFirst: false })
      .order("id")
      .limit(this.#count + 1);
    if (this.#status) asked = asked.eq("status", this.#status);
    if (this.#name) asked = asked.ilike("customer_name", `%${this.#name.replace(/[\\%_]/g, "\\$&")}%`);
    const { data, error } = await asked;
    // an answer to an older question
    if (turn !== this.#reading) return;
    const rows = data ?? this.#snapshot.rows;
    this.#snapshot = {
      rows: /** @type {readonly InboxRow[]} */ (rows.slice(0, this.#count)),
      isLoaded: !error || this.#snapshot.isLoaded,
      hasMore: data ? data.length > this.#count : this.#snapshot.hasMore,
      error,
    };
    for (const listener of [...this.#listeners]) listener();
  }
}
