import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { dateOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import "@rapport/live/elements/job_list.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { avatar } from "@rapport/live/elements/parts.js";
import { text } from "@rapport/live/elements/texts.js";

/** @import { Job } from "@rapport/live" */
/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */
/** @import { Desk } from "./desk.js" */
/** @import { Opened } from "./opened.js" */

/** The customer of the conversation that is open: who it is, and the appointments. */
export class CustomerFace extends PageElement {
  /** @override */
  static properties = { desk: { attribute: false }, opened: { attribute: false }, row: { attribute: false }, name: {} };

  constructor() {
    super();
    /** @type {Desk | null} */
    this.desk = null;
    /** @type {Opened | null} */
    this.opened = null;
    /** @type {InboxRow | null} */
    this.row = null;
    this.name = "";
  }

  /** @override */
  render() {
    const { desk, opened, row } = this;
    if (!desk || !opened) return nothing;
    const customer = opened.customer;
    const contact = this.look("contact", customer?.contact)?.rows[0];
    const facts = [
      [text("contact.phone"), contact?.phone],
      [text("contact.email"), contact?.email],
      [text("contact.username"), contact?.username],
      [text("contact.since"), contact && dateOf(contact.created_at)],
    ];
    return html`<div class="face-head">
        <button type="button" class="button-icon face-close" aria-label=${text("notification.dismiss")} @click=${() => this.tell("contact-toggle")}>${icons.close}</button>
        ${avatar(this.name, row?.customer_id ?? opened.id)}
        <h2><bdi>${this.name}</bdi></h2>
        ${customer ? html`<a class="button" href="#/contacts/${customer.id}">${deskIcons.contacts}${text("contact.open")}</a>` : nothing}
      </div>
      ${row && !row.customer_id
        ? html`<p class="muted">${text("contact.group")}</p>`
        : html`<dl class="facts">
              ${facts.map(([label, value]) => (value ? html`<div><dt>${label}</dt><dd><bdi>${value}</bdi></dd></div>` : nothing))}
              ${contact?.tags.length
                ? html`<div><dt>${text("contact.tags")}</dt><dd>${contact.tags.map((tag) => html`<span class="tag"><bdi>${tag}</bdi></span> `)}</dd></div>`
                : nothing}
              ${contact?.notes ? html`<div><dt>${text("contact.notes")}</dt><dd class="face-notes"><bdi>${contact.notes}</bdi></dd></div>` : nothing}
            </dl>
            ${customer
              ? html`<h3>${text("jobs.title")}</h3>
                  <job-list
                    .source=${customer.jobs}
                    .zone=${desk.account.time_zone}
                    .write=${desk.isWriter ? (/** @type {string} */ id, /** @type {Partial<Job>} */ patch) => customer.jobs.update(id, patch) : null}
                    .add=${desk.isWriter ? (/** @type {object} */ fields) => desk.ask(desk.from("jobs").insert({ ...fields, customer_id: customer.id, account_id: desk.account.id }).select("id")) : null}
                  ></job-list>`
              : nothing}`}
      ${desk.isAdmin ? html`<p class="face-why"><a class="link" href="#/health/why/${opened.id}">${text("why.title")}</a></p>` : nothing}`;
  }
}

customElements.define("customer-face", CustomerFace);
