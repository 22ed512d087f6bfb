import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { whenOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { avatar, bareWords, emptiness, kindOf, skeleton, ticks, trouble } from "./parts.js";
import { text, word } from "./texts.js";

/**
 * A row of the view `inbox`.
 *
 * @typedef {object} InboxRow
 * @property {string} id the conversation
 * @property {string} account_id
 * @property {string | null} customer_id null in a group
 * @property {"whatsapp" | "booking" | "portal"} channel
 * @property {"open" | "pending" | "closed"} status
 * @property {string | null} customer_name
 * @property {string | null} last_message
 * @property {string | null} last_message_at
 * @property {string | null} last_message_type
 * @property {"client" | "operator" | "system" | null} last_sender_type
 * @property {string | null} last_message_status
 * @property {number} unread_count
 * @property {string} created_at
 */

/**
 * Conversations, the latest first. It rises `conversation-open` with a conversation's id.
 *
 *     <inbox-list .rows=${rows} .selected=${id} .isLoaded=${true}></inbox-list>
 */
export class InboxList extends PageElement {
  /** @override */
  static properties = {
    rows: { attribute: false },
    selected: {},
    isLoaded: { attribute: false },
    isFiltered: { attribute: false },
    hasMore: { attribute: false },
    error: { attribute: false },
  };

  constructor() {
    super();
    /** @type {readonly InboxRow[]} */
    this.rows = [];
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
    return html`<ul class="inbox" aria-label=${text("inbox.label")} @keydown=${this.#move}>
        ${repeat(this.rows, ({ id }) => id, (row) => html`<li>${this.#row(row)}</li>`)}
      </ul>
      ${this.hasMore
        ? html`<button type="button" class="button inbox-more" @click=${() => this.tell("inbox-more")}>${text("inbox.more")}</button>`
        : nothing}`;
  }

  /** @param {InboxRow} row */
  #row(row) {
    const name = row.customer_name || text("inbox.unnamed");
    const isOurs = row.last_sender_type === "operator";
    const kind = row.last_message_type;
    const bare = bareWords(kind, row.last_message);
    const label = kind && kind !== "text" ? kindOf(kind) : "";
    // what has a word for its kind is told by it; words of the system speak for themselves
    const isTold = !label || (bare && (row.last_sender_type === "system" || label === text("kind.other")));
    const words = isTold ? bare : [label, bare].filter(Boolean).join(": ");
    return html`<button
      type="button"
      class="inbox-row"
      data-id=${row.id}
      aria-current=${row.id === this.selected ? "true" : "false"}
      @click=${() => this.tell("conversation-open", row.id)}
    >
      ${avatar(name, row.customer_id ?? row.id)}
      <span class="inbox-name" title=${name}><bdi>${name}</bdi></span>
      <time class="inbox-time" datetime=${row.last_message_at ?? row.created_at}>${whenOf(row.last_message_at ?? row.created_at)}</time>
      <span class="inbox-last">
        ${isOurs && row.last_message_status ? ticks(row.last_message_status) : nothing}
        <span class="inbox-words"><bdi>${isOurs ? text("inbox.you", { text: words }) : words}</bdi></span>
      </span>
      <span class="inbox-signs">
        ${row.channel === "whatsapp" ? nothing : html`<span class="tag">${word("channel", row.channel)}</span>`}
        ${row.status === "open" ? nothing : html`<span class="tag">${word("status", row.status)}</span>`}
        ${row.unread_count
          ? html`<span class="badge"
              ><span aria-hidden="true">${row.unread_count > 99 ? "99+" : row.unread_count}</span
              ><span class="hidden">${text("inbox.unread", { n: row.unread_count })}</span></span
            >`
          : nothing}
      </span>
    </button>`;
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [.../** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll(".inbox-row"))];
    const now = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = buttons[now + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

customElements.define("inbox-list", InboxList);
