/** Marks conversations as read up to what was in sight, one after the other; what failed is tried again. */

import { Conflict, LiveError, NotAllowed, NotFound, Unprocessable } from "../live/errors.js";
import { TIMING, backoff } from "../live/timing.js";

// at whose every repetition the mark itself would be at fault
const REFUSALS = [Conflict, NotAllowed, Unprocessable];
// So often a conversation is not there before that is believed: a broadcast may arrive a moment
// before the transaction that it tells of can be seen by others.
const EARLY = 3;

export class ReadMarks {
  /** Up to where is still to be marked, by conversation. @type {Map<string, number>} */
  #waiting = new Map();
  #isMarking = false;
  /** The round that goes on. */
  #marking = Promise.resolve();
  #isClosed = false;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  #mark;
  #marked;

  /**
   * @param {(conversationId: string, seq: number) => Promise<number>} mark says so to the server, and answers how far it has come
   * @param {() => void} [marked] called after each mark that the server has taken
   */
  constructor(mark, marked = () => {}) {
    this.#mark = mark;
    this.#marked = marked;
  }

  /**
   * Has a conversation be marked as read up to this seq.
   *
   * @param {{ conversationId: string, seq: number }} seen
   */
  note({ conversationId, seq }) {
    this.#waiting.set(conversationId, Math.max(seq, this.#waiting.get(conversationId) ?? 0));
    this.#hurry();
  }

  /**
   * Marks nothing more in a conversation, which is to be unread; waits for what is on its way.
   *
   * @param {string} conversationId
   */
  async leave(conversationId) {
    this.#waiting.delete(conversationId);
    await this.#marking;
  }

  /** Marks nothing more. */
  close() {
    this.#isClosed = true;
    this.#rest();
  }

  #hurry = () => {
    if (!this.#isMarking) this.#marking = this.#markAll();
  };

  async #markAll() {
    this.#isMarking = true;
    this.#rest();
    let hasFailed = false;
    let retryAfter = 0;
    // what is noted meanwhile comes at the end of the same round
    for (const [conversationId, seq] of this.#waiting) {
      if (this.#isClosed) return;
      try {
        const reached = await this.#mark(conversationId, seq);
        this.#marked();
        // before others could see the message
        if (reached < seq) hasFailed = true;
        else {
          this.#failures = 0;
          this.#forget(conversationId, seq);
        }
      } catch (error) {
        const isBelieved = error instanceof NotFound && this.#failures >= EARLY;
        if (isBelieved || REFUSALS.some((kind) => error instanceof kind)) this.#forget(conversationId, seq);
        else {
          hasFailed = true;
          if (error instanceof LiveError) retryAfter = Math.max(retryAfter, error.retryAfter);
        }
      }
    }
    this.#isMarking = false;
    if (this.#isClosed || !this.#waiting.size) return;
    this.#failures += Number(hasFailed);
    this.#again = setTimeout(this.#hurry, hasFailed ? Math.max(retryAfter, backoff(TIMING, this.#failures - 1)) : 0);
    window.addEventListener("online", this.#hurry);
  }

  #rest() {
    clearTimeout(this.#again);
    window.removeEventListener("online", this.#hurry);
  }

  /**
   * @param {string} conversationId
   * @param {number} seq
   */
  #forget(conversationId, seq) {
    // unless more was seen meanwhile
    if (this.#waiting.get(conversationId) === seq) this.#waiting.delete(conversationId);
  }
}
