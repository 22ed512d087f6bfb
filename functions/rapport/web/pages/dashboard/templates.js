/** @import { Desk } from "./desk.js" */

/**
 * A row of `sendable_templates`.
 *
 * @typedef {object} Template
 * @property {string} id
 * @property {string} name
 * @property {string} language
 * @property {string} category
 * @property {any} components
 * @property {any} variables the names of the variables, by part
 */

/**
 * The templates that may be sent in a conversation: those of the WhatsApp Business account that its
 * number belongs to.
 *
 * @param {Desk} desk
 * @param {string} conversationId
 * @returns {Promise<readonly Template[]>}
 */
export async function readTemplates(desk, conversationId) {
  const [thread] = await desk.ask(desk.from("conversations").select("whatsapp_channels(waba_id)").eq("id", conversationId));
  const waba = thread?.whatsapp_channels?.waba_id;
  return waba ? sendable(desk, waba) : [];
}

/**
 * The templates that an account may send, of one WhatsApp Business account or of all.
 *
 * @param {Desk} desk
 * @param {string} [waba_id]
 * @returns {Promise<readonly Template[]>}
 */
export function sendable(desk, waba_id) {
  const asked = desk.from("sendable_templates").select("id,name,language,category,components,variables");
  return desk.ask(asked.match({ account_id: desk.account.id, ...(waba_id ? { waba_id } : {}) }).order("name").order("language"));
}
