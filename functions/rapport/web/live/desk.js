/**
 * What a team follows at its desk: notes, who has a conversation, labels, saved replies and the
 * account's health. Staff alone see these rows. A module of its own, since a customer's portal has no use for it:
 *
 *     import { followDesk } from "@rapport/live/desk";
 *     const notes = followDesk(live, "conversation_notes", { onInsert: (note) => … }, conversationId);
 */

import { ofCustomer } from "./scope.js";
import { TableSource } from "./sources.js";
import { Subscription } from "./subscription.js";

/** @import { Told } from "../database.types.js" */
/** @import { Live } from "./live.js" */
/** @import { MessageSubscription } from "./portal_subscriptions.js" */
/** @import { MessageSource } from "./sources.js" */
/** @import { RowCallbacks } from "./subscription.js" */

/** @typedef {keyof typeof ORDER} DeskTable */

/** The column by which the rows of a table are shown. */
const ORDER = {
  conversation_notes: "seq",
  desk_states: "id",
  labels: "name",
  conversation_labels: "id",
  saved_replies: "short_code",
  account_health: "since",
};

/**
 * A table of the desk, live; notes and the labels of conversations also of one conversation alone.
 *
 * @template {DeskTable} T
 * @param {Live} live
 * @param {T} table
 * @param {RowCallbacks<Readonly<Told[T]>>} [callbacks]
 * @param {string} [conversationId]
 * @returns {Subscription<Readonly<Told[T]>, {}>}
 */
export function followDesk(live, table, callbacks, conversationId) {
  const scope = ofCustomer();
  const column = ORDER[table];
  /** @type {Record<string, string>} */
  const equals = conversationId ? { conversation_id: conversationId.toLowerCase() } : {};
  /** @type {() => TableSource<Readonly<Told[T]>>} */
  const makeSource = () => {
    /** @type {TableSource<Readonly<Told[T]>>} */
    const source = new TableSource(table, scope, { key: conversationId && column === "seq" ? column : "id" });
    Object.assign(source.equals, equals);
    return source;
  };
  /** @param {any[]} rows */
  const order = (rows) => rows.sort((a, b) => (a[column] < b[column] ? -1 : Number(a[column] > b[column])));
  return new Subscription(live.hub, scope, makeSource, order, callbacks);
}

/**
 * Says that the user is at the desk of an account, now and every minute until the returned function
 * is called: only then conversations are assigned to the user in turn.
 *
 * @param {Live} live
 * @param {string} accountId
 * @returns {() => void}
 */
export function stayAtDesk(live, accountId) {
  return stayAt(live, "stay_at_desk", { account_id: accountId });
}

/**
 * Says that the user looks at a conversation, now and every minute until the returned function is
 * called: meanwhile the user gets no notifications of its messages.
 *
 * @param {Live} live
 * @param {string} conversationId
 * @returns {() => void}
 */
export function stayAtConversation(live, conversationId) {
  return stayAt(live, "stay_at_conversation", { conversation_id: conversationId });
}

/**
 * @param {Live} live
 * @param {string} name
 * @param {Record<string, string>} where
 */
function stayAt(live, name, where) {
  const stay = () => live.hub.server.rpc(name, where).catch(() => {});
  const timer = setInterval(stay, 60_000);
  void stay();
  return () => clearInterval(timer);
}

/**
 * Says that a conversation is unread from the last message of the other side on. Throws Conflict
 * where the other side has not written.
 *
 * @param {MessageSubscription} messages that show the conversation
 * @param {string} conversationId
 */
export async function markUnread(messages, conversationId) {
  const reached = await messages.hub.server.rpc("mark_unread", { conversation_id: conversationId });
  /** @type {MessageSource} */ (messages.source).moveMarker(conversationId, Number(reached), 0);
  messages.notify();
}
