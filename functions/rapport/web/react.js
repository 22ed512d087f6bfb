/**
 * Hooks for React: a user's jobs, invoices, messages and points as they change.
 *
 *     <LiveProvider client={supabase}>…</LiveProvider>
 *     const { rows, isConnected, error } = useJobUpdates(customerId, { onInsert: (job) => … });
 *
 * A callback may be an inline function: the latest one is called, and nothing subscribes again.
 * Without a customer's id, as before the session is known, nothing is subscribed to.
 */

import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { createLive, currentLive } from "./live/index.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { ReactNode } from "react" */
/** @import { ContactV2, Invoice, Job, Live, LiveChatContact, LoyaltyTransaction, Message, Profile, State } from "./live/index.js" */
/** @import { EverythingCallbacks, Everything } from "./live/everything.js" */
/** @import { LoyaltyCallbacks, MessageCallbacks, followContacts } from "./live/portal_subscriptions.js" */
/** @import { PresenceSnapshot } from "./live/presence.js" */
/** @import { RowCallbacks, Snapshot } from "./live/subscription.js" */

/** @typedef {string | null | undefined} Id */

/**
 * What hooks look at: a subscription, everything, or who is there.
 *
 * @template S
 * @typedef {{ getSnapshot(): S, subscribe(listener: () => void): () => void, close(): void }} Store
 */

const NOTHING = Object.freeze({
  rows: Object.freeze([]),
  state: "connecting",
  isLoaded: false,
  isConnected: false,
  error: null,
  latestUpdate: null,
  unreadCount: 0,
  totalPoints: 0,
  profile: null,
  activeSubscriptions: 0,
  onlineUsers: Object.freeze({}),
});
const ALL = Object.freeze({ ...NOTHING, jobs: NOTHING, invoices: NOTHING, messages: NOTHING, loyalty: NOTHING, profile: NOTHING });

const Context = createContext(/** @type {Live | null} */ (null));

/**
 * Gives the hooks beneath it the live client on the app's own Supabase client.
 *
 * @param {{ client: SupabaseClient<any, any, any>, children?: ReactNode }} props
 */
export function LiveProvider({ client, children }) {
  const live = useMemo(() => createLive(client), [client]);
  return createElement(Context.Provider, { value: live }, children);
}

/** The live client of the provider, or the one that was created last. */
export function useLive() {
  return useContext(Context) ?? currentLive();
}

/**
 * How it goes: connecting, connected, polling, offline, error, needs-auth or closed.
 *
 * @returns {State}
 */
export function useLiveState() {
  const live = useLive();
  return useSyncExternalStore(
    (listener) => live.subscribe(listener),
    () => live.state,
    () => "connecting",
  );
}

/**
 * Appointments of a customer.
 *
 * @param {Id} customerId
 * @param {RowCallbacks<Job>} [callbacks]
 * @returns {Snapshot<Job>}
 */
export function useJobUpdates(customerId, callbacks) {
  return useFollowed(customerId, callbacks, (live, id, latest) => live.jobs(id, latest));
}

/**
 * Invoices of a customer.
 *
 * @param {Id} customerId
 * @param {RowCallbacks<Invoice>} [callbacks]
 * @returns {Snapshot<Invoice>}
 */
export function useInvoiceUpdates(customerId, callbacks) {
  return useFollowed(customerId, callbacks, (live, id, latest) => live.invoices(id, latest));
}

/**
 * Messages with a customer; of one booking if `bookingId` is given, which is a job's id.
 *
 * @param {Id} customerId
 * @param {MessageCallbacks & { bookingId?: string }} [callbacks]
 * @returns {Snapshot<Message> & { unreadCount: number }}
 */
export function useMessageUpdates(customerId, callbacks) {
  const bookingId = callbacks?.bookingId;
  const key = customerId && `${customerId} ${bookingId}`;
  return useFollowed(key, callbacks, (live, _, latest) => live.messages(customerId, Object.assign(latest, { bookingId })));
}

/**
 * Messages of one conversation.
 *
 * @param {Id} conversationId
 * @param {MessageCallbacks} [callbacks]
 * @returns {Snapshot<Message> & { unreadCount: number }}
 */
export function useConversation(conversationId, callbacks) {
  return useFollowed(conversationId, callbacks, (live, id, latest) => live.conversation(id, latest));
}

