/** Calls of the HTTP functions. */

/** @import { SupabaseClient } from "@supabase/supabase-js" */

/**
 * Posts to the HTTP functions, as the signed-in user; null where nobody answers.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 * @param {string} functionsUrl
 * @param {string} path
 * @param {Record<string, unknown>} body
 */
export async function askFunctions(supabase, functionsUrl, path, body) {
  const { data } = await supabase.auth.getSession();
  return fetch(functionsUrl.replace(/\/$/, "") + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${data.session?.access_token ?? ""}` },
    body: JSON.stringify(body),
  }).catch(() => null);
}
