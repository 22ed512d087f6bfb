import { Subscription } from "@rapport/live";
import { AskedList, AskedSubscription } from "../../live/desk/asked.js";
import { ofCustomer } from "../../live/scope.js";
import { TableSource } from "../../live/sources.js";

/** @import { Live } from "@rapport/live" */
/** @import { Told } from "../../database.types.js" */
/** @import { Server } from "../../live/server.js" */

/**
 * Rows as a question answers them, in its order; it is asked again as the tables change, at most
 * once in a while, and by `refresh()`.
 *
 * @template {{ readonly id: string }} R
 * @param {Live} live
 * @param {string[]} tables
 * @param {(server: Server) => Promise<R[]>} read
 * @param {{ pause?: number }} [wanted] ms between two questions
 * @returns {AskedSubscription<R, {}>}
 */
export function followAnswer(live, tables, read, { pause = 1000 } = {}) {
  return new AskedSubscription(live.hub, () => new AskedList(tables[0], tables, read), {}, pause);
}

/**
 * One contact as it stands in `contacts`, live.
 *
 * @param {Live} live
 * @param {string} contactId
 * @returns {Subscription<Readonly<Told["contacts"]>, {}>}
 */
export function followContact(live, contactId) {
  const scope = ofCustomer();
  const makeSource = () => {
    /** @type {TableSource<Readonly<Told["contacts"]>>} */
    const source = new TableSource("contacts", scope);
    source.equals.id = contactId.toLowerCase();
    return source;
  };
  return new Subscription(live.hub, scope, makeSource, (rows) => rows);
}
