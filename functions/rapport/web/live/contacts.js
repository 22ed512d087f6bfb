/** @import { Change, Event, Heard, Json } from "./events.js" */
/** @import { FaceFeed } from "./face_feed.js" */
/** @import { FACES } from "./faces.js" */
/** @import { Row } from "./rows.js" */
/** @import { Server } from "./server.js" */

const KEYS = { contacts: "id", conversations: "id", conversation_activity: "conversation_id" };

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
  /** What is heard while all is read again, and could be taken for missing. @type {Event[] | null} */
  #heardMeanwhile = null;
  /** @type {string[]} */
  #doubts = [];

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
    return this.#loaded.isSure(events.filter(({ table }) => this.tables.has(table)));
  }

  /**
   * Takes what was broadcast together.
   *
   * @param {Event[]} events
   * @returns {Heard<R>}
   */
  hear(events) {
    if (this.#heardMeanwhile) {
      this.#heardMeanwhile.push(...events);
      return { changes: [], inDoubt: false };
    }
    return this.#told(this.#loaded.apply(events));
  }

  /** The moment before a catch-up. */
  mark() {
    this.#doubts = this.#loaded.hints;
    return 0;
  }

  /**
   * Takes a whole catch-up; of one feed there is one at a time.
   *
   * @param {Event[]} events
   * @returns {Heard<R>}
   */
  settle(events) {
    const changes = this.#loaded.apply(events);
    // what was heard before it and is not in it was late
    this.#loaded.forget(this.#doubts);
    return this.#told(changes);
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
   * Reads the rows again.
   *
   * @param {Server} server
   * @returns {Promise<Heard<R>>}
   */
  async reread(server) {
    this.#heardMeanwhile = [];
    const changes = [];
    try {
      for (const [table, rows] of await readAll(server)) changes.push(...this.#loaded.replace(table, rows));
    } finally {
      const heard = this.#heardMeanwhile;
      this.#heardMeanwhile = null;
      changes.push(...this.#loaded.apply(heard));
    }
    return { changes, inDoubt: false };
  }

  get #loaded() {
    return /** @type {FaceFeed<R>} */ (this.#feed);
  }

  /** @param {Change<R>[]} changes */
  #told(changes) {
    return { changes, inDoubt: this.#loaded.hints.length > 0 };
  }
}

/**
 * @param {Server} server
 * @returns {Promise<Map<string, Json[]>>}
 */
async function readAll(server) {
  /** @type {Map<string, Json[]>} */
  const found = new Map();
  for (const owner of await server.owners()) {
    for (const [table, key] of Object.entries(KEYS)) {
      const before = found.get(table) ?? [];
      // a customer sees no contacts
      const isSeen = table !== "contacts" || "account_id" in owner;
      found.set(table, isSeen ? before.concat(await server.all(table, owner, key)) : before);
    }
  }
  return found;
}
