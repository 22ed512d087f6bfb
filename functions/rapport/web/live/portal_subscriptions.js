import { FaceSource } from "./contacts.js";
import { call } from "./errors.js";
import { ofCustomer } from "./scope.js";
import { MessageSource, TableSource } from "./sources.js";
import { Subscription } from "./subscription.js";

/** @import { Change } from "./events.js" */
/** @import { CatchUp } from "./catch_up.js" */
/** @import { ContactV2, Invoice, Job, LiveChatContact, LoyaltyTransaction, Message, Profile } from "./rows.js" */
/** @import { Scope } from "./scope.js" */
/** @import { RowCallbacks } from "./subscription.js" */

/**
 * `onUpdate` gets every change of a message, these three among them. A message is read when its
 * other side has read it: `onMessageRead` also gets those that the user reads.
 *
 * @typedef {object} MessageOnly
 * @property {(message: Message) => unknown} [onNewMessage]
 * @property {(message: Message) => unknown} [onMessageRead]
 * @property {(message: Message) => unknown} [onMessageDeleted]
 * @typedef {RowCallbacks<Message, Message | null> & MessageOnly} MessageCallbacks
 *
 * `onInsert` also gets what expires.
 *
 * @typedef {object} LoyaltyOnly
 * @property {(transaction: LoyaltyTransaction) => unknown} [onPointsEarned]
 * @property {(transaction: LoyaltyTransaction) => unknown} [onPointsRedeemed]
 * @typedef {RowCallbacks<LoyaltyTransaction> & LoyaltyOnly} LoyaltyCallbacks
 */

/**
 * Appointments, the next ones last, and edits that show at once.
 *
 * @extends {Subscription<Job, {}>}
 */
export class JobSubscription extends Subscription {
  /**
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {RowCallbacks<Job>} [callbacks]
   */
  constructor(hub, scope, callbacks) {
    super(hub, scope, () => new TableSource("jobs", scope), by("starts_at"), callbacks);
  }

  /**
   * Writes columns of a job, which only staff may; the snapshot has them from the first moment.
   * What is refused is taken back, and thrown.
   *
   * @param {string} id
   * @param {Partial<Pick<Job, "service_type" | "status" | "starts_at" | "ends_at" | "address" | "description">>} patch
   */
  async update(id, patch) {
    await this.hub.edits.write({ table: "jobs", id, patch }, this.told(id));
  }
}

/**
 * Invoices, the newest last.
 *
 * @param {CatchUp} hub
 * @param {Scope} scope
 * @param {RowCallbacks<Invoice>} [callbacks]
 * @returns {Subscription<Invoice, {}>}
 */
export function followInvoices(hub, scope, callbacks) {
  return new Subscription(hub, scope, () => new TableSource("invoices", scope), by("created_at"), callbacks);
}

/**
 * All contacts that the user may see, in a face, by name.
 *
 * @template {"v2" | "live_chat"} F
 * @param {CatchUp} hub
 * @param {F} face
 * @param {RowCallbacks<F extends "v2" ? ContactV2 : LiveChatContact>} [callbacks]
 * @returns {Subscription<F extends "v2" ? ContactV2 : LiveChatContact, {}>}
 */
export function followContacts(hub, face, callbacks) {
  return new Subscription(hub, ofCustomer(), () => new FaceSource(face), by("name"), callbacks);
}

/**
 * Messages, those of a conversation in the order of seq. A new message is told as new, whatever
 * has become of it meanwhile. Of one that was there before and was not loaded, a change after
 * which it is read counts as its reading.
 *
 * @extends {Subscription<Message, { unreadCount: number }>}
 */
export class MessageSubscription extends Subscription {
  #callbacks;

  /**
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {MessageCallbacks & { bookingId?: string }} [callbacks]
   */
  constructor(hub, scope, callbacks = {}) {
    const booking = callbacks.bookingId?.toLowerCase();
    super(hub, scope, () => new MessageSource(scope, booking), inConversations, callbacks);
    this.#callbacks = callbacks;
  }

  /**
   * Says that the user has read a conversation up to this seq; answers how far the server has it as
   * read, which is less where the message was told of a moment before others can see it.
   *
   * @param {string} conversationId
   * @param {number} upToSeq
   */
  async markRead(conversationId, upToSeq) {
    const reached = Number(await this.hub.server.rpc("mark_read", { conversation_id: conversationId, up_to_seq: upToSeq }));
    this.moveMarker(conversationId, reached);
    return reached;
  }

