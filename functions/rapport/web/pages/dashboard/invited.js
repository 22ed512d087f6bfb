/** Coming to work for a business by the link of an invitation. */

import { reasonOf } from "@rapport/live/elements/parts.js";
import { refusal } from "../../live/errors.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */

/**
 * Answers an invitation. Throws why it is not good for the user, in words.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 * @param {string} token
 * @returns {Promise<string>} the account
 */
export async function answerInvitation(supabase, token) {
  const { data, error, status } = await supabase.rpc("claim_member_invitation", { token });
  // it is good for once, or not at all
  history.replaceState(null, "", location.pathname + location.hash);
  if (error) throw new Error(reasonOf(refusal(error, status)));
  return data.account_id;
}
