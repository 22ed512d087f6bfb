/**
 * The live client: a user's customers, jobs, invoices, messages and points as they change.
 *
 *     const live = createLive(supabase);
 *     const jobs = live.jobs(customerId, { onInsert: (job) => … });
 *     jobs.subscribe(() => show(jobs.getSnapshot().rows));
 */

export { createLive, currentLive } from "./create.js";
export { Conflict, LiveError, NotAllowed, NotFound, NotSignedIn, Unavailable, Unprocessable, Unreadable } from "./errors.js";
export { Everything } from "./everything.js";
export { JobSubscription, LoyaltySubscription, MessageSubscription, ProfileSubscription } from "./portal_subscriptions.js";
export { Live } from "./live.js";
export { Presence, Typing, personId } from "./presence.js";
export * from "./subscribe_to.js";
export { Subscription } from "./subscription.js";

/**
 * @template {import("./rows.js").Row} [R=import("./rows.js").Row]
 * @typedef {import("./events.js").Change<R>} Change
 */
/** @typedef {import("./catch_up.js").State} State */
/** @typedef {import("./outbox.js").Outbox} Outbox */
/** @typedef {import("../database.types.js").Database} Database */
/** @typedef {import("./presence.js").Online} Online */
/** @typedef {import("./rows.js").ContactV2} ContactV2 */
/** @typedef {import("./rows.js").Invoice} Invoice */
/** @typedef {import("./rows.js").Job} Job */
/** @typedef {import("./rows.js").LiveChatContact} LiveChatContact */
/** @typedef {import("./rows.js").LoyaltyTransaction} LoyaltyTransaction */
/** @typedef {import("./rows.js").Message} Message */
/** @typedef {import("./rows.js").Profile} Profile */
