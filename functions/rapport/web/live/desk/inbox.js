/**
 * A team's conversations, the latest first, as far as they have been loaded.
 *
 * What the rows show stands in eight tables. When one of those changes, its conversation is asked
 * for by id and by the filter, so that the server alone decides what the list has: one answer says
 * what the row is, and whether it belongs here. What can't come into sight is not asked for.
 */

import { NotAllowed, NotFound, Unprocessable } from "../errors.js";
import { AskedSource, AskedSubscription, newOf } from "./asked.js";
import { latestRows } from "./latest.js";

/** @import { Tables, Database } from "../../database.types.js" */
/** @import { CatchUp } from "../catch_up.js" */
/** @import { Event, Json } from "../events.js" */
/** @import { Server } from "../server.js" */
/** @import { RowCallbacks } from "../subscription.js" */

/**
 * @typedef {Readonly<Tables<"inbox">>} InboxRow
 *
 * Conversations that meet all that is given; `null` and `undefined` give nothing.
 *
 * @typedef {object} InboxFilter
 * @property {"open" | "pending" | "closed" | null} [status]
 * @property {string | null} [assigneeId] who answers
 * @property {boolean | null} [isFree] true: nobody answers
 * @property {string | null} [labelId]
 * @property {boolean | null} [isSnoozed] whether they wait until a time
 * @property {string | null} [query] a name, phone, email or tag, as `search_contacts` finds them
 *
 * How many conversations there are, up to 100, which stands for more: by assignee and by label those
 * that are not closed, `free` those that are open and do not wait.
 *
 * @typedef {Readonly<
 *   Database["public"]["Functions"]["inbox_counts"]["Returns"] & Database["public"]["Functions"]["label_counts"]["Returns"]
 * >} InboxCounts
 *
 * @typedef {object} InboxMore
 * @property {InboxCounts | null} counts null until they are known
 * @property {number} unreadCount how many of the conversations that are shown have unread messages
 * @property {boolean} hasMore whether there are further ones to load
 * @property {boolean} isLoading whether what was asked for last, a filter or a page, is still to come
 * @property {InboxFilter} filter
 * @property {InboxRow | null} pinned the conversation of `pin`, whether it is among the rows or not
 *
 * @typedef {{ accountId?: string | null, pageSize: number, filter: InboxFilter, pinnedId?: string | null }} Wanted
 *
 * `end` is the last row that was loaded, where there are more; `loaded` came with a further page.
 *
 * @typedef {{ rows: InboxRow[], end: InboxRow | null, loaded?: Set<string> }} Found
 */

const COUNTED = ["conversations", "desk_states", "conversation_labels", "labels"];
const TABLES = [...COUNTED, "messages", "contacts", "read_markers", "scheduled_messages"];
const MOST = 200;
// so many that have changed are not asked for one by one
const MANY = 1000;
// ms between two countings, and between two looks at what was read on other devices
const COUNT_PAUSE = 2000;
// the latest ones; who reads more at once on another device has the rest told by the next message
const MARKERS = 100;

/** @extends {AskedSource<InboxRow>} */
export class InboxSource extends AskedSource {
  /** @type {InboxCounts | null} */
  counts = null;
  /** @type {InboxRow | null} */
  pinned = null;
  /** The last row that was loaded, where there are more. @type {InboxRow | null} */
  #end = null;
  /** @type {string | null} */
  #account = null;
  /**
   * Conversations and contacts that have changed, and whether the change may bring a conversation here.
   *
   * @type {Map<string | null, boolean>}
   */
  #changed = new Map();
  #isStale = true;
  // what a filter brings is not told
  #isNew = true;
  #wantsMore = false;
  #isMiscounted = true;
  #countedAt = -Infinity;
  #lookedAt = -Infinity;
  /** How many rows were wanted so far. */
  #size;
  #wanted;

