/**
 * Changes of one kind of row by one callback, from the live client that was created last. Each
 * function returns what ends it. `"*"` is all that the user may see.
 */

import { currentLive } from "./create.js";

/** @import { EverythingCallbacks } from "./everything.js" */
/** @import { Change } from "./events.js" */
/** @import { Invoice, Job, LoyaltyTransaction, Message } from "./rows.js" */

/**
 * @param {string} customerId
 * @param {(change: Change<Job>) => unknown} callback
 */
export function subscribeToJobUpdates(customerId, callback) {
  return currentLive().jobs(orAll(customerId), { onChange: callback }).close;
}

/**
 * @param {string} customerId
 * @param {(change: Change<Invoice>) => unknown} callback
 */
export function subscribeToInvoiceUpdates(customerId, callback) {
  return currentLive().invoices(orAll(customerId), { onChange: callback }).close;
}

/**
 * @param {string} customerId
 * @param {(change: Change<Message>) => unknown} callback
 */
export function subscribeToMessageUpdates(customerId, callback) {
  return currentLive().messages(orAll(customerId), { onChange: callback }).close;
}

/**
 * @param {string} customerId
 * @param {(change: Change<LoyaltyTransaction>) => unknown} callback
 */
export function subscribeToLoyaltyUpdates(customerId, callback) {
  return currentLive().loyalty(customerId, { onChange: callback }).close;
}

/**
 * All that a customer's portal shows.
 *
 * @param {string} customerId
 * @param {EverythingCallbacks} callbacks
 */
export function subscribeToAllUpdates(customerId, callbacks) {
  return currentLive().everything(customerId, callbacks).close;
}

/** @param {string} customerId */
function orAll(customerId) {
  return customerId === "*" ? null : customerId;
}
