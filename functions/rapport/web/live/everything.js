import { Store } from "./store.js";

/** @import { LiveError } from "./errors.js" */
/** @import { CatchUp, State } from "./catch_up.js" */
/** @import { JobSubscription, LoyaltySubscription, MessageCallbacks, MessageSubscription, ProfileSubscription } from "./portal_subscriptions.js" */
/** @import { Invoice, Job, LoyaltyTransaction, Profile } from "./rows.js" */
/** @import { Subscription } from "./subscription.js" */

/**
 * Those of all parts.
 *
 * @typedef {object} EverythingCallbacks
 * @property {(job: Job) => unknown} [onJobInsert]
 * @property {(job: Job, old: Job) => unknown} [onJobUpdate]
 * @property {(job: Job) => unknown} [onJobDelete]
 * @property {(invoice: Invoice) => unknown} [onInvoiceInsert]
 * @property {(invoice: Invoice, old: Invoice) => unknown} [onInvoiceUpdate]
 * @property {(invoice: Invoice) => unknown} [onInvoiceDelete]
 * @property {MessageCallbacks["onNewMessage"]} [onNewMessage]
 * @property {MessageCallbacks["onMessageRead"]} [onMessageRead]
 * @property {MessageCallbacks["onMessageDeleted"]} [onMessageDeleted]
 * @property {(transaction: LoyaltyTransaction) => unknown} [onPointsEarned]
 * @property {(transaction: LoyaltyTransaction) => unknown} [onPointsRedeemed]
 * @property {(profile: Profile, old: Profile) => unknown} [onProfileUpdate]
 *
 * @typedef {{
 *   jobs: JobSubscription, invoices: Subscription<Invoice, {}>, messages: MessageSubscription,
 *   loyalty: LoyaltySubscription, profile: ProfileSubscription,
 * }} Parts
 *
 * The snapshots of all parts, of one moment.
 *
 * @typedef {{ [Name in keyof Parts]: ReturnType<Parts[Name]["getSnapshot"]> }} Shown
 * @typedef {object} Summary
 * @property {State} state of the part that is worst off
 * @property {boolean} isConnected whether all parts are
 * @property {number} activeSubscriptions how many of the five parts are connected
 * @property {LiveError | null} error what is wrong with a part at the moment
 */

/**
 * All that a customer's portal shows, as one: its parts change together.
 *
 * @extends {Store<Shown & Summary>}
 */
export class Everything extends Store {
  #hub;

  /**
   * @param {CatchUp} hub
   * @param {Parts} parts
   */
  constructor(hub, parts) {
    super();
    this.#hub = hub;
    this.parts = parts;
    hub.watchers.add(this.notify);
    this.close = this.close.bind(this);
  }

  /** Waits until the rows of all parts are read. Throws what the server refuses them with. */
  async ready() {
    await Promise.all(Object.values(this.parts).map((part) => part.ready()));
    return this;
  }

  /** Ends all parts. */
  close() {
    for (const part of Object.values(this.parts)) part.close();
    this.#hub.watchers.delete(this.notify);
    this.end();
  }

  /** @override */
  look() {
    const shown = /** @type {Shown} */ (Object.fromEntries(Object.entries(this.parts).map(([name, part]) => [name, part.getSnapshot()])));
    const all = Object.values(shown);
    const activeSubscriptions = all.filter(({ isConnected }) => isConnected).length;
    return {
      ...shown,
      state: (all.find(({ isConnected }) => !isConnected) ?? all[0]).state,
      isConnected: activeSubscriptions === all.length,
      activeSubscriptions,
      error: all.find(({ error }) => error)?.error ?? null,
    };
  }
}
