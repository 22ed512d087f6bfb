/**
 * What has been told of each row, without I/O: the heart of the live client.
 *
 * A change is heard by broadcast, read from the change log, or both; late, twice or not at all.
 * The ledger turns that into changes that can be believed: a row's versions rise, its last one is
 * told once, a message's insert is told once and in the order of its conversation. What can't be
 * told for sure is left to a catch-up, which ends at a moment of the database.
 */

import { readRow } from "./rows.js";
import { isAsNew, isNews, stampOf } from "./stamps.js";

/** @import { Change, Event, Json } from "./events.js" */
/** @import { Row } from "./rows.js" */
/** @import { Known } from "./stamps.js" */

/**
 * A row's thread and its number there.
 *
 * @typedef {[thread: string, number: number]} Place
 */

/**
 * The rows of one subscription.
 *
 * @template {Row} R
 */
export class Ledger {
  /** @type {Map<string, Known<R>>} */
  #known = new Map();
  /** @type {Map<string, number>} */
  #reached = new Map();
  #count = 0;
  /** The ids of rows that can't be read, and stay as they were told. @type {Set<string>} */
  unreadable = new Set();
  #table;
  #inScope;
  #place;
  #isWhole;

  /**
   * `inScope` says which rows it follows. `place` gives a row's thread and number there, where
   * inserts are told in order. `isWhole` says that all rows were loaded, so that a row which is
   * not known is new; without, `reach` says how far each thread had come.
   *
   * @param {string} table
   * @param {(row: R) => boolean} inScope
   * @param {((row: R) => Place) | null} [place]
   * @param {boolean} [isWhole]
   */
  constructor(table, inScope, place = null, isWhole = true) {
    this.#table = table;
    this.#inScope = inScope;
    this.#place = place;
    this.#isWhole = isWhole;
  }

