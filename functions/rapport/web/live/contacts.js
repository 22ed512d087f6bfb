/** @import { Change, Event, Json } from "./events.js" */
/** @import { FaceFeed } from "./face_feed.js" */
/** @import { FACES } from "./faces.js" */
/** @import { Row } from "./rows.js" */
/** @import { Server } from "./server.js" */

/**
 * The contacts that the user may see, in one of their faces, made of three tables.
 *
 * @template {Row} R
 */
export class FaceSource {
  tables = new Set(["contacts", "conversations", "messages"]);
  /** Comes with the rows, since most pages are of customers, who see no contacts. @type {FaceFeed<R> | null} */
  #feed = null;
  #face;

  /** @param {keyof typeof FACES} face */
  constructor(face) {
    this.#face = face;
  }

  /** The faces as they have been told. */
  get rows() {
    return this.#feed?.rows ?? [];
  }

  /** Whether there are rows that can't be read. */
  get isUnreadable() {
    return !!this.#feed?.unreadable.size;
  }

  /**
   * Whether all of what was broadcast together can be told.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    return this.#loaded.isSure(events);
  }

  /**
   * Takes what was broadcast together.
   *
   * @param {Event[]} events
   */
  hear(events) {
    return this.#loaded.apply(events);
  }

  /**
   * Takes a whole catch-up; of one feed there is one at a time.
   *
   * @param {Event[]} events
   */
  settle(events) {
    return this.#loaded.apply(events);
  }

  /** @param {Server} server */
  async load(server) {
    const [{ FaceFeed }, { FACES }] = await Promise.all([import("./face_feed.js"), import("./faces.js")]);
    const read = await readAll(server);
    /** @type {FaceFeed<R>} */
    const feed = new FaceFeed(/** @type {any} */ (FACES[this.#face]));
    for (const [table, rows] of read) feed.load(table, rows);
    this.#feed = feed;
  }

  /**
   * Reads the rows again; nothing is heard meanwhile.
   *
   * @param {Server} server
   * @returns {Promise<Change<R>[]>}
   */
  async reread(server) {
    const changes = [];
    for (const [table, rows] of await readAll(server)) changes.push(...this.#loaded.replace(table, rows));
    return changes;
  }

  get #loaded() {
    return /** @type {FaceFeed<R>} */ (this.#feed);
  }
}

/**
 * The rows by their tables; of who may see nothing, none.
 *
 * @param {Server} server
 */
async function readAll(server) {
  /** @type {Record<string, Json[]>} */
  const found = { contacts: [], conversations: [], conversation_activity: [] };
  for (const owner of await server.owners()) {
    for (const [table, rows] of Object.entries(found)) {
      // a customer sees no contacts
      if (table === "contacts" && !("account_id" in owner)) continue;
      const key = table === "conversation_activity" ? "conversation_id" : "id";
      for (const row of await server.all(table, owner, key)) rows.push(row);
    }
  }
  return Object.entries(found);
}