/**
 * All contacts that the user may see, as the live chat or the contacts page ("v2") shows them:
 * two views of the same rows, so that what is written in either is in both.
 *
 * @template {"v2" | "live_chat"} [F="live_chat"]
 * @param {F} [face]
 * @param {Parameters<typeof followContacts<F>>[2]} [callbacks]
 * @returns {Snapshot<F extends "v2" ? ContactV2 : LiveChatContact>}
 */
export function useSyncContacts(face = /** @type {F} */ ("live_chat"), callbacks) {
  return useFollowed(face, callbacks, (live, _, latest) => live.contacts(face, latest));
}

/**
 * Points of a customer.
 *
 * @param {Id} customerId
 * @param {LoyaltyCallbacks} [callbacks]
 * @returns {Snapshot<LoyaltyTransaction> & { totalPoints: number }}
 */
export function useLoyaltyUpdates(customerId, callbacks) {
  return useFollowed(customerId, callbacks, (live, id, latest) => live.loyalty(id, latest));
}

/**
 * A customer's own data.
 *
 * @param {Id} customerId
 * @param {RowCallbacks<Profile>} [callbacks]
 * @returns {Snapshot<Profile> & { profile: Profile | null }}
 */
export function useProfile(customerId, callbacks) {
  return useFollowed(customerId, callbacks, (live, id, latest) => live.profile(id, latest));
}

/**
 * All that a customer's portal shows, in one: what changed together is rendered together.
 *
 * @param {Id} customerId
 * @param {EverythingCallbacks} [callbacks]
 * @returns {ReturnType<Everything["getSnapshot"]>}
 */
export function useAllUpdates(customerId, callbacks) {
  return useFollowed(customerId, callbacks, (live, id, latest) => live.everything(id, latest), /** @type {any} */ (ALL));
}

/**
 * Who is there: at the desks that the user may see, or on a side of a conversation where `where` is
 * "staff:ID" or "customer:ID". `shown` is what others see of the user; a customer is not seen at a
 * desk. Users are known by their `personId`.
 *
 * @param {string} where
 * @param {Id} userId nothing is joined before it is known
 * @param {object} [shown]
 * @returns {PresenceSnapshot}
 */
export function usePresence(where, userId, shown) {
  const [, side, conversation] = /^(staff|customer):(.+)$/.exec(where) ?? [];
  const text = JSON.stringify(shown ?? null);
  return useFollowed(userId && `${userId} ${where} ${text}`, undefined, (live) => {
    const presence = live.presence(/** @type {"staff" | "customer" | undefined} */ (side) ?? "desk", conversation);
    if (shown) void presence.showMe(shown);
    return presence;
  });
}

/**
 * What is followed, for as long as somebody looks.
 *
 * @template S
 * @template {object} C
 * @param {Id} id
 * @param {C | undefined} callbacks
 * @param {(live: Live, id: string, latest: C) => Store<S>} follow
 * @param {S} [nothing]
 * @returns {S}
 */
function useFollowed(id, callbacks, follow, nothing = /** @type {S} */ (NOTHING)) {
  const live = useLive();
  const latest = useRef(callbacks);
  useEffect(() => {
    latest.current = callbacks;
  });
  const store = useMemo(() => {
    /** @type {Store<S> | null} */
    let followed = null;
    let count = 0;
    return {
      getSnapshot: () => followed?.getSnapshot() ?? nothing,
      /** @param {() => void} listener */
      subscribe(listener) {
        if (!id) return () => {};
        followed ??= follow(live, id, latestOf(latest));
        count++;
        const end = followed.subscribe(listener);
        return () => {
          end();
          if (--count) return;
          followed?.close();
          followed = null;
        };
      },
    };
    // what is followed is told by the id alone
  }, [live, id]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, () => nothing);
}

/**
 * Callbacks that call the latest ones.
 *
 * @template {object} C
 * @param {{ current: C | undefined }} latest
 * @returns {C}
 */
function latestOf(latest) {
  return new Proxy(/** @type {any} */ ({}), {
    get: (it, /** @type {string} */ name) =>
      name.startsWith("on") ? (/** @type {unknown[]} */ ...given) => /** @type {any} */ (latest.current)?.[name]?.(...given) : it[name],
  });
}
