/**
 * Keeps one face of every contact up to date from canonical rows and events, without I/O.
 *
 * Rows and events reach a client out of order or more than once. A row's version tells which state is
 * newer, and the progress of a conversation only grows. So the feed ends in the same state in any
 * order of arrival.
 */

import { readRow } from "./rows.js";

/** @import { Change, Event, Json } from "./events.js" */
/** @import { Row } from "./rows.js" */
/** @import { Thread } from "./faces.js" */

/** @template {Row} R */
export class FaceFeed {
  /** @type {Map<string, R>} */
  #shown = new Map();
  /** @type {Map<string, any>} */
  #contacts = new Map();
  /** @type {Map<string, any>} */
  #conversations = new Map();
  /** @type {Map<string, Set<string>>} */
  #conversationsOf = new Map();
  /** @type {Map<string, { latest: string | null, inbound: string | null }>} */
  #activity = new Map();
  /** Versions, and a half more where the row is gone. @type {Map<string, number>} */
  #stamps = new Map();
  /** Rows that can't be read, and stay as they were. @type {Set<string>} */
  unreadable = new Set();
  #face;

  /** @param {(contact: any, thread: Thread | null) => R} face */
  constructor(face) {
    this.#face = face;
  }

  /** The faces as they stand. */
  get rows() {
    return [...this.#shown.values()];
  }

  /**
   * Takes rows that were read, of a followed table or of `conversation_activity`. A row that is
   * older than what is known changes nothing.
   *
   * @param {string} table
   * @param {Json[]} rows
   */
  load(table, rows) {
    return this.#show(rows.flatMap((row) => this.#take(table, row)));
  }

  /**
   * Takes all rows of a table, as after a resync: what is not among them is gone.
   *
   * @param {string} table
   * @param {Json[]} rows
   */
  replace(table, rows) {
    const touched = [];
    const known = table === "contacts" ? this.#contacts : this.#conversations;
    if (table !== "conversation_activity") {
      const read = new Set(rows.map(({ id }) => id));
      for (const id of [...known.keys()].filter((id) => !read.has(id))) {
        // without a stamp, so that what came after the reading can bring it back
        this.#stamps.delete(key(table, id));
        touched.push(...this.#drop(table, id));
      }
    }
    touched.push(...rows.flatMap((row) => this.#take(table, row)));
    return this.#show(touched);
  }

  /**
   * Whether events came with their rows.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    return events.every(
      ({ table, id, version, operation, record }) =>
        record || operation === "DELETE" || version <= (this.#stamps.get(key(table, id)) ?? 0),
    );
  }

  /**
   * Takes events; those of one call are shown together, a face changing once at most.
   *
   * @param {Event[]} events
   */
  apply(events) {
    const touched = events.flatMap((event) => {
      if (event.operation === "DELETE") return this.#delete(event);
      return event.record ? this.#take(event.table, event.record) : [];
    });
    return this.#show(touched);
  }

  /**
   * Takes a row and returns the contacts whose faces may have changed.
   *
   * @param {string} table
   * @param {any} row
   * @returns {string[]}
   */
  #take(table, row) {
    if (table === "conversation_activity") {
      // before the first message the time is the conversation's own
      return this.#advance(row.conversation_id, row.last_seq ? row.last_message_at : null, row.last_inbound_at);
    }
    const at = key(table, row.id);
    if (!readRow(table, row)) {
      this.unreadable.add(at);
      return [];
    }
    this.unreadable.delete(at);
    if (table === "messages") {
      return this.#advance(row.conversation_id, row.sent_at, row.sender_type === "client" ? row.sent_at : null);
    }
    // the row of a deleted or merged contact
    if (row.deleted_at) return this.#end(table, row.id, row.version);
    if (!this.#isNews(table, row.id, row.version)) return [];
    if (table === "contacts") {
      this.#contacts.set(row.id, row);
      return [row.id];
    }
    const touched = this.#drop(table, row.id);
    // a group's, which is nobody's
    if (!row.customer_id) return touched;
    this.#conversations.set(row.id, row);
    const of = this.#conversationsOf.get(row.customer_id) ?? new Set();
    this.#conversationsOf.set(row.customer_id, of.add(row.id));
    return [...touched, row.customer_id];
  }

  /**
   * @param {string} id
   * @param {string | null} latest
   * @param {string | null} inbound
   */
  #advance(id, latest, inbound) {
    const known = this.#activity.get(id);
    this.#activity.set(id, { latest: later(known?.latest, latest), inbound: later(known?.inbound, inbound) });
    const conversation = this.#conversations.get(id);
    return conversation ? [conversation.customer_id] : [];
  }

  /** @param {Event} event */
  #delete({ table, id, version }) {
    this.unreadable.delete(key(table, id));
    // a message has happened, and how far the conversation has come stays
    if (table === "messages") return [];
    return this.#end(table, id, version);
  }

  /**
   * Takes that a contact or conversation is gone since the given version.
   *
   * @param {string} table
   * @param {string} id
   * @param {number} version
   */
  #end(table, id, version) {
    return this.#isNews(table, id, version + 0.5) ? this.#drop(table, id) : [];
  }

  /**
   * Forgets a row, if it is known, and returns the contacts concerned.
   *
   * @param {string} table
   * @param {string} id
   * @returns {string[]}
   */
  #drop(table, id) {
    if (table === "contacts") return this.#contacts.delete(id) ? [id] : [];
    const conversation = this.#conversations.get(id);
    if (!conversation) return [];
    this.#conversations.delete(id);
    this.#conversationsOf.get(conversation.customer_id)?.delete(id);
    return [conversation.customer_id];
  }

