import { Ledger } from "./ledger.js";

/** @import { Change, Event, Json, Shown } from "./events.js" */
/** @import { Place } from "./ledger.js" */
/** @import { Message, Row } from "./rows.js" */
/** @import { Scope } from "./scope.js" */
/** @import { Server } from "./server.js" */

/**
 * Where the rows of a subscription come from: a ledger or what is made of several tables, and how
 * they are read.
 *
 * @template {Shown} R
 * @typedef {object} Source
 * @property {ReadonlySet<string>} tables that it is made of
 * @property {R[]} rows as they have been told
 * @property {boolean} isUnreadable whether there are rows that can't be read
 * @property {(events: Event[]) => boolean} isSure whether what was broadcast together can be told, and nothing before it was missed
 * @property {(events: Event[]) => Change<R>[]} hear takes what was broadcast together
 * @property {(events: Event[]) => Change<R>[]} settle takes a whole catch-up
 * @property {(server: Server) => Promise<void>} load reads the rows; nothing is told of them
 * @property {(server: Server) => Promise<Change<R>[]>} reread reads the rows again
 */

/**
 * The rows of one table in a scope, all of them, and how they are read. `key` is a unique column
 * to page by; `owner` the column that names the customer.
 *
 * @template {Row} R
 */
export class TableSource {
  /**
   * @param {string} table
   * @param {Scope} scope
   * @param {{
   *   owner?: string, key?: string, place?: (row: R) => Place, isWhole?: boolean,
   * }} [more]
   */
  constructor(table, scope, { owner = "customer_id", key = "id", place, isWhole = true } = {}) {
    this.table = table;
    this.tables = new Set([table]);
    /** @type {Record<string, string>} */
    this.equals = {};
    if (scope.id) this.equals[scope.kind === "customer" ? owner : "conversation_id"] = scope.id;
    this.key = key;
    this.isWhole = isWhole;
    /** @type {Ledger<R>} */
    this.ledger = new Ledger(
      table,
      (row) => Object.entries(this.equals).every(([column, value]) => /** @type {any} */ (row)[column] === value),
      place,
      isWhole,
    );
  }

  /** The rows as they have been told. */
  get rows() {
    return this.ledger.rows;
  }

  /** Whether there are rows that can't be read. */
  get isUnreadable() {
    return this.ledger.unreadable.size > 0;
  }

  /**
   * Whether what was broadcast together can be told, and nothing before it was missed.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    return this.ledger.isSure(events);
  }

  /**
   * Takes what was broadcast together.
   *
   * @param {Event[]} events
   */
  hear(events) {
    return events.flatMap((event) => this.ledger.hear(event));
  }

  /**
   * Takes a whole catch-up.
   *
   * @param {Event[]} events
   */
  settle(events) {
    return this.ledger.settle(events);
  }

  /**
   * Reads the rows as they stand; nothing is told of them.
   *
   * @param {Server} server
   * @returns {Promise<void>}
   */
  async load(server) {
    this.ledger.load(await this.read(server));
  }

  /**
   * Reads the rows again.
   *
   * @param {Server} server
   * @returns {Promise<Change<R>[]>}
   */
  async reread(server) {
    const mark = this.ledger.mark();
    return this.ledger.reread(await this.read(server), mark);
  }

  /**
   * @protected
   * @param {Server} server
   * @returns {Promise<Json[]>}
   */
  read(server) {
    return server.all(this.table, this.equals, this.key);
  }
}

/**
 * Messages of a customer, a booking or a conversation, all of them; of accounts, from now on.
 * Who follows all that happens in an account is told what comes, and does not read a million
 * messages before.
 *
 * @extends {TableSource<Message>}
 */
export class MessageSource extends TableSource {
  #accounts = new Set();
  /** @type {Map<string, number>} */
  #markers = new Map();
  /** Accounts and customers whose conversations are followed. */
  #owners = new Set();

  /**
   * @param {Scope} scope
   * @param {string | null} [bookingId]
   */
  constructor(scope, bookingId) {
    const isOneChat = scope.kind === "conversation" || !!bookingId;
    super("messages", scope, {
      // unique there, and in the index of a chat's messages
      key: isOneChat ? "seq" : "id",
      place: (message) => [message.conversation_id, message.seq],
      isWhole: scope.kind !== "all" || isOneChat,
    });
    if (bookingId) this.equals.booking_id = bookingId;
  }

  /**
   * How many messages of the other side are beyond the user's read markers, without those deleted.
   *
   * @param {readonly Message[]} rows
   */
  unread(rows) {
    return rows.filter(
      (message) =>
        message.seq > (this.#markers.get(message.conversation_id) ?? 0) &&
        !message.revoked_at &&
        !message.is_history &&
        (message.sender_type === "client") === this.#accounts.has(message.account_id),
    ).length;
  }

  /**
   * Notes how far the user has read: forward from where it is known, or from the given place.
   *
   * @param {string} conversation
   * @param {number} seq
   * @param {number} [from]
   */
  moveMarker(conversation, seq, from = this.#markers.get(conversation) ?? 0) {
    this.#markers.set(conversation, Math.max(seq, from));
  }

  /** @override @param {Server} server */
  async load(server) {
    await this.#readMarkers(server);
    if (this.isWhole) return super.load(server);
    await this.#newer(server);
  }

  /** @override @param {Server} server */
  async reread(server) {
    await this.#readMarkers(server);
    if (this.isWhole) return super.reread(server);
    const mark = this.ledger.mark();
    const known = this.ledger.rows.map(({ id }) => id);
    const records = [...(await server.rows("messages", known)), ...(await this.#newer(server))];
    return this.ledger.reread(records, mark, known);
  }

  /** @param {Server} server */
  async #readMarkers(server) {
    const owners = await server.owners();
    this.#accounts = new Set(owners.map((owner) => owner.account_id));
    const markers = /** @type {any[]} */ (await server.all("read_markers", {}, "conversation_id"));
    for (const { conversation_id, last_read_seq } of markers) this.moveMarker(conversation_id, last_read_seq);
  }

  /**
   * The messages that have come since. Where the user sees an account or a customer for the first
   * time, it is noted how far each conversation has come: what was said before is not new.
   *
   * @param {Server} server
   */
  async #newer(server) {
    const found = [];
    for (const owner of await server.owners()) {
      const [id] = Object.values(owner);
      const activities = /** @type {any[]} */ (await server.all("conversation_activity", owner, "conversation_id"));
      for (const { conversation_id, last_seq } of activities) {
        const soFar = this.ledger.reached(conversation_id);
        if (!this.#owners.has(id)) this.ledger.reach(conversation_id, last_seq);
        else if (last_seq > soFar) found.push(...(await server.all("messages", { conversation_id }, "seq", soFar)));
      }
      this.#owners.add(id);
    }
    return found;
  }
}
