/**
 * What a team follows at its desk: notes, who has a conversation, labels and saved replies. Staff
 * alone see these rows. A module of its own, since a customer's portal has no use for it:
 *
 *     import { followDesk } from "@rapport/live/desk";
 *     const notes = followDesk(live, "conversation_notes", { onInsert: (note) => … }, conversationId);
 */

import { ofCustomer } from "./scope.js";
import { TableSource } from "./sources.js";
import { Subscription } from "./subscription.js";

/** @import { Live } from "./live.js" */
/** @import { Row } from "./rows.js" */
/** @import { RowCallbacks } from "./subscription.js" */

/**
 * @typedef {object} NoteColumns
 * @property {string} conversation_id
 * @property {number} seq counts 1, 2, 3 … in its conversation, apart from the messages
 * @property {"note" | "event"} kind
 * @property {string | null} author_id
 * @property {string | null} author_name
 * @property {string} note
 * @property {string[]} mentions user ids
 * @property {any} event what happened, where it is an event
 * @property {string} created_at
 * @typedef {Readonly<Row & NoteColumns>} Note
 *
 * @typedef {object} DeskStateColumns the id is the conversation's
 * @property {string | null} assignee_id
 * @property {string | null} snoozed_until
 * @property {string} created_at
 * @typedef {Readonly<Row & DeskStateColumns>} DeskState
 *
 * @typedef {object} LabelColumns
 * @property {string} name
 * @property {string} colour
 * @property {string} created_at
 * @typedef {Readonly<Row & LabelColumns>} Label
 *
 * @typedef {object} ConversationLabelColumns
 * @property {string} conversation_id
 * @property {string} label_id
 * @property {string} created_at
 * @typedef {Readonly<Row & ConversationLabelColumns>} ConversationLabel
 *
 * @typedef {object} SavedReplyColumns
 * @property {string} short_code
 * @property {string | null} title
 * @property {string} text with variables such as {{contact.name}}
 * @property {string} created_at
 * @typedef {Readonly<Row & SavedReplyColumns>} SavedReply
 *
 * @typedef {object} DeskRows
 * @property {Note} conversation_notes
 * @property {DeskState} desk_states
 * @property {Label} labels
 * @property {ConversationLabel} conversation_labels
 * @property {SavedReply} saved_replies
 */

/** The column by which the rows of a table are shown. */
const ORDER = {
  conversation_notes: "seq",
  desk_states: "id",
  labels: "name",
  conversation_labels: "id",
  saved_replies: "short_code",
};

/**
 * A table of the desk, live; notes and the labels of conversations also of one conversation alone.
 *
 * @template {keyof DeskRows} T
 * @param {Live} live
 * @param {T} table
 * @param {RowCallbacks<DeskRows[T]>} [callbacks]
 * @param {string} [conversationId]
 * @returns {Subscription<DeskRows[T], {}>}
 */
export function followDesk(live, table, callbacks, conversationId) {
  const scope = ofCustomer();
  const column = ORDER[table];
  /** @type {Record<string, string>} */
  const equals = conversationId ? { conversation_id: conversationId.toLowerCase() } : {};
  /** @type {() => TableSource<DeskRows[T]>} */
  const makeSource = () => new TableSource(table, scope, { equals, key: conversationId && column === "seq" ? column : "id" });
  /** @param {any} a @param {any} b */
  const order = (a, b) => (a[column] < b[column] ? -1 : Number(a[column] > b[column]));
  return live.follow((hub) => new Subscription(hub, scope, makeSource, order, callbacks));
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
  const stay = () => live.follow((hub) => hub.server.rpc("stay_at_desk", { account_id: accountId }).catch(() => {}));
  const timer = setInterval(stay, 60_000);
  void stay();
  return () => clearInterval(timer);
}
