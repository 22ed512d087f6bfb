import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import "@rapport/live/elements/inbox_list.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { EVERYTHING } from "./inbox.js";

/** @import { InboxCounts } from "@rapport/live/desk" */
/** @import { InboxList } from "@rapport/live/elements/inbox_list.js" */
/** @import { Desk } from "./desk.js" */
/** @import { Choice, Inbox } from "./inbox.js" */

const STATUSES = /** @type {const} */ (["open", "pending", "closed"]);
const WHOSE = /** @type {const} */ (["all", "mine", "free"]);
/** Where an owner's first steps are done. */
const WAYS = { number: "#/settings/business", contact: "#/contacts/new", invitation: "#/contacts", colleague: "#/settings/members" };
// ms: a search while it is typed
const PAUSE = 250;

/** The list of conversations with its filters. */
export class InboxPane extends PageElement {
  /** @override */
  static properties = { desk: { attribute: false }, inbox: { attribute: false }, selected: {}, query: { state: true } };

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #searching;

  constructor() {
    super();
    /** @type {Desk | null} */
    this.desk = null;
    /** @type {Inbox | null} */
    this.inbox = null;
    this.selected = "";
    this.query = "";
  }

  /** @override */
  render() {
    const { desk, inbox } = this;
    const shown = this.look("inbox", inbox?.rows);
    this.look("bookings", inbox?.answers);
    if (!desk || !inbox || !shown) return nothing;
    if (desk.isAdmin) void import("@rapport/live/elements/onboarding_steps.js");
    const labels = this.look("labels", desk.labels) ? desk.labelRows : [];
    const { choice: filter } = inbox;
    const counts = countsOf(shown.counts, desk.userId);
    const { isLoaded } = shown;
    const isFiltered = Object.keys(EVERYTHING).some((key) => filter[/** @type {keyof Choice} */ (key)] !== EVERYTHING[/** @type {keyof Choice} */ (key)]);
    return html`<div class="pane-head">
        <h1>${text("inbox.label")}</h1>
        <label class="search">${icons.search}<span class="hidden">${text("inbox.search")}</span
          ><input type="search" placeholder=${text("inbox.search")} maxlength="200" .value=${this.query} @input=${this.#search} @keydown=${this.#leave} /><kbd aria-hidden="true">/</kbd></label>
        <div class="segments" role="group" aria-label=${text("inbox.whose")}>
          ${WHOSE.map(
            (whose) =>
              html`<button type="button" aria-pressed=${filter.whose === whose ? "true" : "false"} @click=${() => this.#choose({ whose })}>
                ${text(`inbox.${whose}`)}${whose !== "all" && counts?.[whose] ? html`<span class="count">${many(counts[whose])}</span>` : nothing}
              </button>`,
          )}
        </div>
        <div class="filters">
          <label class="field-inline"
            ><span class="hidden">${text("inbox.status")}</span
            ><select @change=${(/** @type {Event} */ event) => this.#choose({ status: /** @type {Choice["status"]} */ (valueOf(event)) })}>
              ${["", ...STATUSES].map(
                (status) => html`<option value=${status} ?selected=${status === filter.status} .selected=${status === filter.status}>${status ? word("status", status) : text("inbox.any-status")}</option>`,
              )}
            </select></label
          >
          <label class="field-inline"
            ><span class="hidden">${text("inbox.by-label")}</span
            ><select @change=${(/** @type {Event} */ event) => this.#choose({ labelId: valueOf(event) })}>
              <option value="" .selected=${!filter.labelId}>${text("inbox.any-label")}</option>
              ${labels.map(
                (label) => html`<option value=${label.id} .selected=${label.id === filter.labelId}>${label.name}${counts?.labels.get(label.id) ? ` (${many(counts.labels.get(label.id) ?? 0)})` : ""}</option>`,
              )}
            </select></label
          >
          <button
            type="button"
            class="button filter-snoozed"
            aria-pressed=${filter.isSnoozed ? "true" : "false"}
            title=${text("inbox.show-snoozed", { n: counts?.snoozed ?? 0 })}
            @click=${() => this.#choose({ isSnoozed: !filter.isSnoozed })}
          >
            ${deskIcons.snooze}<span class="hidden">${text("inbox.show-snoozed", { n: counts?.snoozed ?? 0 })}</span
            >${counts?.snoozed ? html`<span class="count" aria-hidden="true">${many(counts.snoozed)}</span>` : nothing}
          </button>
        </div>
      </div>
      <div class="pane-body">
        ${desk.isAdmin
          ? html`<onboarding-steps .supabase=${desk.supabase} .live=${desk.live} .account=${desk.account.id} .ways=${WAYS}></onboarding-steps>`
          : nothing}
        <inbox-list
          .rows=${shown.rows}
          .bookings=${inbox.bookings}
          .labels=${labels}
          .me=${desk.me?.display_name ?? ""}
          .zone=${desk.account.time_zone}
          .isLoaded=${isLoaded && !(shown.isLoading && !shown.rows.length)}
          .hasMore=${shown.hasMore}
          .isFiltered=${isFiltered}
          .error=${shown.error}
          .selected=${this.selected}
          @inbox-more=${() => inbox.rows.loadMore()}
        ></inbox-list>
        ${isFiltered && isLoaded && !shown.isLoading && !shown.rows.length
          ? html`<p class="inbox-reset"><button type="button" class="button" @click=${this.#reset}>${text("inbox.reset")}</button></p>`
          : nothing}
      </div>`;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    document.addEventListener("keydown", this.#key);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    document.removeEventListener("keydown", this.#key);
  }

  get #field() {
    return /** @type {HTMLInputElement | null} */ (this.querySelector("input[type=search]"));
  }

  /** @param {KeyboardEvent} event */
  #key = (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, [contenteditable]") || !this.checkVisibility()) return;
    if (event.key === "/") this.#field?.focus();
    else if (event.key === "j") this.#list?.step(1);
    else if (event.key === "k") this.#list?.step(-1);
    else return;
    event.preventDefault();
  };

  /** From the field to what it has found. @param {KeyboardEvent} event */
  #leave(event) {
    if (event.key === "ArrowDown") this.#list?.step(1);
    else if (event.key === "Escape" && !this.query) this.#field?.blur();
    else return;
    event.preventDefault();
  }

  get #list() {
    return /** @type {InboxList | null} */ (this.querySelector("inbox-list"));
  }

  #search() {
    this.query = this.#field?.value ?? "";
    clearTimeout(this.#searching);
    this.#searching = setTimeout(() => this.#choose({ query: this.query }), PAUSE);
  }

  /** @param {Partial<Choice>} filter */
  #choose(filter) {
    this.inbox?.choose(filter);
    this.requestUpdate();
    this.querySelector(".pane-body")?.scrollTo({ top: 0 });
  }

  #reset() {
    this.query = "";
    this.#choose(EVERYTHING);
  }
}

/**
 * The counts of the filters.
 *
 * @param {InboxCounts | null} counts
 * @param {string} userId
 */
function countsOf(counts, userId) {
  if (!counts) return null;
  return {
    mine: counts.assignees.find(({ user_id }) => user_id === userId)?.conversations ?? 0,
    free: counts.free,
    snoozed: counts.snoozed,
    labels: new Map(counts.labels.map(({ label_id, conversations }) => [label_id, conversations])),
  };
}

/** @param {number} count of at most 100 */
function many(count) {
  return count >= 100 ? "99+" : String(count);
}

/** @param {Event} event */
function valueOf(event) {
  return /** @type {HTMLSelectElement} */ (event.target).value;
}

customElements.define("inbox-pane", InboxPane);
