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
    for (const { account_id } of await server.owners()) {
      if (!account_id) continue;
      const latest = server.supabase.schema("public").from(this.table).select("*").match({ account_id });
      found.push(.../** @type {Json[]} */ (await server.ask(latest.order(this.#column, { ascending: false }).limit(this.#most))));
    }
    return found;
  }
}
