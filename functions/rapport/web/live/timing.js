/**
 * When the live client asks again; milliseconds, all of them.
 *
 * @typedef {object} Timing
 * @property {number} slowPoll finds what no broadcast told
 * @property {number} fastPoll stands in for Realtime while it is away
 * @property {number} joinTimeout how long a topic may take to be joined
 * @property {number} firstBackoff the first wait before trying again is up to this, then twice that …
 * @property {number} longestBackoff
 * @property {number} refreshMargin before its token expires the client asks for the next one
 * @property {number} requestTimeout
 * @property {number} gather the rest of a transaction is waited for, then the log is asked
 * @property {number} hiddenPause a page that is hidden for so long hangs up until it is shown
 */

/** @type {Readonly<Timing>} */
export const TIMING = Object.freeze({
  slowPoll: 30_000,
  fastPoll: 2_000,
  joinTimeout: 10_000,
  firstBackoff: 500,
  longestBackoff: 20_000,
  refreshMargin: 60_000,
  requestTimeout: 9_000,
  gather: 250,
  hiddenPause: 60_000,
});

/**
 * How long to wait after the given failure in a row, from 0: at random, so that the clients of a
 * server that comes back do not all come at once.
 *
 * @param {Timing} timing
 * @param {number} attempt
 */
export function backoff(timing, attempt) {
  const longest = Math.min(timing.longestBackoff, timing.firstBackoff * 2 ** Math.min(attempt, 10));
  return between(longest / 4, longest);
}

/** @param {number} ms */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Waits until a bell rings, at most so many milliseconds; but as long as the server has asked for.
 *
 * @param {import("./bell.js").Bell} bell
 * @param {number} longest
 * @param {number} [retryAfter]
 */
export async function wait(bell, longest, retryAfter) {
  await (retryAfter ? pause(retryAfter) : bell.wait(longest));
}

/**
 * The interval, give or take a tenth.
 *
 * @param {number} interval
 */
export function about(interval) {
  return between(interval * 0.9, interval * 1.1);
}

/**
 * @param {number} low
 * @param {number} high
 */
function between(low, high) {
  return low + Math.random() * (high - low);
}
