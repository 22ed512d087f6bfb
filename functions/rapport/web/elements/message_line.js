/** What a message says in one line, in the language of the page. */

import { durationOf } from "./format.js";
import { noticeOf } from "./notices.js";
import { bareWords, kindOf } from "./parts.js";
import { text, word } from "./texts.js";

/** @import { Message } from "../live/index.js" */

/** @typedef {Readonly<Pick<Message, "type" | "sender_type" | "message" | "content" | "invoice_data">>} Said */

/**
 * A message as a list shows it: its kind, and its own words.
 *
 * @param {Said} said
 */
export function lineOf(said) {
  const { type, message, content } = said;
  if (said.sender_type === "system") return noticeOf(said);
  if (type === "call") return callOf(content);
  const bare = bareWords(type, message);
  if (type === "text") return bare;
  const kind = kindOf(isVoice(content) ? "voice" : type);
  // what has no word for its kind speaks for itself
  return bare && kind === text("kind.other") ? bare : [kind, bare].filter(Boolean).join(": ");
}

/**
 * How a call stands, or went.
 *
 * @param {unknown} content of a message of the type call
 */
export function callOf(content) {
  const { status = "", duration_s: seconds } = /** @type {{ status?: string, duration_s?: number | null }} */ (content ?? {});
  return word("call", status) === status ? kindOf("call") : text(/** @type {any} */ (`call.${status}`), { time: durationOf(seconds ?? 0) });
}

/** Whether an audio was spoken for the chat. @param {any} content as WhatsApp tells it or as we sent it */
function isVoice(content) {
  return (content?.audio ?? content)?.voice === true;
}
