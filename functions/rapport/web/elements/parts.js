/** Small parts that several elements show. */

import { html, nothing } from "lit";
import { initialsOf } from "./format.js";
import { icons } from "./icons.js";
import { refusalText, text, word } from "./texts.js";

/** @import { PendingMessage } from "../live/outbox.js" */

/** A word in brackets before the words of a message that is more than text. */
const PLACEHOLDER = /^\[[^\]\n]{1,40}\]\s*/;

const COLOURS = 6;

/**
 * A round picture of somebody: the first letters, in a colour that stays the same.
 *
 * @param {string} name
 * @param {string} [id]
 */
export function avatar(name, id = name) {
  const colour = [...id].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997, 7) % COLOURS;
  return html`<span class="avatar avatar-${colour}" aria-hidden="true">${initialsOf(name) || icons.person}</span>`;
}

/**
 * How far a message has come, as ticks.
 *
 * @param {string} status
 */
export function ticks(status) {
  const drawing = { sent: icons.sent, delivered: icons.delivered, read: icons.delivered, failed: icons.warning, refused: icons.warning }[status];
  return html`<span class="ticks ticks-${status}" data-status=${status}
    >${drawing ?? icons.clock}<span class="hidden">${word("tick", status)}</span></span
  >`;
}

/**
 * What kind of message it is, for people.
 *
 * @param {string} type
 */
export function kindOf(type) {
  const known = word("kind", type);
  return known === `kind.${type}` || known === type ? text("kind.other") : known;
}

/**
 * The words of a message without the kind, which is shown as such.
 *
 * @param {string | null} type
 * @param {string | null} words
 */
export function bareWords(type, words) {
  return type && type !== "text" ? (words ?? "").replace(PLACEHOLDER, "") : (words ?? "");
}

/**
 * Why something failed and what to do, for people, in the language of the page: the browser's own
 * words for an absent network are for nobody.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function reasonOf(error) {
  const message = error && typeof error === "object" && "message" in error ? String(error.message) : String(error);
  if (error instanceof TypeError || message.startsWith("TypeError")) return text("page.unreachable");
  if (!error || typeof error !== "object") return message;
  const { code, hint } = /** @type {{ code?: string, hint?: string | null }} */ (error);
  // a hint of Postgres itself is for those who write SQL
  return refusalText(error) || (hint && /^(PT|42501)/.test(code ?? "") ? `${message} ${hint}` : message);
}

/**
 * Why a message was refused that was to be sent, in the language of the page.
 *
 * @param {PendingMessage} pending
 */
export function refusalOf({ refusal, refused }) {
  return reasonOf({ ...refused, message: refusal ?? "" });
}

/**
 * A word about a state, in a pill.
 *
 * @param {string} label
 * @param {"calm" | "good" | "bad" | "warn" | "live"} kind
 */
export function pill(label, kind) {
  return html`<span class="pill pill-${kind}">${label}</span>`;
}

/**
 * What stands where nothing is to be shown yet.
 *
 * @param {unknown} drawing
 * @param {string} title
 * @param {string} [more]
 */
export function emptiness(drawing, title, more) {
  return html`<div class="emptiness">
    ${drawing}
    <p class="emptiness-title">${title}</p>
    ${more ? html`<p class="muted">${more}</p>` : nothing}
  </div>`;
}

/**
 * An error where rows would be.
 *
 * @param {string} title
 * @param {{ message: string } | null} error
 */
export function trouble(title, error) {
  return html`<div class="trouble" role="alert">${icons.warning}
    <div><p class="emptiness-title">${title}</p><p>${error ? reasonOf(error) : nothing}</p></div>
  </div>`;
}

/**
 * Grey bars while rows are read.
 *
 * @param {number} count
 */
export function skeleton(count) {
  return html`<div class="skeleton" role="status"><span class="hidden">${text("page.loading")}</span>
    ${Array.from({ length: count }, () => html`<div class="skeleton-row" aria-hidden="true"><span></span><span></span></div>`)}
  </div>`;
}
