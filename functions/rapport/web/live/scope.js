/**
 * What is followed: all that the user may, one customer, one conversation, or a room. Rooms are the
 * desk of an account, and who is in a conversation or writing there, by side.
 *
 * @typedef {"presence_desk" | "presence_staff" | "presence_customer" | "typing_staff" | "typing_customer"} RoomKind
 * @typedef {{ kind: "all" | "customer" | "conversation" | RoomKind, id: string | null }} Scope
 */

/**
 * A customer, or all that the user may see.
 *
 * @param {string | null} [customerId]
 * @returns {Scope}
 */
export function ofCustomer(customerId) {
  return customerId ? { kind: "customer", id: customerId.toLowerCase() } : { kind: "all", id: null };
}

/**
 * @param {string} conversationId
 * @returns {Scope}
 */
export function ofConversation(conversationId) {
  return { kind: "conversation", id: conversationId.toLowerCase() };
}

/**
 * The same text for the same scope.
 *
 * @param {Scope} scope
 */
export function keyOf({ kind, id }) {
  return `${kind}:${id}`;
}
