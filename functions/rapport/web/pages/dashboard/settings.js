import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { icons } from "@rapport/live/elements/icons.js";
import { emptiness, pill, skeleton } from "@rapport/live/elements/parts.js";
import "@rapport/live/elements/push_switch.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { ACCOUNT_COLUMNS } from "./desk.js";
import { withHeld } from "./held.js";
import "./members.js";
import { SectionPage, fieldsOf } from "./section_page.js";
import { variableButtons } from "./variables.js";

/** @import { Desk, Label, SavedReply } from "./desk.js" */

const PARTS = /** @type {const} */ (["replies", "labels", "notifications", "members", "business"]);
// those that staff are told of
const KINDS = /** @type {const} */ (["message", "mention", "assigned"]);
const VARIABLES = [
  "contact.name", "appointment.time", "appointment.service", "invoice.number", "invoice.amount", "invoice.due_on", "points.total", "agent.name", "account.name",
];

/** Saved replies, labels, notifications on this device, and what holds for the whole business. */
export class SettingsPage extends SectionPage {
  /** @override */
  static properties = { ...SectionPage.properties, editing: { state: true }, limits: { state: true }, numbers: { state: true } };

  constructor() {
    super();
    /** The id of what is being changed, or "new". */
    this.editing = "";
    /** @type {Record<string, number> | null} */
    this.limits = null;
    /** The account's WhatsApp numbers. @type {readonly { id: string, name: string, display_phone_number: string, stopped_at: string | null, paused_at: string | null }[] | null} */
    this.numbers = null;
    /** The row that is being changed, as it was when that began. @type {any} */
    this.edited = null;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (!changed.has("path") && !changed.has("desk")) return;
    this.editing = this.refusal = this.notice = "";
    this.edited = null;
    if (this.#part === "business") void this.#readBusiness();
  }

  /** @override */
  render() {
    const { desk } = this;
    if (!desk) return nothing;
    const part = this.#part;
    return html`<div class="section-page">
      <header class="section-head"><h1>${text("desk.settings")}</h1></header>
      <nav class="tabs-line" aria-label=${text("desk.settings")}>
        ${PARTS.map((one) => html`<a href="#/settings/${one}" aria-current=${one === part ? "page" : "false"}>${text(`desk.settings.${one}`)}</a>`)}
      </nav>
      ${this.told()} ${this.#shown(desk, part)}
    </div>`;
  }

  /**
   * @param {Desk} desk
   * @param {typeof PARTS[number]} part
   */
  #shown(desk, part) {
    switch (part) {
      case "replies":
        return this.#replies(desk);
      case "labels":
        return this.#labels(desk);
      case "notifications":
        return this.#notifications(desk);
      case "members":
        return html`<members-part class="section-part" .desk=${desk}></members-part>`;
      case "business":
        return this.#business(desk);
    }
  }

