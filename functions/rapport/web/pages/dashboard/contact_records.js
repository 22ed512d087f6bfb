import { html, nothing } from "lit";
import { amountOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import "@rapport/live/elements/invoice_list.js";
import "@rapport/live/elements/job_list.js";
import "@rapport/live/elements/points_total.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { SectionPage, fieldsOf } from "./section_page.js";

/** @import { Invoice, Job } from "@rapport/live" */
/** @import { JobList } from "@rapport/live/elements/job_list.js" */
/** @import { Desk } from "./desk.js" */

/** What comes next in an invoice's life, by its status. */
const STEPS = /** @type {const} */ ({ draft: ["sent", "void"], sent: ["paid", "void"], overdue: ["paid", "void"], paid: [], void: [] });
const POINTS = /** @type {const} */ (["earned", "bonus", "redeemed"]);
/** @type {Record<string, string>} */
const CURRENCIES = { US: "USD", GB: "GBP", CH: "CHF", HU: "HUF", CZ: "CZK", PL: "PLN", SE: "SEK", DK: "DKK", NO: "NOK", RS: "RSD", BA: "BAM" };

/** The appointments, invoices and points of one contact, with a small form for each: live. */
export class ContactRecords extends SectionPage {
  /** @override */
  static properties = { ...SectionPage.properties, contact: {}, editing: { state: true }, next: { state: true } };

  /** @type {ReturnType<typeof followRecords> | null} */
  #records = null;

  constructor() {
    super();
    /** A contact's id. */
    this.contact = "";
    /** The form that is open. @type {"" | "invoice" | "points"} */
    this.editing = "";
    /** The number of the next invoice, as far as the last one tells. */
    this.next = "";
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (!changed.has("desk") && !changed.has("contact")) return;
    this.#close();
    if (this.desk && this.contact) this.#records = followRecords(this.desk, this.contact);
    this.editing = "";
    this.refusal = this.notice = "";
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#close();
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    if (this.desk && this.contact) this.#records ??= followRecords(this.desk, this.contact);
  }

  /** @override */
  render() {
    const { desk, contact } = this;
    const records = this.#records;
    if (!desk || !records) return nothing;
    return html`<section class="card-plain">
        <h3>${text("jobs.title")}</h3>
        <job-list
          .source=${records.jobs}
          @click=${this.#follow}
          .zone=${desk.account.time_zone}
          .write=${desk.isWriter ? (/** @type {string} */ id, /** @type {Partial<Job>} */ patch) => records.jobs.update(id, patch) : null}
          .add=${desk.isWriter ? (/** @type {object} */ fields) => desk.ask(desk.from("jobs").insert({ ...fields, customer_id: contact, account_id: desk.account.id }).select("id")) : null}
        ></job-list>
      </section>
      <section class="card-plain">
        <h3>${text("invoices.title")}</h3>
        <invoice-list .source=${records.invoices} .actions=${desk.isWriter ? (/** @type {Invoice} */ invoice) => this.#steps(desk, invoice) : null}></invoice-list>
        ${desk.isWriter ? this.#invoicing(desk) : nothing}
      </section>
      <section class="card-plain">
        <h3>${text("points.title")}</h3>
        <points-total .source=${records.points} .empty=${text("points.empty.desk")}></points-total>
        ${desk.isWriter ? this.#pointing(desk) : nothing}
      </section>`;
  }

  /**
   * @param {Desk} desk
   * @param {Invoice} invoice
   */
  #steps(desk, invoice) {
    const steps = STEPS[/** @type {keyof typeof STEPS} */ (invoice.status)] ?? [];
    if (!steps.length) return nothing;
    return html`<div class="actions invoice-steps">
      ${steps.map(
        (status) => html`<button type="button" class="link" ?disabled=${this.isBusy} @click=${() => this.#step(desk, invoice, status)}>${text(`invoices.do.${status}`)}</button>`,
      )}
    </div>`;
  }

  /** @param {Desk} desk */
  #invoicing(desk) {
    if (this.editing !== "invoice") {
      return html`${this.editing ? nothing : this.told()}
        <button type="button" class="button button-wide" @click=${() => this.#open("invoice")}>${icons.plus}${text("invoices.new")}</button>`;
    }
    return html`<form class="inline card-plain" @submit=${(/** @type {SubmitEvent} */ event) => this.#invoice(desk, event)}>
      <label class="field"><span>${text("invoices.number")}</span><input name="number" required maxlength="64" autocomplete="off" .value=${this.next} /></label>
      <div class="form-row">
        <label class="field"><span>${text("invoices.amount")}</span><input name="amount" inputmode="decimal" required maxlength="20" autocomplete="off" /></label>
        <label class="field field-short"><span>${text("invoices.currency")}</span><input name="currency" required maxlength="3" pattern="[A-Za-z]{3}" autocomplete="off" .value=${this.#currency(desk)} /></label>
      </div>
      <label class="field"><span>${text("invoices.description")}</span><input name="description" maxlength="4000" autocomplete="off" /></label>
      <label class="field"><span>${text("invoices.due-on")}</span><input type="date" name="due_on" /></label>
      <p class="muted">${text("invoices.draft.more")}</p>
      ${this.#foot()}
    </form>`;
  }

  /** @param {Desk} desk */
  #pointing(desk) {
    if (this.editing !== "points") return html`<button type="button" class="button button-wide" @click=${() => this.#open("points")}>${icons.gift}${text("points.change")}</button>`;
    return html`<form class="inline card-plain" @submit=${(/** @type {SubmitEvent} */ event) => this.#point(desk, event)}>
      <div class="form-row">
        <label class="field"
          ><span>${text("points.what")}</span
          ><select name="type">
            ${POINTS.map((type) => html`<option value=${type}>${word("points", type)}</option>`)}
          </select></label
        >
        <label class="field field-short"><span>${text("points.title")}</span><input name="points" type="number" min="1" max="1000000000" step="1" required /></label>
      </div>
      <label class="field"><span>${text("points.description")}</span><input name="description" maxlength="500" autocomplete="off" /></label>
      <label class="field"><span>${text("points.expires-on")}</span><input type="date" name="expires_on" /></label>
      ${this.#foot()}
    </form>`;
  }

  #foot() {
    return html`${this.told()}
      <div class="actions">
        <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button>
        <button type="button" class="button" @click=${() => this.#open("")}>${text("desk.back")}</button>
      </div>`;
  }

  /** The currency of the latest invoice, or of the country. @param {Desk} desk */
  #currency(desk) {
    return this.#records?.invoices.getSnapshot().rows.at(-1)?.currency ?? CURRENCIES[desk.account.country ?? ""] ?? "EUR";
  }

  /** @param {"" | "invoice" | "points"} what */
  async #open(what) {
    this.editing = what;
    const jobs = /** @type {JobList | null} */ (this.querySelector("job-list"));
    if (what && jobs) jobs.editing = "";
    this.refusal = this.notice = this.next = "";
    if (what === "invoice") this.next = await this.#nextNumber();
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector("form.inline input[name=number], form.inline select[name=type]"))?.focus();
  }

  /** Of all forms only one is open: another is closed by that of an appointment. @param {Event} event */
  #follow(event) {
    if (/** @type {JobList} */ (event.currentTarget).editing) this.editing = "";
  }

  /** One more than the last number of the account, where that ends with digits. */
  async #nextNumber() {
    const { desk } = this;
    const asked = desk?.from("invoices").select("number").eq("account_id", desk.account.id).order("created_at", { ascending: false }).limit(1);
    const [last] = (await desk?.ask(asked).catch(() => [])) ?? [];
    return nextNumber(last?.number ?? "");
  }

  /**
   * @param {Desk} desk
   * @param {SubmitEvent} event
   */
  async #invoice(desk, event) {
    const field = fieldsOf(event);
    const currency = field("currency").toUpperCase();
    const amount_minor = minorOf(field("amount"), currency);
    if (amount_minor === null) return void (this.refusal = text("invoices.amount.wrong", { example: amountOf(12_050, currency) }));
    const invoice = { number: field("number"), currency, amount_minor, description: field("description") || null, due_on: field("due_on") || null };
    const isDone = await this.try(() => desk.ask(desk.from("invoices").insert({ ...invoice, customer_id: this.contact, account_id: desk.account.id }).select("id")), text("desk.saved"));
    if (isDone) this.editing = "";
  }

  /**
   * @param {Desk} desk
   * @param {Invoice} invoice
   * @param {string} status
   */
  #step(desk, { id }, status) {
    return this.try(() => desk.ask(desk.from("invoices").update({ status }).eq("id", id).select("id")), text("desk.saved"));
  }

  /**
   * @param {Desk} desk
   * @param {SubmitEvent} event
   */
  async #point(desk, event) {
    const field = fieldsOf(event);
    const type = field("type");
    const points = Number(field("points")) * (type === "redeemed" ? -1 : 1);
    const line = { type, points, description: field("description") || null, ...(type === "redeemed" ? {} : { expires_on: field("expires_on") || null }) };
    const isDone = await this.try(() => desk.ask(desk.from("loyalty_transactions").insert({ ...line, customer_id: this.contact, account_id: desk.account.id }).select("id")));
    if (isDone) this.editing = "";
  }

  #close() {
    const { jobs, invoices, points } = this.#records ?? {};
    for (const one of [jobs, invoices, points]) one?.close();
    this.#records = null;
  }
}