  /**
   * The rows as they have been told or loaded.
   *
   * @returns {R[]}
   */
  get rows() {
    const rows = [];
    for (const { row } of this.#known.values()) if (row) rows.push(row);
    return rows;
  }

  /**
   * How far the inserts of a thread have been told.
   *
   * @param {string} thread
   */
  reached(thread) {
    return this.#reached.get(thread) ?? 0;
  }

  /**
   * Counts what a thread had before the subscription as told.
   *
   * @param {string} thread
   * @param {number} number
   */
  reach(thread, number) {
    this.#reached.set(thread, Math.max(this.reached(thread), number));
  }

  /**
   * Takes rows that were there before the subscription; nothing is told of them.
   *
   * @param {Iterable<Json>} records
   */
  load(records) {
    for (const record of records) {
      const row = this.#read(record);
      if (!row || !this.#inScope(row)) continue;
      const known = this.#known.get(row.id);
      if (known && !isNews(known, [row.version, false])) continue;
      this.#know(row.id, row, row.version);
      if (this.#place) this.reach(...this.#place(row));
    }
  }

  /** A moment; take it before the request whose answer `reread` gets. */
  mark() {
    return ++this.#count;
  }

  /**
   * Whether the broadcasts of one transaction can be told, and none before them was missed: what
   * came with that one would be seen later.
   *
   * @param {Event[]} events
   */
  isSure(events) {
    /** Versions of rows and numbers of threads as they become. @type {Map<string, number>} */
    const become = new Map();
    return events.every(({ id, version, operation, record, old_record: old }) => {
      const known = this.#known.get(id);
      const isGone = operation === "DELETE";
      if (known && !isNews(known, [version, isGone])) return true;
      if ((!record && !old) || known?.isDoubtful) return false;
      const so = become.get(id) ?? known?.version ?? (this.#isWhole ? 0 : Infinity);
      become.set(id, version);
      if (old && !this.unreadable.has(id) && this.#inScope(/** @type {any} */ (old)) && Number(old.version) > so) return false;
      const row = /** @type {any} */ (record);
      if (!this.#place || !row || known?.row || !this.#inScope(row)) return true;
      const [thread, number] = this.#place(row);
      const reached = become.get(thread) ?? this.reached(thread);
      become.set(thread, Math.max(reached, number));
      return number <= reached + 1;
    });
  }

  /**
   * Takes a broadcast that is sure.
   *
   * @param {Event} event
   */
  hear(event) {
    const known = this.#known.get(event.id);
    return known && !isNews(known, [event.version, event.operation === "DELETE"]) ? [] : this.#take(event);
  }

  /**
   * Takes all that a complete catch-up brought. Entries of one row are told as one change, the
   * last.
   *
   * @param {Iterable<Event>} events
   * @returns {Change<R>[]}
   */
  settle(events) {
    /** @type {Map<string, Event>} */
    const last = new Map();
    for (const event of events) {
      const before = last.get(event.id);
      if (!before || isAsNew(stampOf(event), stampOf(before))) last.set(event.id, event);
    }
    const news = [...last.values()].filter((event) => {
      const known = this.#known.get(event.id);
      return !known || isNews(known, stampOf(event));
    });
    return this.#inOrder(news, ({ record }) => record).flatMap((event) => this.#take(event));
  }

  /**
   * Takes all rows as they stand, read at `mark` or later: what is missing is gone. What can't be
   * read is there, and stays as it was told. A ledger that is not whole reads again what it has
   * told, the ids `of`, and what has come since.
   *
   * @param {Iterable<Json>} records
   * @param {number} mark
   * @param {Iterable<string>} [of]
   * @returns {Change<R>[]}
   */
  reread(records, mark, of = []) {
    /** @type {Map<string, R | null>} */
    const read = new Map();
    for (const record of records) {
      const row = this.#read(record);
      if (!row || this.#inScope(row)) read.set(String(record.id), row);
    }
    const changes = [];
    for (const id of this.#isWhole ? [...this.#known.keys()] : of) {
      const before = /** @type {Known<R>} */ (this.#known.get(id));
      // what was heard meanwhile may not have been read yet
      if (before.row && !read.has(id) && before.heardAt < mark) {
        changes.push(...this.#tellGone(id, before.version, true));
      }
    }
    for (const row of this.#inOrder([...read.values()], (row) => row)) {
      const known = row && this.#known.get(row.id);
      if (row && (!known || known.isDoubtful || isNews(known, [row.version, false]))) {
        changes.push(...this.#tell(row, null));
      }
    }
    return changes;
  }

  /**
   * What threads have by number, as they have it.
   *
   * @template T
   * @param {T[]} some
   * @param {(one: T) => any} rowOf
   */
  #inOrder(some, rowOf) {
    const number = (/** @type {T} */ one) => (rowOf(one) && this.#place?.(rowOf(one))[1]) ?? 0;
    return some.sort((a, b) => number(a) - number(b));
  }

  /**
   * @param {Json} record
   * @returns {R | null}
   */
  #read(record) {
    const row = /** @type {R | null} */ (readRow(this.#table, record));
    // one row that can't be read must not keep the others from being told
    if (row) this.unreadable.delete(row.id);
    else this.unreadable.add(String(record.id));
    return row;
  }

  /**
   * @param {string} id
   * @param {R | null} row
   * @param {number} version
   */
  #know(id, row, version, isDoubtful = false) {
    this.#known.set(id, { row, version, heardAt: this.mark(), isDoubtful });
  }

  /**
   * Takes an event that is news, and whose row is known if there is one.
   *
   * @param {Event} event
   * @returns {Change<R>[]}
   */
  #take(event) {
    if (!event.record) return this.#tellGone(event.id, event.version);
    const row = this.#read(event.record);
    if (!row) return [];
    if (this.#inScope(row)) return this.#tell(row, event);
    // another's, from now on or always
    return this.#known.has(event.id) ? this.#tellGone(event.id, event.version) : [];
  }

  /**
   * @param {R} row
   * @param {Event | null} event
   * @returns {Change<R>[]}
   */
  #tell(row, event) {
    const known = this.#known.get(row.id);
    this.#know(row.id, row, row.version);
    if (known?.row) return [this.#change("UPDATE", row, known.row)];
    if (!this.#place) return [this.#change("INSERT", row, null)];

    const [thread, number] = this.#place(row);
    if (number <= this.reached(thread)) {
      // it has come back, or into sight
      if (this.#isWhole) return [this.#change("INSERT", row, null)];
      // it was there when the subscription began
      if (!event || event.operation === "INSERT") return [];
      return [this.#change("UPDATE", row, event.old_record && this.#read(event.old_record))];
    }
    this.reach(thread, number);
    return [this.#change("INSERT", row, null)];
  }

  /**
   * @param {string} id
   * @param {number} version
   * @param {boolean} [isDoubtful]
   * @returns {Change<R>[]}
   */
  #tellGone(id, version, isDoubtful = false) {
    const known = this.#known.get(id);
    this.#know(id, null, version, isDoubtful);
    this.unreadable.delete(id);
    if (!known?.row) return [];
    // should it come back, those after it are told after it
    if (this.#place && this.#isWhole) {
      const [thread, number] = this.#place(known.row);
      this.#reached.set(thread, Math.min(this.reached(thread), number - 1));
    }
    return [this.#change("DELETE", null, known.row)];
  }

  /**
   * @param {Change["eventType"]} eventType
   * @param {R | null} row
   * @param {R | null} old
   * @returns {Change<R>}
   */
  #change(eventType, row, old) {
    return /** @type {Change<R>} */ ({ table: this.#table, eventType, new: row, old });
  }
}