  get #part() {
    return PARTS.find((one) => one === this.path) ?? "replies";
  }

  /** @param {Desk} desk */
  #replies(desk) {
    const shown = this.look("replies", desk.replies);
    const rows = withHeld(shown ? desk.replyRows : [], /** @type {SavedReply | null} */ (this.edited), "short_code");
    return html`<p class="muted">${text("desk.replies.lead")}</p>
      ${this.editing === "new"
        ? html`<div class="card-plain">${this.#replyForm(desk, null)}</div>`
        : desk.isWriter
          ? html`<button type="button" class="button" @click=${() => this.#edit("new")}>${icons.plus}${text("desk.replies.new")}</button>`
          : nothing}
      ${rows.length || this.editing === "new" ? nothing : !shown?.isLoaded ? skeleton(2) : emptiness(deskIcons.replies, text("desk.replies.none"), text("desk.replies.none.more"))}
      <ul class="cards">
        ${repeat(rows, ({ id }) => id, (row) => html`<li class="card-plain">
          ${this.editing === row.id
            ? this.#replyForm(desk, row)
            : html`<div class="reply-row">
                <div class="card-words">
                  <p class="card-title"><code>/${row.short_code}</code> <bdi>${row.title ?? ""}</bdi></p>
                  <p class="reply-words" dir="auto">${row.text}</p>
                </div>
                ${desk.isWriter
                  ? html`<p class="actions">
                      <button type="button" class="button-icon" aria-label=${text("desk.edit.this", { name: row.short_code })} @click=${() => this.#edit(row.id, row)}>${deskIcons.pencil}</button>
                      <button type="button" class="button-icon" aria-label=${text("desk.delete.this", { name: row.short_code })}
                        @click=${() => this.try(() => desk.ask(desk.from("saved_replies").delete().eq("id", row.id).select("id")), text("desk.deleted"))}>${deskIcons.trash}</button>
                    </p>`
                  : nothing}
              </div>`}
        </li>`)}
      </ul>`;
  }

  /**
   * @param {Desk} desk
   * @param {SavedReply | null} row
   */
  #replyForm(desk, row) {
    return html`<form class="form" @submit=${(/** @type {SubmitEvent} */ event) => this.#saveReply(desk, row, event)}>
      <div class="form-row">
        <label class="field"><span>${text("desk.replies.code")}</span><input name="short_code" required maxlength="32" pattern="[a-z0-9_\\-]+" autocapitalize="off" autocomplete="off" .value=${row?.short_code ?? ""} /></label>
        <label class="field"><span>${text("desk.replies.title")}</span><input name="title" maxlength="200" autocomplete="off" .value=${row?.title ?? ""} /></label>
      </div>
      <label class="field"><span>${text("desk.replies.text")}</span><textarea name="text" rows="4" required maxlength="4096" .value=${row?.text ?? ""}></textarea></label>
      ${variableButtons(VARIABLES)}
      <div class="actions">
        <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button>
        <button type="button" class="button" @click=${() => this.#edit("")}>${text("desk.back")}</button>
      </div>
    </form>`;
  }

  /**
   * @param {Desk} desk
   * @param {SavedReply | null} row
   * @param {SubmitEvent} event
   */
  async #saveReply(desk, row, event) {
    const field = fieldsOf(event);
    const reply = { short_code: field("short_code"), title: field("title") || null, text: field("text") };
    const table = desk.from("saved_replies");
    const isDone = await this.try(
      () => desk.ask(row ? table.update(reply).eq("id", row.id).select("id") : table.insert({ ...reply, account_id: desk.account.id }).select("id")),
      text("desk.saved"),
    );
    // unless another is being changed meanwhile
    if (isDone && this.editing === (row?.id ?? "new")) {
      this.editing = "";
      this.edited = null;
    }
  }

  /** @param {Desk} desk */
  #labels(desk) {
    const shown = this.look("labels", desk.labels);
    const rows = withHeld(shown ? desk.labelRows : [], /** @type {Label | null} */ (this.edited), "name");
    return html`<p class="muted">${text("desk.labels.lead")}</p>
      ${this.editing === "new"
        ? html`<div class="card-plain">${this.#labelForm(desk, null)}</div>`
        : desk.isWriter
          ? html`<button type="button" class="button" @click=${() => this.#edit("new")}>${icons.plus}${text("desk.label.new")}</button>`
          : nothing}
      ${rows.length || this.editing === "new" ? nothing : !shown?.isLoaded ? skeleton(2) : emptiness(deskIcons.tag, text("desk.labels.none"), text("desk.labels.none.more"))}
      <ul class="cards">
        ${repeat(rows, ({ id }) => id, (row) => html`<li class="card-plain">
          ${this.editing === row.id
            ? this.#labelForm(desk, row)
            : html`<div class="reply-row">
                <p class="card-words"><span class="tag label-tag" .style=${`--label: ${row.colour}`}><span class="label-dot"></span><bdi>${row.name}</bdi></span></p>
                ${desk.isWriter
                  ? html`<p class="actions">
                      <button type="button" class="button-icon" aria-label=${text("desk.edit.this", { name: row.name })} @click=${() => this.#edit(row.id, row)}>${deskIcons.pencil}</button>
                      <button type="button" class="button-icon" aria-label=${text("desk.delete.this", { name: row.name })}
                        @click=${() => this.try(() => desk.ask(desk.from("labels").delete().eq("id", row.id).select("id")), text("desk.deleted"))}>${deskIcons.trash}</button>
                    </p>`
                  : nothing}
              </div>`}
        </li>`)}
      </ul>`;
  }

  /**
   * @param {Desk} desk
   * @param {Label | null} row
   */
  #labelForm(desk, row) {
    return html`<form class="form" @submit=${(/** @type {SubmitEvent} */ event) => this.#saveLabel(desk, row, event)}>
      <div class="form-row">
        <label class="field"><span>${text("desk.label.name")}</span><input name="name" required maxlength="64" autocomplete="off" .value=${row?.name ?? ""} /></label>
        <label class="field field-colour"><span>${text("desk.label.colour")}</span><input type="color" name="colour" .value=${row?.colour ?? "#1f77b4"} /></label>
      </div>
      <div class="actions">
        <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button>
        <button type="button" class="button" @click=${() => this.#edit("")}>${text("desk.back")}</button>
      </div>
    </form>`;
  }

  /**
   * @param {Desk} desk
   * @param {Label | null} row
   * @param {SubmitEvent} event
   */
  async #saveLabel(desk, row, event) {
    const field = fieldsOf(event);
    const label = { name: field("name"), colour: field("colour").toLowerCase() };
    const table = desk.from("labels");
    const isDone = await this.try(
      () => desk.ask(row ? table.update(label).eq("id", row.id).select("id") : table.insert({ ...label, account_id: desk.account.id }).select("id")),
      text("desk.saved"),
    );
    // unless another is being changed meanwhile
    if (isDone && this.editing === (row?.id ?? "new")) {
      this.editing = "";
      this.edited = null;
    }
  }

  /** @param {Desk} desk */
  #notifications(desk) {
    return html`<p class="muted">${text("desk.push.lead")}</p>
      <div class="card-plain"><push-switch .supabase=${desk.supabase} .kinds=${KINDS}></push-switch></div>`;
  }

  /** @param {Desk} desk */
  #business(desk) {
    const { account } = desk;
    const isReader = !desk.isAdmin;
    return html`${isReader ? html`<p class="muted">${text("desk.business.readers")}</p>` : nothing}
      <form class="form card-plain" @submit=${(/** @type {SubmitEvent} */ event) => this.#saveBusiness(desk, event)}>
        <fieldset class="form plain" ?disabled=${isReader}>
          <legend class="hidden">${text("desk.settings.business")}</legend>
          <label class="field"><span>${text("desk.business.name")}</span><input name="name" required maxlength="200" .value=${account.name} /></label>
          <div class="form-row">
            <label class="field"
              ><span>${text("desk.business.language")}</span
              ><select name="language">
                ${/** @type {const} */ (["en", "sl"]).map((code) => html`<option value=${code} ?selected=${code === account.language}>${word("desk.language", code)}</option>`)}
              </select></label
            >
            <label class="field"><span>${text("desk.business.zone")}</span><input name="time_zone" required list="zones" autocomplete="off" .value=${account.time_zone} /></label>
            <datalist id="zones">${Intl.supportedValuesOf("timeZone").map((zone) => html`<option value=${zone}></option>`)}</datalist>
          </div>
          <fieldset class="form plain">
            <legend>${text("desk.business.quiet")}</legend>
            <p class="muted">${text("desk.business.quiet.more")}</p>
            <div class="form-row">
              <label class="field"><span>${text("desk.business.from")}</span><input type="time" name="quiet_from" .value=${(account.quiet_from ?? "").slice(0, 5)} /></label>
              <label class="field"><span>${text("desk.business.until")}</span><input type="time" name="quiet_until" .value=${(account.quiet_until ?? "").slice(0, 5)} /></label>
            </div>
          </fieldset>
          <label class="check"><input type="checkbox" name="assigns_in_turn" ?checked=${account.assigns_in_turn} /><span>${text("desk.business.turn")}</span></label>
          ${isReader ? nothing : html`<p class="actions"><button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button></p>`}
        </fieldset>
      </form>
      ${this.#numbers(desk)}
      ${this.limits
        ? html`<section class="card-plain"><h2>${text("desk.limits")}</h2><p class="muted">${text("desk.limits.more")}</p>
            <dl class="facts limits">
              ${Object.entries(this.limits).map(([name, value]) => html`<div><dt>${word("desk.limit", name)}</dt><dd>${value.toLocaleString()}</dd></div>`)}
            </dl></section>`
        : nothing}`;
  }

  async #readBusiness() {
    const { desk } = this;
    if (!desk) return;
    const { id } = desk.account;
    const [limits, numbers] = await Promise.all([
      desk.ask(desk.from("accounts").select("messages_per_minute,messages_per_request,writes_per_minute,rows_per_request").eq("id", id)).catch(() => null),
      desk.ask(desk.from("whatsapp_channels").select("id,name,display_phone_number,stopped_at,paused_at").eq("account_id", id).order("created_at")).catch(() => null),
    ]);
    if (desk !== this.desk) return;
    this.limits = limits?.[0] ?? null;
    this.numbers = numbers;
  }

  /** The numbers, and how another one is added. @param {Desk} desk */
  #numbers(desk) {
    const { numbers } = this;
    if (!numbers) return nothing;
    return html`<section class="card-plain form"><h2>${text("desk.numbers")}</h2>
      ${numbers.length
        ? html`<ul class="cards">
            ${numbers.map(
              (one) => html`<li class="reply-row">
                <p class="card-words"><strong>${one.display_phone_number}</strong> <bdi class="muted">${one.name}</bdi></p>
                ${one.stopped_at || one.paused_at ? pill(text("desk.numbers.stopped"), "bad") : pill(text("desk.numbers.works"), "good")}
              </li>`,
            )}
          </ul>`
        : html`<p>${text("desk.numbers.none")}</p>`}
      <p class="muted">${text("desk.numbers.add")}</p>
      <pre class="commands" tabindex="0">rapport number add ${desk.account.id} "+386 …" --phone-number-id …</pre></section>`;
  }

  /**
   * @param {Desk} desk
   * @param {SubmitEvent} event
   */
  #saveBusiness(desk, event) {
    const field = fieldsOf(event);
    const changed = {
      name: field("name"),
      language: field("language"),
      time_zone: field("time_zone"),
      quiet_from: field("quiet_from") || null,
      quiet_until: field("quiet_until") || null,
      assigns_in_turn: field("assigns_in_turn") === "on",
    };
    return this.try(async () => {
      const [account] = await desk.ask(desk.from("accounts").update(changed).eq("id", desk.account.id).select(ACCOUNT_COLUMNS));
      this.tell("account-change", account);
    }, text("desk.saved"));
  }

  /**
   * @param {string} id
   * @param {Label | SavedReply | null} [row]
   */
  async #edit(id, row = null) {
    this.editing = id;
    this.edited = row;
    this.refusal = this.notice = "";
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector("form input"))?.focus();
  }
}

customElements.define("settings-page", SettingsPage);
