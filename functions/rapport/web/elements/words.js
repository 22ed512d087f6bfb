/** The words of a message as WhatsApp shows them: with its marks for bold and others, and links that can be followed. */

import { html } from "lit";

/** @import { Message } from "../live/index.js" */

const LINK = /https?:\/\/[^\s<>"'`\u{e000}]+/giu;
// what ends a sentence behind a link is not of it; looked for once for each row of such signs, not from
// each of them
const BEHIND = /(?<![.,;:!?)\]}*_~])[.,;:!?)\]}*_~]+$/u;
const MARKED = /(^|[^\p{L}\p{N}*_~`])(?:```(\S(?:[\s\S]*?\S)??)```|([*_~])(?=\S)([^\n]*?\S)\3)(?![\p{L}\p{N}])/u;
// characters: WhatsApp takes no longer text, and in a longer one marks would be looked for too long
const LONGEST = 4096;
const DEEPEST = 3;
// characters of a line
const SHOWN_PLAIN = 200;

/** @type {WeakMap<object, { words: string, shown: unknown }>} */
const known = new WeakMap();

/**
 * The words of a message, made once for each of its versions.
 *
 * @param {Readonly<Message>} message
 * @param {string} words
 */
export function wordsOfMessage(message, words) {
  const before = known.get(message);
  if (before?.words === words) return before.shown;
  const shown = formatted(words);
  known.set(message, { words, shown });
  return shown;
}

/**
 * A text with its marks and links; `leaf` makes of each piece what is shown for it.
 *
 * @param {string} words
 * @param {(piece: string) => unknown} [leaf]
 * @returns {unknown}
 */
export function formatted(words, leaf = (piece) => piece) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of words.matchAll(LINK)) {
    const address = found.replace(BEHIND, "");
    if (!URL.canParse(address)) continue;
    parts.push(marked(words.slice(end, index), leaf), link(address));
    end = index + address.length;
  }
  parts.push(marked(words.slice(end), leaf));
  return parts;
}

/**
 * A text without its marks, in one line.
 *
 * @param {string} words
 */
export function plain(words) {
  let rest = words.slice(0, SHOWN_PLAIN);
  for (let found = MARKED.exec(rest); found; found = MARKED.exec(rest)) {
    const [whole, before, code, , inside] = found;
    rest = rest.slice(0, found.index) + before + (code ?? inside) + rest.slice(found.index + whole.length);
  }
  return rest;
}

/** @param {string} address */
function link(address) {
  return html`<a href=${address} target="_blank" rel="noopener noreferrer nofollow">${address}</a>`;
}

/**
 * @param {string} words
 * @param {(piece: string) => unknown} leaf
 * @param {number} [depth]
 * @returns {unknown}
 */
function marked(words, leaf, depth = 0) {
  if (words.length > LONGEST || depth > DEEPEST) return leaf(words);
  const parts = [];
  let rest = words;
  for (let found = MARKED.exec(rest); found; found = MARKED.exec(rest)) {
    const [whole, before, code, mark, inside] = found;
    parts.push(leaf(rest.slice(0, found.index) + before));
    if (code !== undefined) parts.push(html`<code>${leaf(code)}</code>`);
    else {
      const inner = marked(inside, leaf, depth + 1);
      parts.push(mark === "*" ? html`<strong>${inner}</strong>` : mark === "_" ? html`<em>${inner}</em>` : html`<s>${inner}</s>`);
    }
    rest = rest.slice(found.index + whole.length);
  }
  parts.push(leaf(rest));
  return parts;
}
