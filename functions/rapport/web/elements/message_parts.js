/** What a message carries that is no file: a place, contact cards. Nothing of it is trusted. */

import { html, nothing } from "lit";
import { icons } from "./icons.js";
import { text } from "./texts.js";

/** @import { Message } from "../live/index.js" */

const MOST_CARDS = 10;
const MOST_NUMBERS = 5;
const ZOOM = 16;

/**
 * What a message carries, as WhatsApp tells it or as we sent it.
 *
 * @param {Readonly<Message>} message
 * @returns {any}
 */
export function carriedBy(message) {
  const content = /** @type {any} */ (message.content);
  return content?.[message.type] ?? content;
}

/**
 * A place, with a link to a map where it has coordinates.
 *
 * @param {Readonly<Message>} message
 */
export function locationOf(message) {
  const carried = carriedBy(message);
  const place = carried && typeof carried === "object" ? carried : {};
  const latitude = degrees(place.latitude, 90);
  const longitude = degrees(place.longitude, 180);
  const name = words(place.name) || text("kind.location");
  const hasPlace = latitude !== null && longitude !== null;
  const at = hasPlace ? `${latitude.toFixed(5)}, ${longitude.toFixed(5)}` : "";
  return html`<div class="file-line place">
    <span class="file-icon">${icons.place}</span>
    <span class="file-words">
      <bdi class="file-name" title=${name}>${name}</bdi>
      ${words(place.address) ? html`<bdi class="file-facts">${words(place.address)}</bdi>` : nothing}
      ${hasPlace
        ? html`<a href="https://www.openstreetmap.org/?mlat=${latitude}&mlon=${longitude}#map=${ZOOM}/${latitude}/${longitude}" target="_blank" rel="noopener noreferrer"
            >${text("media.map", { at })}</a
          >`
        : nothing}
    </span>
  </div>`;
}

/**
 * Contact cards: names, and numbers that can be called.
 *
 * @param {Readonly<Message>} message
 */
export function cardsOf(message) {
  const carried = carriedBy(message);
  const cards = Array.isArray(carried) ? carried : [];
  return html`<ul class="vcards">
    ${cards.slice(0, MOST_CARDS).map((card) => vcard(card))}
    ${cards.length > MOST_CARDS ? html`<li class="file-facts">${text("media.cards.more", { n: cards.length - MOST_CARDS })}</li>` : nothing}
  </ul>`;
}

/** @param {any} card */
function vcard(card) {
  const name = words(card?.name?.formatted_name) || words(card?.name?.first_name) || text("kind.contacts");
  const numbers = list(card?.phones).map((one) => words(one?.phone) || words(one?.wa_id)).filter(Boolean);
  const emails = list(card?.emails).map((one) => words(one?.email)).filter(Boolean);
  const firm = words(card?.org?.company);
  return html`<li class="file-line">
    <span class="file-icon">${icons.person}</span>
    <span class="file-words">
      <bdi class="file-name" title=${name}>${name}</bdi>
      ${firm ? html`<bdi class="file-facts">${firm}</bdi>` : nothing}
      ${numbers.slice(0, MOST_NUMBERS).map((number) => call(number))}
      ${emails.slice(0, MOST_NUMBERS).map((email) => html`<bdi class="file-facts">${email}</bdi>`)}
    </span>
  </li>`;
}

/** @param {string} number */
function call(number) {
  const digits = number.replace(/(?!^\+)[^\d]/g, "");
  return /^\+?\d{3,20}$/.test(digits) ? html`<a href="tel:${digits}"><bdi>${number}</bdi></a>` : html`<bdi class="file-facts">${number}</bdi>`;
}

/**
 * @param {unknown} value
 * @param {number} most
 */
function degrees(value, most) {
  const number = typeof value === "string" && value.trim() ? Number(value) : value;
  return typeof number === "number" && Math.abs(number) <= most ? number : null;
}

/** @param {unknown} value */
function words(value) {
  return typeof value === "string" ? value.trim() : "";
}

/**
 * @param {unknown} value
 * @returns {any[]}
 */
function list(value) {
  return Array.isArray(value) ? value : [];
}
