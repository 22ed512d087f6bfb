import { Everything } from "./everything.js";
import { CatchUp } from "./catch_up.js";
import { JobSubscription, LoyaltySubscription, MessageSubscription, ProfileSubscription, followContacts, followInvoices } from "./portal_subscriptions.js";
import { Presence, Typing } from "./presence.js";
import { ofConversation, ofCustomer } from "./scope.js";
import { Server, hasSessions } from "./server.js";
import { TIMING } from "./timing.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { EverythingCallbacks } from "./everything.js" */
/** @import { Change } from "./events.js" */
/** @import { LoyaltyCallbacks, MessageCallbacks } from "./portal_subscriptions.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { Online } from "./presence.js" */
/** @import { Invoice, Job, Profile } from "./rows.js" */
/** @import { RowCallbacks } from "./subscription.js" */
/** @import { Timing } from "./timing.js" */

/**
 * Everything live of the user who is signed in. Subscriptions share the app's own connection, one
 * cursor and one poll. With every fault of the network, each row's last version is told once,
 * versions rising, and each message's insert once and in order: see `ledger.js`.
 */
export class Live {
  /** @type {Promise<Outbox> | null} */
  #outbox = null;
  /** Whether it was paused because nobody looks. */
  #isHidden = false;
  /** Ends what it listens to. @type {(() => void)[]} */
  #ends = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #hiding;

  /**
   * @param {SupabaseClient<any, any, any>} supabase
   * @param {Partial<Timing>} [timing]
   */
  constructor(supabase, timing) {
    /** For other modules on the same connection, such as `desk.js`. */
    this.hub = new CatchUp(new Server(supabase, { ...TIMING, ...timing }));
    this.#listen(supabase);
  }

  /** How it goes: connecting, connected, polling, offline, error, needs-auth or closed. */
  get state() {
    return this.hub.state;
  }

  /** What is wrong at the moment. */
  get error() {
    return this.hub.error ?? this.hub.link.error;
  }

  /**
   * Messages on their way, also while the server is away. Most pages write nothing, so it comes
   * when it is asked for.
   *
   * @returns {Promise<Outbox>}
   */
  openOutbox() {
    this.#outbox ??= import("./outbox.js").then(({ Outbox }) => new Outbox(this.hub));
    // a file that could not be had is asked for again
    this.#outbox.catch(() => (this.#outbox = null));
    return this.#outbox;
  }

  /**
   * Appointments of a customer, or all that the user may see.
   *
   * @param {string | null} [customerId]
   * @param {RowCallbacks<Job>} [callbacks]
   */
  jobs(customerId, callbacks) {
    return new JobSubscription(this.hub, ofCustomer(customerId), callbacks);
  }

  /**
   * Writes columns of a job, which only staff may; all that show it have them from the first
   * moment. What is refused is taken back, and thrown.
   *
   * @param {string} id
   * @param {Parameters<JobSubscription["update"]>[1]} patch
   */
  async updateJob(id, patch) {
    await this.hub.edits.write({ table: "jobs", id, patch });
  }

  /**
   * Invoices of a customer, or all that the user may see.
   *
   * @param {string | null} [customerId]
   * @param {RowCallbacks<Invoice>} [callbacks]
   */
  invoices(customerId, callbacks) {
    return followInvoices(this.hub, ofCustomer(customerId), callbacks);
  }

  /**
   * Messages with a customer, of one booking if `bookingId` is given, which is a job's id. Without
   * either, those to come in all conversations.
   *
   * @param {string | null} [customerId]
   * @param {MessageCallbacks & { bookingId?: string }} [callbacks]
   */
  messages(customerId, callbacks) {
    return new MessageSubscription(this.hub, ofCustomer(customerId), callbacks);
  }

  /**
   * Messages of one conversation, by its own topic.
   *
   * @param {string} conversationId
   * @param {MessageCallbacks} [callbacks]
   */
  conversation(conversationId, callbacks) {
    return new MessageSubscription(this.hub, ofConversation(conversationId), callbacks);
  }

  /**
   * Points of a customer.
   *
   * @param {string} customerId
   * @param {LoyaltyCallbacks} [callbacks]
   */
  loyalty(customerId, callbacks) {
    return new LoyaltySubscription(this.hub, ofCustomer(customerId), callbacks);
  }

  /**
   * A customer's own data.
   *
   * @param {string} customerId
   * @param {RowCallbacks<Profile>} [callbacks]
   */
  profile(customerId, callbacks) {
    return new ProfileSubscription(this.hub, ofCustomer(customerId), callbacks);
  }