/**
 * @param {Desk} desk
 * @param {string} contact
 */
function followRecords({ live }, contact) {
  return { jobs: live.jobs(contact), invoices: live.invoices(contact), points: live.loyalty(contact) };
}

/**
 * The number after one that ends with digits: 2026-009 becomes 2026-010.
 *
 * @param {string} number
 */
export function nextNumber(number) {
  const [, digits = ""] = /(\d{1,15})$/.exec(number) ?? [];
  return digits ? number.slice(0, -digits.length) + String(Number(digits) + 1).padStart(digits.length, "0") : "";
}

/**
 * An amount as people write it, 120,50 or 1.120.50 or 120, in minor units; null where it is none.
 *
 * @param {string} words
 * @param {string} currency
 */
export function minorOf(words, currency) {
  let digits = 2;
  try {
    digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits ?? 2;
  } catch {
    // the database says which currencies there are
  }
  const [, whole, , cents = ""] = /^(\d[\d.,'\u2019]*?)([.,](\d{1,3}))?$/.exec(words.replace(/[\s\u00a0\u202f]/g, "")) ?? [];
  if (whole === undefined) return null;
  // three digits behind the last sign are thousands, unless the currency has three
  const isThousands = cents.length === 3 && digits !== 3;
  const value = Number(`${(isThousands ? whole + cents : whole).replace(/\D/g, "")}.${isThousands ? "0" : cents || "0"}`);
  const minor = Math.round(value * 10 ** digits);
  return Number.isSafeInteger(minor) && (isThousands || cents.length <= digits) ? minor : null;
}

customElements.define("contact-records", ContactRecords);
