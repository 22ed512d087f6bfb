/**
 * What a team follows: its inbox, notes, who has a conversation, labels, saved replies, what is sent
 * later, reminders, the sync and the account's health. Staff alone see this. A module of its own,
 * since a customer's portal has no use for it:
 *
 *     import { followDesk, followInbox } from "@rapport/live/desk";
 *     const inbox = followInbox(live, { filter: { status: "open" } });
 *     const notes = followDesk(live, "conversation_notes", { onInsert: (note) => … }, conversationId);
 */

import { AskedList, AskedSubscription } from "./desk/asked.js";
import { InboxSubscription } from "./desk/inbox.js";
import { LatestSource, latestRows } from "./desk/latest.js";
import { ReminderSubscription } from "./desk/reminders.js";
import { ofCustomer } from "./scope.js";
import { TableSource } from "./sources.js";
import { Subscription } from "./subscription.js";

/** @import { Tables, Told } from "../database.types.js" */
/** @import { InboxFilter, InboxRow } from "./desk/inbox.js" */
/** @import { Reminder } from "./desk/reminders.js" */
/** @import { Live } from "./live.js" */
/** @import { MessageSubscription } from "./portal_subscriptions.js" */
/** @import { RowCallbacks } from "./subscription.js" */

/** @typedef {import("./desk/inbox.js").InboxCounts} InboxCounts */
/** @typedef {import("./desk/inbox.js").InboxFilter} InboxFilter */
/** @typedef {import("./desk/inbox.js").InboxRow} InboxRow */
/** @typedef {import("./desk/reminders.js").Reminder} Reminder */
/** @typedef {keyof typeof ORDER} DeskTable */

/** The column by which the rows of a table are shown. */
const ORDER = {
  conversation_notes: "seq",
  desk_states: "id",
  labels: "name",
  conversation_labels: "id",
  saved_replies: "short_code",
  account_health: "since",
  reminder_rules: "name",
  scheduled_messages: "send_at",
  sync_runs: "created_at",
};
/** Tables that only grow: so many of their last rows are followed. @type {Record<string, number>} */
const LATEST = { scheduled_messages: 500, sync_runs: 100 };

/**
 * A table of the desk, live; notes, labels of conversations and what is sent later also of one
 * conversation alone. Without one, of what is sent later the 500 with the latest times are followed,
 * sent ones among them, and of the runs of the sync the latest 100.
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
  const most = conversationId ? 0 : LATEST[table];
  /** @type {Record<string, string>} */
  const equals = conversationId ? { conversation_id: conversationId.toLowerCase() } : {};
  /** @type {() => TableSource<Readonly<Told[T]>>} */
  const makeSource = () => {
    if (most) return new LatestSource(table, scope, column, most);
    /** @type {TableSource<Readonly<Told[T]>>} */
    const source = new TableSource(table, scope, { key: conversationId && column === "seq" ? column : "id" });
    Object.assign(source.equals, equals);
    return source;
  };
  return new Subscription(live.hub, scope, makeSource, by(column), callbacks);
}

/**
 * A team's conversations, the latest first: a page, and further ones by `loadMore()`. Its snapshot
 * also has `counts`, `unreadCount`, `hasMore`, `isLoading` and `filter`, which `setFilter` changes.
 * Who works for one account need not name it; who works for none sees none.
 *
 * @param {Live} live
 * @param {{ accountId?: string | null, filter?: InboxFilter, pageSize?: number } & RowCallbacks<InboxRow>} [wanted]
 */
export function followInbox(live, { accountId, filter = {}, pageSize = 50, ...callbacks } = {}) {
  return new InboxSubscription(live.hub, { accountId, pageSize, filter: Object.freeze({ ...filter }) }, callbacks);
}

/**
 * The reminders that an account's rules will send, the earliest first: those of the coming days, 7
 * if it is not said otherwise. One that will not be sent says why not. The snapshot also has
 * `hasMore`, for which there is `loadMore()`.
 *
 * @param {Live} live
 * @param {string} accountId
 * @param {{ days?: number, pageSize?: number } & RowCallbacks<Reminder>} [wanted]
 */
export function followReminders(live, accountId, { days = 7, pageSize = 50, ...callbacks } = {}) {
  return new ReminderSubscription(live.hub, { accountId, days, pageSize }, callbacks);
}

/**
 * The questions that the sync could not decide, the latest 200 that are open, the latest first; `resolve_sync_conflict`
 * decides them. They are asked for as the sync goes on and as contacts change; after an answer of
 * your own call `refresh()`.
 *
 * @param {Live} live
 * @param {RowCallbacks<Readonly<Tables<"sync_conflicts">>>} [callbacks]
 * @returns {AskedSubscription<Readonly<Tables<"sync_conflicts">>, {}>}
 */
export function followSyncQuestions(live, callbacks) {
  const makeSource = () =>
    new AskedList("sync_conflicts", ["sync_runs", "contacts"], (server) =>
      latestRows(server, "sync_conflicts", { state: "open" }, "created_at", 200),
    );
  return new AskedSubscription(live.hub, makeSource, callbacks, 1000);
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
  messages.moveMarker(conversationId, Number(reached), 0);
}

/**
 * @param {string} column
 * @returns {(rows: any[]) => any[]}
 */
function by(column) {
  return (rows) => rows.sort((a, b) => (a[column] < b[column] ? -1 : Number(a[column] > b[column])));
}
