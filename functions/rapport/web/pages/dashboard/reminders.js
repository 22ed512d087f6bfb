import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { followDesk, followReminders } from "@rapport/live/desk";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { appointmentTime } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { emptiness, pill, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { withHeld } from "./held.js";
import { SectionPage, fieldsOf } from "./section_page.js";
import "./template_field.js";
import { sendable } from "./templates.js";
import { noteField, variableButtons } from "./variables.js";

/** @import { Reminder } from "@rapport/live/desk" */
/** @import { Tables } from "../../database.types.js" */
/** @import { Desk } from "./desk.js" */
/** @import { FilledTemplate } from "./template_field.js" */
/** @import { Template } from "./templates.js" */

/** @typedef {Readonly<Tables<"reminder_rules">>} Rule */
/**
 * What a rule would have sent.
 *
 * @typedef {{ found: number, sent: number, dropped: Record<string, number>, reminders: readonly Reminder[] }} Trial
 */

const KINDS = /** @type {const} */ (["before_appointment", "after_job", "invoice_due_in", "invoice_overdue_by", "points_expire_in"]);
const BY_MINUTES = new Set(["before_appointment", "after_job"]);
/** What a rule can fill in, by what it reminds of. */
const VARIABLES = /** @type {const} */ ({
  before_appointment: ["contact.name", "appointment.time", "appointment.service", "account.name"],
  after_job: ["contact.name", "appointment.time", "appointment.service", "account.name"],
  invoice_due_in: ["contact.name", "invoice.number", "invoice.amount", "invoice.due_on", "account.name"],
  invoice_overdue_by: ["contact.name", "invoice.number", "invoice.amount", "invoice.due_on", "account.name"],
  points_expire_in: ["contact.name", "points.total", "account.name"],
});
const UNITS = /** @type {const} */ ({ days: 1440, hours: 60, minutes: 1 });

/** The rules by which customers are reminded, what each would have sent, and what will be sent. */
export class RemindersPage extends SectionPage {
  /** @override */
  static properties = {
    ...SectionPage.properties,
    editing: { state: true },
    kind: { state: true },
    template: { state: true },
    templates: { state: true },
    trial: { state: true },
  };

  /** @type {ReturnType<typeof followDesk<"reminder_rules">> | null} */
  #rules = null;
  /** @type {ReturnType<typeof followReminders> | null} */
  #upcoming = null;
  /** The rule that is being changed, as it was when that began. @type {Rule | null} */
  #edited = null;

  constructor() {
    super();
    /** The id of the rule that is being changed, or "new". */
    this.editing = "";
    /** @type {Rule["kind"]} */
    this.kind = "before_appointment";
    /** @type {FilledTemplate | null} */
    this.template = null;
    /** @type {readonly Template[]} */
    this.templates = [];
    /** @type {Trial | null} */
    this.trial = null;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    const { desk } = this;
    if (!desk || !changed.has("desk")) return;
    this.#close();
    this.#rules = followDesk(desk.live, "reminder_rules");
    this.#upcoming = followReminders(desk.live, desk.account.id);
    void sendable(desk).then((templates) => (this.templates = templates), () => {});
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#close();
  }

  /** @override */
  render() {
    const { desk } = this;
    const shown = this.look("rules", this.#rules);
    const upcoming = this.look("upcoming", this.#upcoming);
    if (!desk || !shown || !upcoming) return nothing;
    const rules = withHeld(shown.rows.filter(({ account_id }) => account_id === desk.account.id), this.#edited, "name");
    return html`<div class="section-page">
      <header class="section-head"><h1>${text("desk.reminders")}</h1><p class="muted">${text("desk.rules.lead")}</p></header>
      ${this.told()}
      ${this.editing === "new"
        ? html`<div class="card-plain">${this.#form(desk, null)}</div>`
        : desk.isAdmin
          ? html`<button type="button" class="button" @click=${() => this.#edit(null)}>${icons.plus}${text("desk.rules.new")}</button>`
          : html`<p class="muted">${text("desk.rules.readers")}</p>`}
      ${shown.error && !rules.length ? trouble(text("desk.rules.failed"), shown.error) : nothing}
      ${!shown.error && !shown.isLoaded ? skeleton(3) : nothing}
      ${!rules.length && shown.isLoaded && !shown.error && this.editing !== "new" ? emptiness(deskIcons.bell, text("desk.rules.none"), text("desk.rules.none.more")) : nothing}
      <ul class="cards">
        ${repeat(rules, ({ id }) => id, (rule) => html`<li class="card-plain">
          ${this.editing === rule.id
            ? this.#form(desk, rule)
            : html`<div class="reply-row">
                <div class="card-words">
                  <p class="card-title"><bdi>${rule.name}</bdi> ${rule.is_active ? pill(text("desk.rules.on"), "good") : pill(text("desk.rules.off"), "calm")}</p>
                  <p>${whenWords(rule)}</p>
                  <p class="muted">${rule.template ? text("desk.rules.by-template", { name: String(/** @type {any} */ (rule.template).name) }) : ""} ${rule.text ? html`<bdi>${rule.text}</bdi>` : nothing}</p>
                </div>
                ${desk.isAdmin
                  ? html`<p class="actions">
                      <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#write(desk, rule.id, { is_active: !rule.is_active })}>${text(rule.is_active ? "desk.rules.stop" : "desk.rules.begin")}</button>
                      <button type="button" class="button-icon" aria-label=${text("desk.edit.this", { name: rule.name })} @click=${() => this.#edit(rule)}>${deskIcons.pencil}</button>
                      <button type="button" class="button-icon" aria-label=${text("desk.delete.this", { name: rule.name })}
                        @click=${() => this.try(() => desk.ask(desk.from("reminder_rules").delete().eq("id", rule.id).select("id")), text("desk.deleted"))}>${deskIcons.trash}</button>
                    </p>`
                  : nothing}
              </div>`}
        </li>`)}
      </ul>
      <section class="section-part" aria-labelledby="upcoming-title">
        <h2 id="upcoming-title">${text("desk.rules.upcoming")}</h2>
        ${upcoming.error ? trouble(text("desk.rules.failed"), upcoming.error) : nothing}
        ${upcoming.rows.length
          ? reminderTable(upcoming.rows, desk.account.time_zone)
          : upcoming.error
            ? nothing
            : upcoming.isLoaded
              ? html`<p class="muted">${text("desk.rules.upcoming.none")}</p>`
              : skeleton(1)}
        ${upcoming.hasMore ? html`<button type="button" class="button" @click=${() => this.#upcoming?.loadMore()}>${text("inbox.more")}</button>` : nothing}
      </section>
    </div>`;
  }

  /**
   * @param {Desk} desk
   * @param {Rule | null} rule
   */
  #form(desk, rule) {
    const isByMinutes = BY_MINUTES.has(this.kind);
    const [amount, unit] = amountOf(rule?.kind === this.kind ? rule.minutes : 1440);
    return html`<form class="form" @focusin=${noteField} @submit=${(/** @type {SubmitEvent} */ event) => this.#save(desk, rule, event)}>
      <label class="field"><span>${text("desk.rules.name")}</span><input name="name" required maxlength="200" autocomplete="off" .value=${rule?.name ?? ""} /></label>
      <div class="form-row">
        <label class="field"
          ><span>${text("desk.rules.kind")}</span
          ><select name="kind" @change=${(/** @type {Event} */ event) => {
            this.kind = /** @type {Rule["kind"]} */ (/** @type {HTMLSelectElement} */ (event.target).value);
            this.trial = null;
          }}>
            ${KINDS.map((kind) => html`<option value=${kind} .selected=${kind === this.kind}>${word("desk.rule", kind)}</option>`)}
          </select></label
        >
        ${isByMinutes
          ? html`<label class="field"><span>${text("desk.rules.amount")}</span><input name="amount" type="number" min="0" required .value=${String(amount)} /></label>
              <label class="field"
                ><span>${text("desk.rules.unit")}</span
                ><select name="unit">
                  ${/** @type {(keyof typeof UNITS)[]} */ (Object.keys(UNITS)).map((one) => html`<option value=${one} .selected=${one === unit}>${text(`desk.unit.${one}`)}</option>`)}
                </select></label
              >`
          : html`<label class="field"><span>${text("desk.unit.days")}</span><input name="days" type="number" min="0" max="365" required .value=${String(rule?.days ?? 3)} /></label>
              <label class="field"><span>${text("desk.rules.time")}</span><input name="time_of_day" type="time" required .value=${(rule?.time_of_day ?? "09:00").slice(0, 5)} /></label>`}
      </div>
      <template-field .templates=${this.templates} .value=${this.template} .empty=${text("desk.rules.no-template")} @template-change=${(/** @type {CustomEvent} */ event) => (this.template = event.detail)}></template-field>
      <label class="field"><span>${text("desk.rules.text")}</span><textarea name="text" rows="3" maxlength="2000" .value=${rule?.text ?? ""} placeholder=${text("desk.rules.text.more")}></textarea></label>
      ${variableButtons(VARIABLES[this.kind])}
      <div class="actions">
        <button type="submit" name="do" value="save" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button>
        <button type="submit" name="do" value="try" class="button" ?disabled=${this.isBusy}>${text("desk.rules.try")}</button>
        <button type="button" class="button" @click=${() => this.#edit(undefined)}>${text("desk.back")}</button>
      </div>
      ${this.trial ? trialOf(this.trial, desk.account.time_zone) : nothing}
    </form>`;
  }

  /**
   * @param {Desk} desk
   * @param {Rule | null} rule
   * @param {SubmitEvent} event
   */
  async #save(desk, rule, event) {
    const field = fieldsOf(event);
    const isByMinutes = BY_MINUTES.has(this.kind);
    const written = {
      kind: this.kind,
      minutes: isByMinutes ? Number(field("amount")) * UNITS[/** @type {keyof typeof UNITS} */ (field("unit"))] : null,
      days: isByMinutes ? null : Number(field("days")),
      time_of_day: field("time_of_day") || "09:00",
      template: this.template,
      text: field("text") || null,
    };
    if (/** @type {HTMLButtonElement | null} */ (event.submitter)?.value === "try") {
      this.trial = null;
      await this.try(async () => (this.trial = await desk.call("try_reminder_rule", { account_id: desk.account.id, ...written })));
      return;
    }
    await this.#write(desk, rule?.id ?? null, { ...written, name: field("name"), ...(written.template ? {} : { whatsapp_channel_id: null }) });
  }

  /**
   * @param {Desk} desk
   * @param {string | null} id
   * @param {Record<string, unknown>} columns
   */
  async #write(desk, id, columns) {
    const table = desk.from("reminder_rules");
    const isDone = await this.try(
      () => desk.ask(id ? table.update(columns).eq("id", id).select("id") : table.insert({ ...columns, account_id: desk.account.id }).select("id")),
      text("desk.saved"),
    );
    // unless another is being changed meanwhile
    if (isDone && this.editing === (id ?? "new")) this.#end();
  }

  /** @param {Rule | null | undefined} rule null for a new one, undefined for none */
  async #edit(rule) {
    this.editing = rule === undefined ? "" : (rule?.id ?? "new");
    this.#edited = rule ?? null;
    this.kind = rule?.kind ?? "before_appointment";
    this.template = /** @type {FilledTemplate | null} */ (/** @type {unknown} */ (rule?.template ?? null));
    this.trial = null;
    this.refusal = this.notice = "";
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector("form input"))?.focus();
  }

  #end() {
    this.editing = "";
    this.#edited = null;
  }

  #close() {
    this.#end();
    this.#rules?.close();
    this.#upcoming?.close();
    this.#rules = this.#upcoming = null;
  }
}

/**
 * @param {Trial} trial
 * @param {string} zone
 */
function trialOf(trial, zone) {
  const dropped = Object.entries(trial.dropped);
  return html`<section class="trial" role="status">
    <p><strong>${text("desk.rules.would", { n: trial.sent })}</strong></p>
    ${dropped.length ? html`<p class="muted">${text("desk.rules.would-not", { reasons: dropped.map(([reason, n]) => `${word("desk.reason", reason)}: ${n}`).join(", ") })}</p>` : nothing}
    ${trial.reminders.length ? reminderTable(trial.reminders.map((row) => ({ ...row, rule_name: "" })), zone) : nothing}
  </section>`;
}

/**
 * @param {readonly Reminder[]} rows
 * @param {string} zone of the business, by whose clocks rules and quiet hours go
 */
function reminderTable(rows, zone) {
  return html`<ul class="reminders">
    ${rows.map(
      (row) => html`<li>
        <time datetime=${row.send_at ?? row.due_at}>${appointmentTime(row.send_at ?? row.due_at, { zone })}</time>
        <span class="card-words"><strong><bdi>${row.customer_name ?? text("inbox.unnamed")}</bdi></strong> <span class="muted"><bdi>${row.rule_name}</bdi></span>
          ${row.message ? html`<span class="reminder-words"><bdi>${row.message}</bdi></span>` : nothing}</span>
        ${row.way ? pill(word("channel", row.way), "calm") : pill(whyNot(row), "warn")}
      </li>`,
    )}
  </ul>`;
}

/**
 * Why it is not sent, in the language of the page; in that of the account where the page has no word.
 *
 * @param {Reminder} row
 */
function whyNot({ reason, why_not: words }) {
  const known = reason ? word("desk.reason", reason) : "";
  return known && known !== reason ? known.charAt(0).toLocaleUpperCase() + known.slice(1) : (words ?? text("desk.rules.dropped"));
}

/** When a rule reminds, in words. @param {Rule} rule */
function whenWords(rule) {
  if (!BY_MINUTES.has(rule.kind)) return text(/** @type {any} */ (`desk.rule.${rule.kind}.when`), { n: rule.days ?? 0, time: rule.time_of_day.slice(0, 5) });
  const [amount, unit] = amountOf(rule.minutes);
  return text(/** @type {any} */ (`desk.rule.${rule.kind}.when`), { amount: text(`desk.amount.${unit}`, { n: amount }) });
}

/**
 * Minutes in the largest unit that holds them.
 *
 * @param {number | null} minutes
 * @returns {[number, keyof typeof UNITS]}
 */
function amountOf(minutes) {
  const all = minutes ?? 0;
  const unit = all && all % 1440 === 0 ? "days" : all && all % 60 === 0 ? "hours" : "minutes";
  return [all / UNITS[unit], unit];
}

customElements.define("reminders-page", RemindersPage);
