/** What the system tells a chat, in the language of the page. */

import { appointmentTime } from "./format.js";
import { text, word } from "./texts.js";

/** @import { Message } from "../live/index.js" */

/**
 * A notice in the language of the page, made of its facts; the sentence of the database, which is in
 * the account's language, where the page has no words for it.
 *
 * @param {Readonly<Pick<Message, "message" | "content" | "invoice_data">>} message
 */
export function noticeOf({ message, content, invoice_data }) {
  const facts = /** @type {Record<string, unknown>} */ (content && typeof content === "object" ? content : {});
  const invoice = /** @type {Record<string, unknown>} */ (invoice_data && typeof invoice_data === "object" ? invoice_data : {});
  const event = String(facts.event ?? "");
  // a fact that is missing would leave a hole in the sentence
  const isWhole = event.startsWith("job.") ? facts.service_type && facts.starts_at : event.startsWith("invoice.") && invoice.number;
  if (!isWhole || word("notice", event) === event) return message;
  return text(/** @type {any} */ (`notice.${event}`), {
    service: String(facts.service_type ?? ""),
    time: facts.starts_at ? appointmentTime(String(facts.starts_at), { zone: String(facts.time_zone ?? ""), withYear: true }) : "",
    number: String(invoice.number ?? ""),
  });
}
