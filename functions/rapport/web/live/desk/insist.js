import { pause } from "../timing.js";

/** @import { Unavailable } from "../errors.js" */

// refused, since other requests of the same user are at work: a moment later it is not
const CROWDED = "PT429";
const MOMENT = 2000; // ms

/**
 * Does something that a user waits for; again where the server has done nothing of it, since it has
 * too many of the user's requests at work, as while a desk fills.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {number} [tries] how often at most
 * @returns {Promise<T>}
 */
export async function insist(work, tries = 4) {
  try {
    return await work();
  } catch (thrown) {
    const { code, retryAfter } = /** @type {Unavailable} */ (thrown);
    if (code !== CROWDED || retryAfter > MOMENT || tries === 1) throw thrown;
    await pause(retryAfter);
    return insist(work, tries - 1);
  }
}