  /**
   * Whether this is newer than what is known, which it then becomes.
   *
   * @param {string} table
   * @param {string} id
   * @param {number} stamp
   */
  #isNews(table, id, stamp) {
    const at = key(table, id);
    if (stamp <= (this.#stamps.get(at) ?? 0)) return false;
    this.#stamps.set(at, stamp);
    return true;
  }

  /**
   * @param {string[]} touched
   * @returns {Change<R>[]}
   */
  #show(touched) {
    /** @type {Change<R>[]} */
    const changes = [];
    for (const id of [...new Set(touched)].sort()) {
      const contact = this.#contacts.get(id);
      const old = this.#shown.get(id) ?? null;
      const now = contact ? this.#face(contact, this.#current(id)) : null;
      if (JSON.stringify(now) === JSON.stringify(old)) continue;
      if (now) this.#shown.set(id, now);
      else this.#shown.delete(id);
      const eventType = !now ? "DELETE" : old ? "UPDATE" : "INSERT";
      changes.push(/** @type {Change<R>} */ ({ table: "contacts", eventType, new: now, old }));
    }
    return changes;
  }

  /**
   * The conversation with the latest activity; of two in one second, the one opened last.
   *
   * @param {string} contact
   * @returns {Thread | null}
   */
  #current(contact) {
    /** @type {Thread | null} */
    let current = null;
    for (const id of this.#conversationsOf.get(contact) ?? []) {
      const conversation = this.#conversations.get(id);
      const { latest = null, inbound = null } = this.#activity.get(id) ?? {};
      const thread = { conversation, lastMessageAt: latest ?? conversation.created_at, lastInboundAt: inbound };
      if (!current || rank(thread) > rank(current)) current = thread;
    }
    return current;
  }
}

/** @param {Thread} thread */
function rank({ lastMessageAt, conversation }) {
  return [Date.parse(lastMessageAt), lastMessageAt, conversation.created_at, conversation.id].join(" ");
}

/**
 * @param {string} table
 * @param {string} id
 */
function key(table, id) {
  return `${table} ${id}`;
}

/**
 * The later of two times, of one zone as the database writes them.
 *
 * @param {string | null | undefined} known
 * @param {string | null | undefined} heard
 */
function later(known, heard) {
  if (!known || !heard) return known ?? heard ?? null;
  return heard > known ? heard : known;
}
