import { TableSource } from "../sources.js";

/** @import { Json } from "../events.js" */
/** @import { Row } from "../rows.js" */
/** @import { Scope } from "../scope.js" */
/** @import { Server } from "../server.js" */

/**
 * The latest rows of a table that only grows, and what comes.
 *
 * @template {Row} R
 * @extends {TableSource<R>}
 */
export class LatestSource extends TableSource {
  #column;
  #most;

  /**
   * @param {string} table
   * @param {Scope} scope
   * @param {string} column
   * @param {number} most
   */
  constructor(table, scope, column, most) {
    super(table, scope, { isWhole: false });
    this.#column = column;
    this.#most = most;
  }

  /** @override @param {Server} server */
  async reread(server) {
    const mark = this.ledger.mark();
    const known = this.ledger.rows.map(({ id }) => id);
    const records = [...(await server.rows(this.table, known)), ...(await this.read(server))];
    return this.ledger.reread(records, mark, known);
  }

  /** @override @param {Server} server */
  async read(server) {
    /** @type {Json[]} */
    const found = [];
    for (const owner of await server.owners()) {
      // a customer has none
      if (owner.account_id) found.push(...(await latestRows(server, this.table, owner, this.#column, this.#most)));
    }
    return found;
  }
}

/**
 * The rows with the highest values of a column, which equal what is given.
 *
 * @param {Server} server
 * @param {string} table
 * @param {Record<string, string>} equals
 * @param {string} column
 * @param {number} most
 * @returns {Promise<any[]>}
 */
export async function latestRows(server, table, equals, column, most) {
  const asked = server.supabase.schema("public").from(table).select("*").match(equals);
  return /** @type {any[]} */ (await server.ask(asked.order(column, { ascending: false }).limit(most)));
}
