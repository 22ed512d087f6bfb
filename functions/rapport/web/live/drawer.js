/**
 * Where messages wait that are not sent yet: in the browser's database, which a closed page and a
 * lost network leave alone; where there is none, in memory.
 */

import { call } from "./errors.js";

/**
 * A message as it waits. A chat is named by its conversation, its booking, or the customer whose
 * chat in the portal it is.
 *
 * @typedef {object} Kept
 * @property {number} [number] in the order in which they were written
 * @property {string} user
 * @property {string} clientRef by which the server takes it once
 * @property {string | null} conversationId
 * @property {string | null} bookingId
 * @property {string | null} customerId
 * @property {string} message
 * @property {string} type
 * @property {unknown} content
 * @property {string | null} replyTo
 * @property {number} writtenAt ms since 1970
 * @property {string | null} refusal why the server will not have it
 * @property {{ code?: string, field?: string, hint?: string, facts?: Readonly<Record<string, string>> }} [refused] the same for programs
 *
 * @typedef {object} Drawer
 * @property {(message: Kept) => Promise<void>} put keeps a message, or what has become of it
 * @property {(user: string) => Promise<Kept[]>} all in the order in which they were written
 * @property {(user: string, clientRef: string) => Promise<void>} remove
 * @property {() => void} close
 */

const NAME = "rapport-outbox";

/**
 * Opens the drawer; `changed` is called when another tab has put or taken something.
 *
 * @param {() => void} changed
 * @returns {Promise<Drawer>}
 */
export async function openDrawer(changed) {
  if (typeof indexedDB === "undefined") return inMemory();
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => {
    const messages = opening.result.createObjectStore("messages", { keyPath: "number", autoIncrement: true });
    messages.createIndex("user", "user");
  };
  const database = await answerOf(opening);
  const tabs = new BroadcastChannel(NAME);
  tabs.onmessage = () => call(changed);

  /**
   * @param {IDBTransactionMode} mode
   * @param {(messages: IDBObjectStore) => unknown} work
   */
  async function within(mode, work) {
    // a message that was shown as written is not lost with the power
    const transaction = database.transaction("messages", mode, { durability: "strict" });
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(null);
      transaction.onabort = () => reject(transaction.error);
    });
    await work(transaction.objectStore("messages"));
    await done;
    if (mode === "readwrite") tabs.postMessage(null);
  }

  /** @param {string} user */
  async function all(user) {
    /** @type {Kept[]} */
    let found = [];
    await within("readonly", async (messages) => {
      found = await answerOf(messages.index("user").getAll(user));
    });
    return found;
  }

  return {
    all,
    put: (message) => within("readwrite", (messages) => messages.put(message)),
    remove: (user, clientRef) =>
      within("readwrite", async (messages) => {
        const found = await answerOf(messages.index("user").getAll(user));
        for (const { number, clientRef: ref } of found) if (ref === clientRef) messages.delete(number);
      }),
    close: () => {
      tabs.close();
      database.close();
    },
  };
}

/** @returns {Drawer} */
function inMemory() {
  /** @type {Map<string, Kept>} */
  const kept = new Map();
  return {
    all: async (user) => [...kept.values()].filter((message) => message.user === user),
    put: async (message) => void kept.set(message.clientRef, message),
    remove: async (_, clientRef) => void kept.delete(clientRef),
    close: () => {},
  };
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function answerOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
