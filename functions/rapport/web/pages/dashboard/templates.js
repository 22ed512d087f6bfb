import { rowsOf } from "../common/app_page.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Template } from "@rapport/live/elements/template_words.js" */

/**
 * The templates that may be sent in a conversation: those of the WhatsApp Business account that its
 * number belongs to.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 * @param {string} conversationId
 * @returns {Promise<readonly Template[]>}
 */
export async function readTemplates(supabase, conversationId) {
  const { whatsapp_channels: number } = await rowsOf(
    supabase.from("conversations").select("whatsapp_channels(account_id,waba_id)").eq("id", conversationId).single(),
  );
  const { account_id, waba_id } = /** @type {any} */ (number) ?? {};
  if (!waba_id) return [];
  return rowsOf(
    supabase.from("sendable_templates").select("id,name,language,category,components,variables").match({ account_id, waba_id }).order("name").order("language"),
  );
}