  /** @param {Wanted} wanted */
  constructor(wanted) {
    super("inbox", TABLES);
    this.#wanted = wanted;
    this.#size = wanted.pageSize;
  }

  get hasMore() {
    return !!this.#end;
  }

  get isLoading() {
    return this.#wantsMore || this.#isNew;
  }

  /** @override */
  get dueIn() {
    return this.#isMiscounted ? this.#countedAt + COUNT_PAUSE - performance.now() : Infinity;
  }

  /** @override */
  doubt() {
    this.#isStale = true;
    this.#isMiscounted = true;
    super.doubt();
  }

  /** Has other conversations be asked for, since the filter is another. */
  renew() {
    this.#isStale = true;
    this.#isNew = true;
    this.#wantsMore = false;
    this.#size = this.#wanted.pageSize;
    this.bell.ring();
  }

  /** Has the conversation be asked for that is to be pinned. */
  pin() {
    const { pinnedId } = this.#wanted;
    this.pinned = this.known.get(pinnedId ?? "") ?? null;
    if (pinnedId) this.#change(pinnedId, false);
    this.bell.ring();
  }

  more() {
    this.#wantsMore = this.hasMore && !this.#isStale;
    this.bell.ring();
  }

  /** @override @param {Event[]} events */
  note(events) {
    const { assigneeId, isFree, isSnoozed, labelId, query } = this.#wanted.filter;
    for (const { table, id, operation, record, old_record } of events) {
      const row = /** @type {any} */ (record ?? old_record);
      const isNew = operation === "INSERT";
      if (COUNTED.includes(table)) this.#isMiscounted = true;
      if (table === "messages") this.#change(row?.conversation_id, isNew);
      else if (table === "conversation_labels") this.#change(row?.conversation_id, isNew && row.label_id === labelId);
      else if (table === "scheduled_messages") this.#change(row?.conversation_id);
      else if (table === "desk_states") this.#change(id, !!(assigneeId || isFree) || isSnoozed != null);
      else if (table !== "labels") this.#change(id, table === "conversations");
      // conversations of a contact that is out of sight are not known
      if (table === "contacts" && query) this.#isStale = true;
    }
  }

  /**
   * @param {string | null | undefined} id none where something is gone without a word of where it was
   * @param {boolean} [isBrought]
   */
  #change(id, isBrought = false) {
    if (!id || this.#changed.size > MANY) this.#isStale = true;
    else this.#changed.set(id, isBrought || !!this.#changed.get(id));
  }

  /** @override @param {Server} server */
  async ask(server) {
    try {
      await this.#ask(server);
    } catch (error) {
      if (error instanceof NotAllowed || error instanceof NotFound) {
        // the account is not the user's any more: nothing of it is shown, and the error says why
        this.#end = this.counts = this.pinned = null;
        this.#isStale = true;
        this.replace(new Map());
      }
      throw error;
    }
  }

