import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { amountOf, dateOf, daysFromNow, plainDayOf } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { emptiness, pill, skeleton, trouble } from "./parts.js";
import { text, word } from "./texts.js";

/** @import { Invoice } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

const KINDS = /** @type {const} */ ({ draft: "calm", sent: "warn", paid: "good", overdue: "bad", void: "calm" });

/** Which come first. @type {Record<string, number>} */
const ORDER = { overdue: 0, sent: 1 };

/**
 * A customer's invoices: what is to be paid in sum, overdue ones and those to pay first, then the
 * newest.
 *
 * Where the page gives `actions`, what it makes of an invoice stands beneath it.
 *
 *     <invoice-list .source=${live.invoices(customerId)}></invoice-list>
 */
export class InvoiceList extends PageElement {
  /** @override */
  static properties = { source: { attribute: false }, actions: { attribute: false } };

  constructor() {
    super();
    /** @type {Store<Snapshot<Invoice>> | null} */
    this.source = null;
    /** Staff's steps of an invoice. @type {((invoice: Invoice) => unknown) | null} */
    this.actions = null;
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const { rows } = shown;
    if (shown.error && !rows.length) return trouble(text("invoices.failed"), shown.error);
    if (!shown.isLoaded) return skeleton(2);
    if (!rows.length) return emptiness(icons.invoice, text("invoices.empty"), text("invoices.empty.more"));
    const sorted = [...rows].reverse().sort((a, b) => (ORDER[a.status] ?? 2) - (ORDER[b.status] ?? 2));
    return html`${this.#sums(rows)}
      <ul class="cards">
        ${repeat(sorted, ({ id }) => id, (invoice) => this.#invoice(invoice))}
      </ul>`;
  }

  /**
   * What is to be paid, and of it what is overdue, in each currency.
   *
   * @param {readonly Invoice[]} rows
   */
  #sums(rows) {
    /** @type {Map<string, { open: number, overdue: number }>} */
    const sums = new Map();
    for (const { status, currency, amount_minor: amount } of rows) {
      if (status !== "sent" && status !== "overdue") continue;
      const sum = sums.get(currency) ?? { open: 0, overdue: 0 };
      sums.set(currency, { open: sum.open + amount, overdue: sum.overdue + (status === "overdue" ? amount : 0) });
    }
    return [...sums].map(
      ([currency, { open, overdue }]) =>
        html`<p class="invoice-open">
          <strong>${text("invoices.open", { amount: amountOf(open, currency) })}</strong>
          ${overdue ? html`<span class="invoice-late">${text("invoices.late", { amount: amountOf(overdue, currency) })}</span>` : nothing}
        </p>`,
    );
  }

  /** @param {Invoice} invoice */
  #invoice(invoice) {
    const isOpen = invoice.status === "sent" || invoice.status === "overdue";
    return html`<li class="card invoice" data-id=${invoice.id}>
      <div class="card-words">
        <p class="card-title"><bdi>${invoice.number}</bdi></p>
        ${invoice.description ? html`<p class="muted"><bdi>${invoice.description}</bdi></p>` : nothing}
        ${invoice.paid_at ? html`<p class="muted">${text("invoices.paid", { day: dateOf(invoice.paid_at) })}</p>` : nothing}
        ${isOpen && invoice.due_on ? html`<p class="muted">${text("invoices.due", { day: plainDayOf(invoice.due_on), when: daysFromNow(invoice.due_on) })}</p>` : nothing}
      </div>
      <div class="invoice-sum">
        <strong class="amount">${amountOf(invoice.amount_minor, invoice.currency)}</strong>
        ${pill(word("invoice", invoice.status), KINDS[invoice.status] ?? "calm")}
      </div>
      ${this.actions?.(invoice) ?? nothing}
    </li>`;
  }
}

customElements.define("invoice-list", InvoiceList);
