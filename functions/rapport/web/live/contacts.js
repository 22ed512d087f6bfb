/** @import { Change, Event } from "./events.js" */
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
    const { readFaces } = await import("./read_faces.js");
    this.#feed = await readFaces(server, this.#face);
  }

  /**
   * Reads the rows again; nothing is heard meanwhile.
   *
   * @param {Server} server
   * @returns {Promise<Change<R>[]>}
   */
  async reread(server) {
    const { rereadFaces } = await import("./read_faces.js");
    return rereadFaces(server, this.#loaded);
  }

  get #loaded() {
    return /** @type {FaceFeed<R>} */ (this.#feed);
  }
}
