import { LiveError } from "./errors.js";
import { Live } from "./live.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Timing } from "./timing.js" */

/** @type {WeakMap<SupabaseClient<any, any, any>, Live>} */
const lives = new WeakMap();
/** @type {Live | null} */
let latest = null;

/**
 * The live client on the app's own Supabase client: its session, its socket. There is one for a
 * Supabase client until it is closed, since topics are joined once a socket.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 * @param {{ timing?: Partial<Timing> }} [options]
 * @returns {Live}
 */
export function createLive(supabase, { timing } = {}) {
  const known = lives.get(supabase);
  latest = known && known.state !== "closed" ? known : new Live(supabase, timing);
  lives.set(supabase, latest);
  return latest;
}

/**
 * The live client that was created last, for functions that are not handed one.
 *
 * @returns {Live}
 */
export function currentLive() {
  if (!latest || latest.state === "closed") {
    throw new LiveError("There is no live client. Call createLive(supabase) first.");
  }
  return latest;
}
