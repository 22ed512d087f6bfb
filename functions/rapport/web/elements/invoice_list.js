import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { amountOf, dateOf, plainDayOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { emptiness, pill, skeleton, trouble } from "./parts.js";
import { text, word } from "./texts.js";

/** @import { Invoice } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

const KINDS = /** @type {const} */ ({ draft: "calm", sent: "warn", paid: "good", overdue: "bad", void: "calm" });

/**
 * A customer's invoices, the newest first.
 *
 *     <invoice-list .source=${live.invoices(customerId)}></invoice-list>
 */
export class InvoiceList extends PageElement {
  /** @override */
  static properties = { source: { attribute: false } };

  constructor() {
    super();
    /** @type {Store<Snapshot<Invoice>> | null} */
    this.source = null;
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const { rows } = shown;
    if (shown.error && !rows.length) return trouble(text("invoices.failed"), shown.error);
    if (!rows.length && shown.state === "connecting") return skeleton(2);
    if (!rows.length) return emptiness(icons.invoice, text("invoices.empty"), text("invoices.empty.more"));
    return html`<ul class="cards">
      ${repeat([...rows].reverse(), ({ id }) => id, (invoice) => this.#invoice(invoice))}
    </ul>`;
  }

  /** @param {Invoice} invoice */
  #invoice(invoice) {
    const isOpen = invoice.status === "sent" || invoice.status === "overdue";
    return html`<li class="card invoice" data-id=${invoice.id}>
      <div class="card-words">
        <p class="card-title"><bdi>${invoice.number}</bdi></p>
        ${invoice.description ? html`<p class="muted"><bdi>${invoice.description}</bdi></p>` : nothing}
        ${invoice.paid_at ? html`<p class="muted">${text("invoices.paid", { day: dateOf(invoice.paid_at) })}</p>` : nothing}
        ${isOpen && invoice.due_on ? html`<p class="muted">${text("invoices.due", { day: plainDayOf(invoice.due_on) })}</p>` : nothing}
      </div>
      <div class="invoice-sum">
        <strong class="amount">${amountOf(invoice.amount_minor, invoice.currency)}</strong>
        ${pill(word("invoice", invoice.status), KINDS[invoice.status] ?? "calm")}
      </div>
    </li>`;
  }
}

customElements.define("invoice-list", InvoiceList);
