/**
 * The faces of a contact, made of the canonical rows as the database's views make them.
 *
 * Every change is told once, as a row of `contacts`, `conversations` or `messages`. A client that
 * shows a contact as the contacts page or the live chat does turns those rows into its face here,
 * and needs no second stream that could disagree with the first.
 */

/** @import { ContactV2, LiveChatContact } from "./rows.js" */

/**
 * A conversation and how far it has come: `lastMessageAt` is the provider's time of the latest
 * message, the conversation's own before the first.
 *
 * @typedef {{ conversation: any, lastMessageAt: string, lastInboundAt: string | null }} Thread
 */

// the table status_words
const LIVE_CHAT_WORDS = /** @type {const} */ ({ open: "Open", pending: "Pending", closed: "Closed" });

/**
 * The row of `contacts_v2` for a contact and its current conversation, if it has one.
 *
 * @param {any} contact
 * @param {Thread | null} thread
 * @returns {ContactV2}
 */
function contactV2(contact, thread) {
  const { profile_name, notes, preferences, portal_user_id } = contact;
  return Object.freeze({
    ...shared(contact, thread),
    profile_name,
    notes,
    preferences,
    marketing_stopped_at: contact.marketing_stopped_at ?? null,
    conversation_status: statusOf(contact, thread),
    portal_user_id,
  });
}

/**
 * The row of `contacts_live_chat` for a contact and its current conversation, if it has one.
 *
 * @param {any} contact
 * @param {Thread | null} thread
 * @returns {LiveChatContact}
 */
function contactLiveChat(contact, thread) {
  return Object.freeze({
    ...shared(contact, thread),
    wa_id: thread?.conversation.customer_wa_id ?? null,
    conversation_status: LIVE_CHAT_WORDS[statusOf(contact, thread)],
    channel: thread?.conversation.channel ?? null,
    last_message_at: thread?.lastMessageAt ?? null,
    last_inbound_at: thread?.lastInboundAt ?? null,
  });
}

export const FACES = { v2: contactV2, live_chat: contactLiveChat };

/**
 * @param {any} contact
 * @param {Thread | null} thread
 * @returns {Omit<Pick<ContactV2, keyof ContactV2 & keyof LiveChatContact>, "conversation_status">}
 */
function shared({ id, account_id, name, profile_name, phone, username, email, tags, created_at, updated_at, version }, thread) {
  return {
    id,
    account_id,
    name: name ?? profile_name,
    phone,
    username,
    email,
    tags,
    conversation_id: thread?.conversation.id ?? null,
    created_at,
    updated_at,
    version,
  };
}

/**
 * @param {any} contact
 * @param {Thread | null} thread
 * @returns {"open" | "pending" | "closed"}
 */
function statusOf(contact, thread) {
  return thread ? thread.conversation.status : contact.status;
}
