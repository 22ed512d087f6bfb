/** The official client, which the page has loaded by a classic script: it is handed out as no module. */

/** @type {typeof import("@supabase/supabase-js")} */
const official = /** @type {any} */ (globalThis).supabase;

export const { createClient } = official;