  /** @param {Server} server */
  async #ask(server) {
    const { filter, pinnedId } = this.#wanted;
    // all rows are read with how far they were read
    if (this.#isStale) this.#lookedAt = performance.now();
    else await this.#look(server);
    const isStale = this.#isStale;
    const changed = this.#changed;
    const wantsMore = this.#wantsMore && !isStale;
    // rows that are waited for come before their counts
    const isMiscounted = this.dueIn <= 0 && !this.#isNew;
    this.#changed = new Map();
    this.#isStale = false;
    if (isMiscounted) this.#isMiscounted = false;
    if (isMiscounted) this.#countedAt = performance.now();
    try {
      if (isStale) this.#account = this.#wanted.accountId ?? (await onlyAccount(server));
      const [found, counts] = await Promise.all([
        // as many rows as there were, at least a page
        isStale ? this.#read(server, null, this.#size) : this.#renewed(server, changed, wantsMore),
        isMiscounted ? this.#count(server) : this.counts,
      ]);
      if (pinnedId) {
        const isChanged = isStale || changed.has(pinnedId) || changed.has(this.pinned?.customer_id ?? null);
        const pinned = found.rows.find(({ id }) => id === pinnedId) ?? (isChanged ? (await this.#rows(server, { ids: [pinnedId] }))[0] : this.pinned);
        if (pinnedId === this.#wanted.pinnedId) this.pinned = newOf(this.pinned, pinned ?? null);
      }
      this.counts = newOf(this.counts, counts);
      // an answer to an older question
      if (filter !== this.#wanted.filter) return;
      if (wantsMore) {
        this.#wantsMore = false;
        this.#size += this.#wanted.pageSize;
      }
      const rows = found.rows.sort(place);
      this.#end = found.end;
      if (rows.length > this.#size + this.#wanted.pageSize) {
        // so many have come at the beginning that those at the end are let go
        rows.length = this.#size;
        this.#end = rows[this.#size - 1];
      }
      this.replace(new Map(rows.map((row) => [row.id, row])), ({ id }) => !found.loaded?.has(id));
      if (isStale && this.#isNew) {
        this.#isNew = false;
        this.changes = [];
      }
    } catch (error) {
      this.#isStale ||= isStale;
      this.#isMiscounted ||= isMiscounted;
      for (const [id, isBrought] of changed) this.#change(id, isBrought);
      throw error;
    }
  }

  /**
   * The rows with those that have changed, and with a further page if it is wanted.
   *
   * @param {Server} server
   * @param {Map<string | null, boolean>} changed
   * @param {boolean} wantsMore
   * @returns {Promise<Found>}
   */
  async #renewed(server, changed, wantsMore) {
    const rows = new Map(this.known);
    let end = this.#end;
    const brought = [...changed.keys()].filter((id) => changed.get(id));
    const inSight = this.rows.filter(({ id, customer_id }) => changed.has(id) || changed.has(customer_id));
    const asked = /** @type {string[]} */ ([...new Set([...brought, ...inSight.map(({ id }) => id)])]);
    for (let start = 0; start < asked.length; start += MOST) {
      const some = asked.slice(start, start + MOST);
      for (const id of some) rows.delete(id);
      for (const row of await this.#page(server, { ids: some, page_size: MOST })) {
        if (!end || place(row, end) <= 0) rows.set(row.id, row);
      }
    }
    /** @type {Set<string>} */
    const loaded = new Set();
    // a list that has become short is filled up
    const missing = rows.size < this.#size / 2 ? this.#size - rows.size : 0;
    if (end && (wantsMore || missing)) {
      const read = await this.#read(server, end, wantsMore ? this.#wanted.pageSize : missing);
      for (const row of read.rows) {
        if (!rows.has(row.id)) loaded.add(row.id);
        rows.set(row.id, row);
      }
      end = read.end;
    }
    return { rows: [...rows.values()], end, loaded };
  }

  /**
   * So many rows after a place.
   *
   * @param {Server} server
   * @param {InboxRow | null} last
   * @param {number} size
   * @returns {Promise<Found>}
   */
  async #read(server, last, size) {
    /** @type {InboxRow[]} */
    const rows = [];
    for (;;) {
      // one more shows whether there are more
      const page_size = Math.min(MOST, size + 1 - rows.length);
      const page = await this.#page(server, { before: last?.last_message_at, before_id: last?.id, page_size });
      rows.push(...page);
      last = page.at(-1) ?? null;
      if (page.length < page_size) return { rows, end: null };
      if (rows.length > size) return { rows: rows.slice(0, size), end: rows[size - 1] };
    }
  }

  /**
   * @param {Server} server
   * @param {Json} which
   */
  #page(server, which) {
    const { status, assigneeId, isFree, labelId, isSnoozed, query } = this.#wanted.filter;
    return this.#rows(server, {
      assignee_id: assigneeId,
      is_free: !!isFree,
      label_id: labelId,
      is_snoozed: isSnoozed,
      status,
      query,
      ...which,
    });
  }

  /**
   * @param {Server} server
   * @param {Json} given filters among it, or none
   * @returns {Promise<InboxRow[]>}
   */
  async #rows(server, given) {
    if (!this.#account) return [];
    const rows = /** @type {InboxRow[]} */ (await server.rpc("inbox_page", { account_id: this.#account, ...given }));
    return rows.map((row) => Object.freeze(row));
  }

  /** @param {Server} server */
  async #count(server) {
    const account_id = this.#account;
    if (!account_id) return null;
    const [counts, labels] = await Promise.all(["inbox_counts", "label_counts"].map((name) => server.rpc(name, { account_id })));
    return /** @type {InboxCounts} */ (Object.freeze({ .../** @type {any} */ (counts), .../** @type {any} */ (labels) }));
  }

  /**
   * Looks at what the user has read elsewhere, which nobody is told of.
   *
   * @param {Server} server
   */
  async #look(server) {
    const now = performance.now();
    if (now - this.#lookedAt < server.timing.slowPoll / 2) return;
    this.#lookedAt = now;
    for (const { conversation_id: id, last_read_seq: seq } of await latestRows(server, "read_markers", {}, "read_at", MARKERS)) {
      if (this.known.get(id)?.last_read_seq !== seq) this.#change(id, false);
    }
  }
}

/**
 * Conversations, the latest first. Callbacks are told what changes; not what a filter or a further
 * page brings. `onDelete` is told what leaves the list, to a place beyond it as well.
 *
 * @extends {AskedSubscription<InboxRow, InboxMore>}
 */
export class InboxSubscription extends AskedSubscription {
  #wanted;

  /**
   * @param {CatchUp} hub
   * @param {Wanted} wanted
   * @param {RowCallbacks<InboxRow>} [callbacks]
   */
  constructor(hub, wanted, callbacks) {
    super(hub, () => new InboxSource(wanted), callbacks);
    this.#wanted = wanted;
  }

  /** Loads a further page, if there is one and none is on its way. */
  loadMore() {
    this.#inbox.more();
    this.notify();
  }

  /**
   * Shows other conversations from their first page on; until they have come, those of before.
   *
   * @param {InboxFilter} filter all of it
   */
  setFilter(filter) {
    this.#wanted.filter = Object.freeze({ ...filter });
    this.#inbox.renew();
    this.notify();
  }

  /**
   * Has one conversation be shown as `pinned`, such as the one that is open, also where the list
   * does not have it; null ends that.
   *
   * @param {string | null} conversationId
   */
  pin(conversationId) {
    this.#wanted.pinnedId = conversationId?.toLowerCase();
    this.#inbox.pin();
    this.notify();
  }

  /** @override @param {readonly InboxRow[]} rows */
  more(rows) {
    const { counts, pinned, hasMore, isLoading } = this.#inbox;
    const unreadCount = rows.filter(({ unread_count }) => unread_count).length;
    return { counts, pinned, unreadCount, hasMore, isLoading, filter: this.#wanted.filter };
  }

  get #inbox() {
    return /** @type {InboxSource} */ (this.source);
  }
}

/**
 * The account of whom works for one; null of whom works for none, who has no inbox.
 *
 * @param {Server} server
 */
async function onlyAccount(server) {
  const accounts = (await server.owners()).flatMap((owner) => owner.account_id ?? []);
  if (accounts.length > 1) throw new Unprocessable("You work for several accounts. Say whose inbox it is.", { field: "accountId" });
  return accounts[0] ?? null;
}

/**
 * The order of the inbox: the latest message first. Times are of one zone, as the database writes
 * them.
 *
 * @param {InboxRow} a
 * @param {InboxRow} b
 */
function place(a, b) {
  if (a.last_message_at !== b.last_message_at) return a.last_message_at > b.last_message_at ? -1 : 1;
  return a.id < b.id ? -1 : Number(a.id > b.id);
}
