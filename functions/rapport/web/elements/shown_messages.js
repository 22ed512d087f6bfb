/** What a conversation shows, made of its rows, of what is on its way, and of what stands between. */

/** @import { Message } from "../live/index.js" */
/** @import { PendingMessage } from "../live/outbox.js" */
/** @import { Chat } from "./conversation_view.js" */

/**
 * What stands between messages: a note, or what happened.
 *
 * @typedef {object} Aside
 * @property {string} id
 * @property {string} at
 * @property {"note" | "event"} kind
 * @property {unknown} content a template or a text
 * @property {string} name of it, for screen readers
 *
 * A message as it is shown: one that is kept, one on its way, or what stands between.
 *
 * @typedef {object} Bubble
 * @property {string} key
 * @property {string | number} at when its sender sent it, which its day and its time tell
 * @property {string | number} came when it came here, by which it stands among what stands between
 * @property {Readonly<Message> | null} message
 * @property {PendingMessage | null} pending
 * @property {Aside | null} aside
 *
 * @typedef {object} Reaction
 * @property {string} emoji
 * @property {boolean} isOurs the business's
 * @property {boolean} isPending
 * @property {string | null} trouble why it has not reached the customer
 *
 * @typedef {object} Shown
 * @property {readonly Bubble[]} bubbles
 * @property {ReadonlyMap<string, Readonly<Message>>} byId
 * @property {ReadonlyMap<string, number>} newest seq of each conversation
 * @property {(message: Readonly<Message>) => readonly Reaction[]} reactionsTo
 */

/** So many bubbles are in the page, however many messages there are. */
export const MOST_BUBBLES = 60;

/** The last that was made, by who shows it. @type {WeakMap<object, { of: readonly unknown[], shown: Shown }>} */
const made = new WeakMap();

/**
 * What there is to show; the same object while nothing of it has changed.
 *
 * @param {object} owner
 * @param {readonly Readonly<Message>[]} rows
 * @param {readonly PendingMessage[]} pending
 * @param {readonly Aside[]} asides
 * @param {Chat | null} chat
 * @returns {Shown}
 */
export function shownOf(owner, rows, pending, asides, chat) {
  const of = [rows, pending, asides, chat];
  const before = made.get(owner);
  if (before && of.every((one, index) => one === before.of[index])) return before.shown;
  const shown = make(rows, pending, asides, chat ?? {});
  made.set(owner, { of, shown });
  return shown;
}

/**
 * By what a message's bubble is known, also while it is on its way.
 *
 * @param {Readonly<Message>} message
 */
export function keyOf(message) {
  return message.client_ref || message.id;
}

/**
 * When a message was sent: by WhatsApp's clock, or when it was written here. A late one keeps its place
 * in the conversation, and says its own day and time.
 *
 * @param {Readonly<Message>} message
 */
export function sentAt({ sent_at: sent, created_at: came }) {
  return sent ?? came;
}

/**
 * @param {readonly Readonly<Message>[]} rows
 * @param {readonly PendingMessage[]} pending
 * @param {readonly Aside[]} asides
 * @param {Chat} chat
 * @returns {Shown}
 */
function make(rows, pending, asides, chat) {
  /** @type {Map<string, Readonly<Message>>} */
  const byId = new Map();
  /** @type {Map<string, number>} */
  const newest = new Map();
  /** Our latest reaction to a message, by the message's id. @type {Map<string, { emoji: string, at: string, isPending: boolean, trouble: string | null }>} */
  const ours = new Map();
  const kept = new Set();
  /** @type {Readonly<Message>[]} */
  const messages = [];
  for (const row of rows) {
    byId.set(row.id, row);
    newest.set(row.conversation_id, Math.max(row.seq, newest.get(row.conversation_id) ?? 0));
    if (row.client_ref) kept.add(row.client_ref);
    const reaction = reactionIn(row.type, row.content);
    if (!reaction) messages.push(row);
    else ours.set(reaction.to, { emoji: reaction.emoji, at: row.created_at, isPending: row.status === "queued", trouble: row.status === "failed" ? row.error_message : null });
  }
  // rows of several conversations come one conversation after the other
  if (newest.size > 1) messages.sort(byTime);

  const { conversationId, customerId, bookingId } = chat;
  /** @type {PendingMessage[]} */
  const waiting = [];
  for (const one of pending) {
    const isHere =
      (conversationId && one.conversationId === conversationId) || (customerId && one.customerId === customerId) || (bookingId && one.bookingId === bookingId);
    if (!isHere || kept.has(one.clientRef)) continue;
    const reaction = one.state === "pending" ? reactionIn(one.type, one.content) : null;
    if (!reaction) waiting.push(one);
    else ours.set(reaction.to, { emoji: reaction.emoji, at: new Date(one.writtenAt).toISOString(), isPending: true, trouble: null });
  }

  return {
    bubbles: [
      ...between(
        // a message keeps its bubble when it is no longer on its way
        messages.map((message) => ({ key: keyOf(message), at: sentAt(message), came: message.created_at, message, pending: null, aside: null })),
        asides.map((aside) => ({ key: `aside-${aside.id}`, at: aside.at, came: aside.at, message: null, pending: null, aside })),
      ),
      ...waiting.map((one) => ({ key: one.clientRef, at: one.writtenAt, came: one.writtenAt, message: null, pending: one, aside: null })),
    ],
    byId,
    newest,
    reactionsTo: (message) => reactionsTo(message, ours.get(message.id)),
  };
}

/**
 * Both in the order in which they came; what stands between comes after messages of the same time.
 *
 * @param {Bubble[]} messages
 * @param {Bubble[]} asides
 */
function between(messages, asides) {
  if (!asides.length) return messages;
  const all = [];
  let next = 0;
  for (const message of messages) {
    for (; next < asides.length && Date.parse(String(asides[next].came)) < Date.parse(String(message.came)); next += 1) all.push(asides[next]);
    all.push(message);
  }
  return [...all, ...asides.slice(next)];
}

/**
 * A reaction of ours is a message of its own, which names the one that it is about.
 *
 * @param {string} type
 * @param {unknown} content
 */
function reactionIn(type, content) {
  if (type !== "reaction" || !content || typeof content !== "object") return null;
  const { message_id: to, emoji } = /** @type {{ message_id?: unknown, emoji?: unknown }} */ (content);
  return typeof to === "string" && typeof emoji === "string" ? { to, emoji } : null;
}

/**
 * The reactions to a message: WhatsApp's and ours. The later one counts.
 *
 * @param {Readonly<Message>} message
 * @param {{ emoji: string, at: string, isPending: boolean, trouble: string | null } | undefined} own
 * @returns {Reaction[]}
 */
function reactionsTo(message, own) {
  const told = Array.isArray(message.reactions) ? message.reactions : [];
  const found = [];
  for (const { sender_type: sender, emoji, at } of told) {
    const isOurs = sender === "operator";
    if (typeof emoji !== "string" || !emoji || (isOurs && own && Date.parse(own.at) >= Date.parse(at))) continue;
    found.push({ emoji, isOurs, isPending: false, trouble: null });
  }
  const isOld = found.some(({ isOurs }) => isOurs);
  if (own?.emoji && !isOld) found.push({ emoji: own.emoji, isOurs: true, isPending: own.isPending, trouble: own.trouble });
  return found;
}

/**
 * @param {Readonly<Message>} a
 * @param {Readonly<Message>} b
 */
function byTime(a, b) {
  return Date.parse(a.created_at) - Date.parse(b.created_at) || a.seq - b.seq;
}
