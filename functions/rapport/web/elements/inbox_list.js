import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { channelIcons, deskIcons } from "./desk_icons.js";
import { appointmentTime, weekdayOf, whenOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { lineOf } from "./message_line.js";
import { avatar, emptiness, skeleton, ticks, trouble } from "./parts.js";
import { text, word } from "./texts.js";

/** @import { Tables } from "../database.types.js" */

/**
 * A row of the view `inbox`.
 *
 * @typedef {Readonly<Tables<"inbox">>} InboxRow
 *
 * What a booking's chat is about.
 *
 * @typedef {{ service: string, startsAt: string }} InboxBooking
 * @typedef {{ id: string, name: string, colour: string }} InboxLabel
 */

/**
 * Conversations, the latest first. It rises `conversation-open` with a conversation's id, and
 * `inbox-more` when the end is near.
 *
 * Times of bookings are those of `zone`, the time zone of the business.
 *
 *     <inbox-list .rows=${rows} .selected=${id} .isLoaded=${true}></inbox-list>
 */
export class InboxList extends PageElement {
  /** @override */
  static properties = {
    rows: { attribute: false },
    bookings: { attribute: false },
    labels: { attribute: false },
    me: {},
    zone: {},
    selected: {},
    isLoaded: { attribute: false },
    isFiltered: { attribute: false },
    hasMore: { attribute: false },
    error: { attribute: false },
  };

  /** The end of the list comes into sight. */
  #end = new IntersectionObserver((seen) => seen.some(({ isIntersecting }) => isIntersecting) && this.tell("inbox-more"));
  /** @type {Element | null} */
  #observed = null;
  /** The conversation that has the focus while rows change their places. */
  #focused = "";

  constructor() {
    super();
    /** @type {readonly InboxRow[]} */
    this.rows = [];
    /** By conversation. @type {ReadonlyMap<string, InboxBooking>} */
    this.bookings = new Map();
    /** @type {readonly InboxLabel[]} */
    this.labels = [];
    /** The name of the user among the staff. */
    this.me = "";
    /** An IANA time zone; without one, times are those of the viewer. */
    this.zone = "";
    this.selected = "";
    this.isLoaded = false;
    /** Whether nothing may be found although there is something. */
    this.isFiltered = false;
    this.hasMore = false;
    /** @type {{ message: string } | null} */
    this.error = null;
  }

  /** @override */
  render() {
    if (this.error && !this.rows.length) return trouble(text("inbox.failed"), this.error);
    if (!this.isLoaded) return skeleton(6);
    if (!this.rows.length) {
      return this.isFiltered
        ? emptiness(icons.search, text("inbox.none"), text("inbox.none.more"))
        : emptiness(icons.chat, text("inbox.empty"), text("inbox.empty.more"));
    }
    const labels = new Map(this.labels.map((label) => [label.id, label]));
    return html`<ul class="inbox" aria-label=${text("inbox.label")} @keydown=${this.#move}>
        ${repeat(this.rows, ({ id }) => id, (row) => html`<li>${this.#row(row, labels)}</li>`)}
      </ul>
      ${this.hasMore
        ? html`<button type="button" class="button inbox-more" @click=${() => this.tell("inbox-more")}>${text("inbox.more")}</button>`
        : nothing}`;
  }

  /** @override */
  willUpdate() {
    const { activeElement } = document;
    this.#focused = this.contains(activeElement) ? (/** @type {HTMLElement} */ (activeElement).dataset.id ?? "") : "";
  }

  /** @override */
  updated() {
    // a row that was moved has lost it
    if (this.#focused && document.activeElement === document.body) {
      /** @type {HTMLElement | null} */ (this.querySelector(`[data-id="${CSS.escape(this.#focused)}"]`))?.focus({ preventScroll: true });
    }
    const end = this.querySelector(".inbox-more");
    if (end === this.#observed) return;
    this.#end.disconnect();
    this.#observed = end;
    if (end) this.#end.observe(end);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#end.disconnect();
    this.#observed = null;
  }

  /** Gives the focus to the next conversation, or to the one before with -1. @param {1 | -1} step */
  step(step) {
    const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll(".inbox-row"))];
    const now = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const from = now < 0 ? buttons.findIndex((one) => one.dataset.id === this.selected) : now;
    buttons[Math.min(Math.max(from + step, 0), buttons.length - 1)]?.focus();
  }

  /**
   * @param {InboxRow} row
   * @param {ReadonlyMap<string, InboxLabel>} labels
   */
  #row(row, labels) {
    const name = row.customer_name || text("inbox.unnamed");
    const booking = this.bookings.get(row.id);
    const about = booking
      ? text("inbox.booking", { service: booking.service, time: appointmentTime(booking.startsAt, { zone: this.zone }) })
      : row.channel === "whatsapp" ? "" : word("channel", row.channel);
    const own = (row.label_ids ?? []).flatMap((id) => labels.get(id) ?? []);
    const isWaiting = row.snoozed_until && Date.parse(row.snoozed_until) > Date.now();
    return html`<button
      type="button"
      class="inbox-row ${row.unread_count ? "inbox-unread" : ""}"
      data-id=${row.id}
      aria-current=${row.id === this.selected ? "true" : "false"}
      @click=${() => this.tell("conversation-open", row.id)}
    >
      <span class="inbox-face">
        ${avatar(name, row.customer_id ?? row.id)}
        <span class="channel-mark channel-${row.channel}">${channelIcons[row.channel] ?? icons.chat}<span class="hidden">${word("channel", row.channel)}</span></span>
      </span>
      <span class="inbox-name" title=${name}><bdi>${name}</bdi></span>
      <time class="inbox-time" datetime=${row.last_message_at}>${whenOf(row.last_message_at)}</time>
      ${about ? html`<span class="inbox-about"><bdi>${about}</bdi></span>` : nothing}
      <span class="inbox-last">
        ${row.last_sender_type === "operator" && row.last_message_status ? ticks(row.last_message_status) : nothing}
        <span class="inbox-words"><bdi>${this.#words(row)}</bdi></span>
      </span>
      <span class="inbox-signs">
        ${row.assignee_id && row.assignee_name
          ? html`<span class="inbox-assignee" title=${text("inbox.assignee", { name: row.assignee_name })}
              >${avatar(row.assignee_name, row.assignee_id)}<span class="hidden">${text("inbox.assignee", { name: row.assignee_name })}</span></span
            >`
          : nothing}
        ${row.unread_count
          ? html`<span class="badge"
              ><span aria-hidden="true">${row.unread_count > 99 ? "99+" : row.unread_count}</span
              ><span class="hidden">${text("inbox.unread", { n: row.unread_count })}</span></span
            >`
          : nothing}
      </span>
      ${own.length || isWaiting || row.status !== "open"
        ? html`<span class="inbox-tags">
            ${isWaiting
              ? html`<span class="tag inbox-snoozed">${deskIcons.snooze}${text("inbox.snoozed", { time: weekdayOf(/** @type {string} */ (row.snoozed_until)) })}</span>`
              : nothing}
            ${row.status === "open" ? nothing : html`<span class="tag">${word("status", row.status)}</span>`}
            ${own.map((label) => labelTag(label))}
          </span>`
        : nothing}
    </button>`;
  }

  /** The last message in a line, with the name of who answered. @param {InboxRow} row */
  #words(row) {
    const { last_message: message } = row;
    const words = !message
      ? ""
      : // as the view writes for what was taken back
        message === "[deleted]"
        ? text("chat.deleted")
        : lineOf({
            type: row.last_message_type ?? "text",
            sender_type: row.last_sender_type ?? "client",
            message,
            content: row.last_message_content,
            invoice_data: /** @type {any} */ (row.last_invoice_data),
          });
    if (row.last_sender_type !== "operator") return words;
    const { last_sender_name: sender } = row;
    return sender && sender !== this.me ? text("inbox.colleague", { name: sender.split(" ")[0], text: words }) : text("inbox.you", { text: words });
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const step = /** @type {const} */ ({ ArrowDown: 1, ArrowUp: -1 })[/** @type {"ArrowDown"} */ (event.key)];
    if (!step) return;
    event.preventDefault();
    this.step(step);
  }
}

/**
 * A label with its colour, which stands beside the words: any colour may be chosen.
 *
 * @param {InboxLabel} label
 */
export function labelTag(label) {
  // by the property, since a policy that forbids inline styles forbids the attribute
  return html`<span class="tag label-tag" .style=${`--label: ${label.colour}`}><span class="label-dot"></span><bdi>${label.name}</bdi></span>`;
}

customElements.define("inbox-list", InboxList);
