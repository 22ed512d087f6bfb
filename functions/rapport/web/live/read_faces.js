/** How the contacts of a desk are read; it comes when they are asked for. */

import { FaceFeed } from "./face_feed.js";
import { FACES } from "./faces.js";

/** @import { Change, Json } from "./events.js" */
/** @import { Row } from "./rows.js" */
/** @import { Server } from "./server.js" */

/**
 * A feed with all contacts in a face, as they stand.
 *
 * @template {Row} R
 * @param {Server} server
 * @param {keyof typeof FACES} face
 */
export async function readFaces(server, face) {
  /** @type {FaceFeed<R>} */
  const feed = new FaceFeed(/** @type {any} */ (FACES[face]));
  for (const [table, rows] of await readAll(server)) feed.load(table, rows);
  return feed;
}

/**
 * Reads them again, and returns what differs.
 *
 * @template {Row} R
 * @param {Server} server
 * @param {FaceFeed<R>} feed
 */
export async function rereadFaces(server, feed) {
  /** @type {Change<R>[]} */
  const changes = [];
  for (const [table, rows] of await readAll(server)) changes.push(...feed.replace(table, rows));
  return changes;
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
