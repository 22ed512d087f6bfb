import { Unprocessable } from "@rapport/live";
import { listOf } from "@rapport/live/elements/format.js";
import { askFunctions } from "./ask_functions.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */

const E164 = /^\+[1-9]\d{1,14}$/;

/**
 * A phone number as a person has written it, as +38640111222: in the national form of the business'
 * country, too. It is read by the HTTP functions; where they are away, the database decides about it
 * as it stands. Throws Unprocessable where it is no number, or could be several.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 * @param {string | undefined} functionsUrl
 * @param {string} phone
 * @param {string} [accountId] whose staff the user is
 * @returns {Promise<string>}
 */
export async function readPhone(supabase, functionsUrl, phone, accountId) {
  if (!functionsUrl || E164.test(phone)) return phone;
  const given = { phone, ...(accountId ? { accountId } : {}) };
  const answer = await askFunctions(supabase, functionsUrl, "/api/phone", given);
  const said = await answer?.json().catch(() => null);
  if (answer?.ok && said?.phone) return said.phone;
  if (answer?.status !== 422) return phone;
  const facts = Array.isArray(said?.readings) ? { readings: listOf(said.readings.map(String)) } : undefined;
  throw new Unprocessable(String(said?.message ?? ""), { code: "PT422", field: "phone", facts });
}
