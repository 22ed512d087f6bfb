/** Writes on their way: shown from the first moment, and taken back where they are refused. */

/** @import { Json, Shown } from "./events.js" */
/** @import { CatchUp } from "./catch_up.js" */
/** @import { Row } from "./rows.js" */

/** @typedef {{ table: string, id: string, patch: Json }} Edit */

export class Edits {
  /** In the order in which they were made. @type {Set<Edit>} */
  #onTheWay = new Set();
  #hub;

  /** @param {CatchUp} hub */
  constructor(hub) {
    this.#hub = hub;
  }

  /**
   * Rows as they will be, if nothing is refused.
   *
   * @template {Shown} R
   * @param {ReadonlySet<string>} tables
   * @param {R[]} rows
   * @returns {R[]}
   */
  applied(tables, rows) {
    const edits = [...this.#onTheWay].filter(({ table }) => tables.has(table));
    if (!edits.length) return rows;
    return rows.map((row) => {
      const its = edits.filter(({ id }) => id === row.id);
      return its.length ? Object.freeze(Object.assign({}, row, ...its.map(({ patch }) => patch))) : row;
    });
  }

  /**
   * Writes columns of a row, shown until the server has answered, which may know better. Throws
   * what it refuses.
   *
   * @param {Edit} edit
   * @param {Row} [known] the row as it was last told
   * @param {string} [view] by which it is written
   */
  async write(edit, known, view = edit.table) {
    const { table, id, patch } = edit;
    this.#onTheWay.add(edit);
    this.#hub.touch(table);
    try {
      const record = { ...known, ...(await this.#hub.server.update(view, id, patch)) };
      this.#onTheWay.delete(edit);
      const version = Number(record.version);
      this.#hub.take([{ table, id, version, operation: "UPDATE", record, old_record: null }]);
    } finally {
      this.#onTheWay.delete(edit);
      this.#hub.touch(table);
    }
  }
}
