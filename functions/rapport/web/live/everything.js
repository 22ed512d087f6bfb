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

/** All that a customer's portal shows, as one: its parts change together. */
export class Everything {
  /** @type {Readonly<Shown & Summary> | null} */
  #snapshot = null;
  /** @type {Map<() => void, () => void>} */
  #listeners = new Map();
  #hub;

  /**
   * @param {CatchUp} hub
   * @param {Parts} parts
   */
  constructor(hub, parts) {
    this.#hub = hub;
    this.parts = parts;
    this.getSnapshot = this.getSnapshot.bind(this);
    this.subscribe = this.subscribe.bind(this);
    this.close = this.close.bind(this);
  }

  /** What is shown at the moment: the same object until something else is. */
  getSnapshot() {
    const { jobs, invoices, messages, loyalty, profile } = this.parts;
    const shown = {
      jobs: jobs.getSnapshot(),
      invoices: invoices.getSnapshot(),
      messages: messages.getSnapshot(),
      loyalty: loyalty.getSnapshot(),
      profile: profile.getSnapshot(),
    };
    const before = this.#snapshot;
    const all = Object.values(shown);
    if (before && Object.entries(shown).every(([name, part]) => before[/** @type {keyof Parts} */ (name)] === part)) return before;
    const activeSubscriptions = all.filter(({ isConnected }) => isConnected).length;
    this.#snapshot = Object.freeze({
      ...shown,
      state: (all.find(({ isConnected }) => !isConnected) ?? all[0]).state,
      isConnected: activeSubscriptions === all.length,
      activeSubscriptions,
      error: all.find(({ error }) => error)?.error ?? null,
    });
    return this.#snapshot;
  }

  /**
   * Calls a function after every change of the snapshot, once for all that changed together.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    let before = this.getSnapshot();
    const watch = () => {
      const now = this.getSnapshot();
      if (now === before) return;
      before = now;
      listener();
    };
    this.#hub.watchers.add(watch);
    const end = () => {
      this.#hub.watchers.delete(watch);
      this.#listeners.delete(watch);
    };
    this.#listeners.set(watch, end);
    return end;
  }

  /** Waits until the rows of all parts are read. Throws what the server refuses them with. */
  async ready() {
    await Promise.all(Object.values(this.parts).map((part) => part.ready()));
    return this;
  }

  /** Ends all parts. */
  close() {
    for (const part of Object.values(this.parts)) part.close();
    for (const [watch, end] of this.#listeners) {
      watch();
      end();
    }
  }
}
