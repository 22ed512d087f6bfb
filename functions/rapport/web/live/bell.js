/** What a loop waits for: rung while it is busy, it does not wait at all. */
export class Bell {
  #isRung = false;
  /** @type {(() => void) | null} */
  #wake = null;

  ring() {
    this.#isRung = true;
    this.#wake?.();
  }

  /** Forgets that it was rung. */
  clear() {
    this.#isRung = false;
  }

  /**
   * Waits until it is rung, at most so many milliseconds.
   *
   * @param {number} [longest]
   * @returns {Promise<void>}
   */
  wait(longest = Infinity) {
    if (this.#isRung) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = longest < Infinity ? setTimeout(() => this.#wake?.(), longest) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }
}