  /**
   * All contacts that the user may see, as the contacts page ("v2") or the live chat shows them.
   *
   * @template {"v2" | "live_chat"} F
   * @param {F} face
   * @param {Parameters<typeof followContacts<F>>[2]} [callbacks]
   */
  contacts(face, callbacks) {
    return followContacts(this.hub, face, callbacks);
  }

  /**
   * All that a customer's portal shows, in one.
   *
   * @param {string} customerId
   * @param {EverythingCallbacks} [callbacks]
   */
  everything(customerId, callbacks = {}) {
    return new Everything(this.hub, {
      jobs: this.jobs(customerId, {
        onInsert: callbacks.onJobInsert,
        onUpdate: callbacks.onJobUpdate,
        onDelete: callbacks.onJobDelete,
      }),
      invoices: this.invoices(customerId, {
        onInsert: callbacks.onInvoiceInsert,
        onUpdate: callbacks.onInvoiceUpdate,
        onDelete: callbacks.onInvoiceDelete,
      }),
      messages: this.messages(customerId, callbacks),
      loyalty: this.loyalty(customerId, callbacks),
      profile: this.profile(customerId, { onUpdate: callbacks.onProfileUpdate }),
    });
  }

  /**
   * Who is at an account's desk, or of staff or customers in a conversation. Without an id, at all
   * desks that the user may see.
   *
   * @param {"desk" | "staff" | "customer"} where
   * @param {string | null} [id]
   * @param {{ onChange?: (online: Online) => unknown }} [callbacks]
   */
  presence(where, id, callbacks) {
    return new Presence(this.hub, where, id, callbacks);
  }

  /**
   * Whether a side of a conversation is writing; the user says so on its own side's.
   *
   * @param {"staff" | "customer"} side
   * @param {string} conversationId
   * @param {{ onTyping?: () => unknown }} [callbacks]
   */
  typing(side, conversationId, callbacks) {
    return new Typing(this.hub, side, conversationId, callbacks);
  }

  /**
   * Calls a function with all changes that were told at once, after their callbacks: what one
   * transaction has changed is among the same. Returns what ends that.
   *
   * @param {(changes: readonly Change[]) => void} callback
   * @returns {() => void}
   */
  onCheckpoint(callback) {
    this.hub.checkpoints.add(callback);
    return () => void this.hub.checkpoints.delete(callback);
  }

  /**
   * Calls a function when `state` or `error` may have changed; returns what ends that.
   *
   * @param {() => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.hub.watchers.add(listener);
    return () => void this.hub.watchers.delete(listener);
  }

  /** Ends the connection and the polls, as in the background; subscriptions stay. */
  async pause() {
    this.#isHidden = false;
    await this.hub.stop();
  }

  /** Connects again; what was missed is told. */
  resume() {
    clearTimeout(this.#hiding);
    this.#isHidden = false;
    this.hub.start();
    void this.#outbox?.then((outbox) => outbox.hurry());
  }

  /** Ends everything, and every subscription. */
  async close() {
    clearTimeout(this.#hiding);
    for (const end of this.#ends) end();
    await (await this.#outbox)?.close();
    await this.hub.close();
  }

  /** @param {SupabaseClient<any, any, any>} supabase */
  #listen(supabase) {
    if (hasSessions(supabase)) {
      const { data } = supabase.auth.onAuthStateChange((event) => {
        // by a clock that is wrong the official client has new tokens before every request
        if (event !== "TOKEN_REFRESHED" || this.error) this.#hurry();
      });
      this.#ends.push(() => data.subscription.unsubscribe());
    }
    if (typeof window === "undefined") return;
    this.#on(window, "online", () => this.#hurry());
    this.#on(document, "visibilitychange", () => {
      clearTimeout(this.#hiding);
      if (document.hidden) this.#hiding = setTimeout(() => this.#hide(), this.hub.server.timing.hiddenPause);
      else if (this.#isHidden) this.resume();
    });
  }

  #hide() {
    if (this.hub.isPaused) return;
    this.#isHidden = true;
    void this.hub.stop();
  }

  #hurry() {
    this.hub.hurry();
    void this.#outbox?.then((outbox) => outbox.hurry());
  }

  /**
   * @param {EventTarget} target
   * @param {string} event
   * @param {() => void} listener
   */
  #on(target, event, listener) {
    target.addEventListener(event, listener);
    this.#ends.push(() => target.removeEventListener(event, listener));
  }
}