  /**
   * Takes how far the user has read, and tells the inbox, which nobody else does.
   *
   * @param {string} conversationId
   * @param {number} reached
   * @param {number} [from]
   */
  moveMarker(conversationId, reached, from) {
    /** @type {MessageSource} */ (this.source).moveMarker(conversationId, reached, from);
    this.notify();
    this.hub.take([{ table: "read_markers", id: conversationId, version: reached, operation: "UPDATE", record: {}, old_record: null }]);
  }

  /** @override @param {readonly Message[]} rows */
  more(rows) {
    return { unreadCount: /** @type {MessageSource} */ (this.source).unread(rows) };
  }

  /** @override @param {Change<Message>} change */
  tell(change) {
    super.tell(change);
    if (this.isClosed) return;
    const { onNewMessage, onMessageRead, onMessageDeleted } = this.#callbacks;
    const { new: now, old } = change;
    if (!now) {
      if (old && !old.revoked_at) call(onMessageDeleted, old);
    } else if (change.eventType === "INSERT") {
      // what was said long ago, in the phone app, is new to nobody
      if (!now.is_history) call(onNewMessage, now);
    } else {
      if (now.status === "read" && old?.status !== "read") call(onMessageRead, now);
      if (now.revoked_at && !old?.revoked_at) call(onMessageDeleted, now);
    }
  }
}

/**
 * Points of a customer as they are earned and redeemed.
 *
 * @extends {Subscription<LoyaltyTransaction, { totalPoints: number }>}
 */
export class LoyaltySubscription extends Subscription {
  #callbacks;

  /**
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {LoyaltyCallbacks} [callbacks]
   */
  constructor(hub, scope, callbacks = {}) {
    super(hub, scope, () => new TableSource("loyalty_transactions", scope), by("created_at"), callbacks);
    this.#callbacks = callbacks;
  }

  /** @override @param {readonly LoyaltyTransaction[]} rows */
  more(rows) {
    return { totalPoints: rows.reduce((total, { points }) => total + points, 0) };
  }

  /** @override @param {Change<LoyaltyTransaction>} change */
  tell(change) {
    super.tell(change);
    if (this.isClosed || change.eventType !== "INSERT") return;
    const { onPointsEarned, onPointsRedeemed } = this.#callbacks;
    if (change.new.type === "redeemed") call(onPointsRedeemed, change.new);
    else if (change.new.type !== "expired") call(onPointsEarned, change.new);
  }
}

/**
 * A customer as it sees itself, and edits that show at once.
 *
 * @extends {Subscription<Profile, { profile: Profile | null }>}
 */
export class ProfileSubscription extends Subscription {
  #id;

  /**
   * @param {CatchUp} hub
   * @param {Scope} scope
   * @param {RowCallbacks<Profile>} [callbacks]
   */
  constructor(hub, scope, callbacks) {
    super(hub, scope, () => new TableSource("customers", scope, { owner: "id" }), by("id"), callbacks);
    this.#id = scope.id ?? "";
  }

  /**
   * Writes name, phone, email or preferences; `profile` has them from the first moment. What is
   * refused is taken back, and thrown.
   *
   * @param {Partial<Pick<Profile, "name" | "phone" | "email" | "preferences">>} fields
   */
  async edit(fields) {
    await this.hub.edits.write({ table: "customers", id: this.#id, patch: fields }, this.told(this.#id), "my_profile");
  }

  /** @override @param {readonly Profile[]} rows */
  more(rows) {
    return { profile: rows[0] ?? null };
  }
}

/**
 * @param {string} column
 * @returns {(rows: any[]) => any[]}
 */
function by(column) {
  return (rows) => rows.sort((a, b) => compare(a[column] ?? "", b[column] ?? "") || compare(a.id, b.id));
}

/**
 * Those of a conversation in the order of seq, also where a transaction that began earlier has got
 * the higher one.
 *
 * @param {Message[]} rows
 */
function inConversations(rows) {
  /** @type {Record<string, Message[]>} */
  const of = {};
  for (const row of by("seq")([...rows])) (of[row.conversation_id] ??= []).push(row);
  return by("created_at")(rows).map((row) => /** @type {Message} */ (of[row.conversation_id].shift()));
}

/**
 * @template T
 * @param {T} a
 * @param {T} b
 */
function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}
