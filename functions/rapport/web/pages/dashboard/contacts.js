import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { Conflict } from "@rapport/live";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { appointmentTime, dateOf, whenOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { avatar, emptiness, pill, reasonOf, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { randomId } from "../../live/random_id.js";
import "./contact_records.js";
import { followAnswer } from "./follow.js";
import { SectionPage, fieldsIn, fieldsOf } from "./section_page.js";
import { sendable } from "./templates.js";

/** @import { ContactV2, LiveChatContact } from "@rapport/live" */
/** @import { Desk } from "./desk.js" */

/**
 * @typedef {{ id: string, kind: string, value: string }} Identity
 * @typedef {{ id: string, dropped_before: { name?: string, profile_name?: string, phone?: string }, merged_at: string }} Merge
 * @typedef {{ id: string, contact_id: string, name: string | null, other_contact_id: string, other_name: string | null, reason: string, evidence: Record<string, unknown>, about: string, other_about: string }} Suggestion
 *
 * All about one contact, of one moment.
 *
 * @typedef {object} Whole
 * @property {string} id
 * @property {ContactV2} v2
 * @property {LiveChatContact | null} chat
 * @property {readonly Identity[]} identities
 * @property {readonly string[]} unproved
 * @property {readonly Merge[]} merges
 */

const PAGE = 50;
// ms: a search while it is typed
const PAUSE = 250;
const STATUSES = /** @type {const} */ (["open", "pending", "closed"]);
const FIELDS = /** @type {const} */ (["name", "phone", "email", "username"]);
// what stands in the form
const WRITTEN = [...FIELDS, "tags", "notes", "conversation_status"];

/** The contacts page, beside what the live chat shows of the same contact: both live. */
export class ContactsPage extends SectionPage {
  /** @override */
  static properties = {
    ...SectionPage.properties,
    query: { state: true },
    pages: { state: true },
    mergeQuery: { state: true },
    mergeFound: { state: true },
    other: { state: true },
    merged: { state: true },
    link: { state: true },
  };

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #typing;
  /** @type {ReturnType<typeof followList> | null} */
  #list = null;
  /** @type {ReturnType<typeof followSuggestions> | null} */
  #suggestions = null;
  /** @type {ReturnType<typeof followWhole> | null} */
  #whole = null;
  /** Whether there are more than those that are shown. */
  #more = { is: false };
  /** The contact as it was when somebody began to change it here: what others do meanwhile takes nothing of that away. @type {ContactV2 | null} */
  #begun = null;
  /** What a colleague has made of it, of which the user was told. @type {ContactV2 | null} */
  #known = null;
  /** The contact as it was shown last. @type {Whole | null} */
  #last = null;

  constructor() {
    super();
    this.query = "";
    this.pages = 1;
    this.mergeQuery = "";
    /** @type {readonly ContactV2[]} */
    this.mergeFound = [];
    /** The contact that is about to be merged into the one that is open. @type {ContactV2 | null} */
    this.other = null;
    /** The merge that was made last, which can be taken back. */
    this.merged = "";
    /** The invitation to the portal that was made last. @type {{ href: string, until: string } | null} */
    this.link = null;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    const { desk } = this;
    if (!desk) return;
    const [id, isOther] = [this.#id, changed.has("desk")];
    if (isOther || changed.has("query") || changed.has("pages")) {
      this.#list?.close();
      this.#more = { is: false };
      this.#list = followList(desk, this.query.trim(), this.pages, this.#more);
    }
    if (isOther) {
      this.#suggestions?.close();
      this.#suggestions = followSuggestions(desk);
    }
    if (isOther || changed.has("path")) {
      this.#whole?.close();
      this.#whole = id ? followWhole(desk, id) : null;
      this.refusal = this.notice = this.merged = this.mergeQuery = "";
      this.mergeFound = [];
      this.other = this.link = null;
      this.#begun = this.#known = this.#last = null;
    }
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    for (const one of [this.#list, this.#suggestions, this.#whole]) one?.close();
    this.#list = this.#suggestions = this.#whole = null;
  }

  /** @override */
  render() {
    const { desk } = this;
    const shown = this.look("list", this.#list);
    if (!desk || !shown) return nothing;
    const suggestions = this.look("suggestions", this.#suggestions)?.rows ?? [];
    const isOpen = !!this.path;
    return html`<div class="contacts ${isOpen ? "contacts-open" : ""}">
      <section class="pane contacts-list" aria-label=${text("desk.contacts")}>
        <div class="pane-head">
          <h1>${text("desk.contacts")}</h1>
          <label class="search">${icons.search}<span class="hidden">${text("contact.search")}</span
            ><input type="search" placeholder=${text("contact.search")} maxlength="200" .value=${this.query} @input=${this.#search} /></label>
          <p class="actions">
            ${desk.isWriter ? html`<a class="button" href="#/contacts/new">${icons.plus}${text("contact.new")}</a>` : nothing}
            <a class="button" href="#/contacts/duplicates">${deskIcons.merge}${text("contact.duplicates")}${suggestions.length ? html`<span class="count">${suggestions.length}</span>` : nothing}</a>
          </p>
        </div>
        <div class="pane-body">
          ${shown.error && !shown.rows.length ? trouble(text("contact.failed"), shown.error) : nothing}
          ${!shown.error && !shown.isLoaded ? skeleton(6) : nothing}
          ${!shown.error && shown.isLoaded && !shown.rows.length
            ? emptiness(deskIcons.contacts, text(this.query ? "inbox.none" : "contact.none"), text(this.query ? "contact.none.found" : "contact.none.more"))
            : nothing}
          <ul class="inbox">
            ${repeat(shown.rows, ({ id }) => id, (row) => html`<li>
              <a class="inbox-row contact-row" href="#/contacts/${row.id}" aria-current=${row.id === this.#id ? "true" : "false"}>
                ${avatar(nameOf(row), row.id)}
                <span class="inbox-name"><bdi>${nameOf(row)}</bdi></span>
                <span class="inbox-last"><span class="inbox-words"><bdi>${[row.phone, row.email].filter(Boolean).join(" · ")}</bdi></span></span>
              </a>
            </li>`)}
          </ul>
          ${this.#more.is ? html`<button type="button" class="button inbox-more" @click=${() => this.pages++}>${text("inbox.more")}</button>` : nothing}
        </div>
      </section>
      <section class="pane contacts-detail" aria-label=${text("contact.one")}>
        ${this.path === "duplicates" ? this.#duplicates(desk, suggestions) : this.path === "new" ? this.#new(desk) : this.#id ? this.#detail(desk) : emptiness(deskIcons.contacts, text("contact.choose"), text("contact.choose.more"))}
      </section>
    </div>`;
  }

  get #id() {
    return /^[0-9a-f-]{36}$/i.test(this.path) ? this.path : "";
  }

  /** @param {Desk} desk */
  #detail(desk) {
    const shown = this.look("whole", this.#whole);
    const found = shown?.rows[0];
    if (found) this.#last = found;
    // a form that is half filled stays, though the contact is gone
    const whole = found ?? (this.#begun && this.#last);
    if (shown?.error && !whole) return html`${this.#back()}${trouble(text("contact.failed"), shown.error)}`;
    if (!whole) return shown?.isLoaded ? html`${this.#back()}${emptiness(deskIcons.contacts, text("contact.gone"), text("contact.gone.more"))}` : html`${this.#back()}${skeleton(4)}`;
    const { v2, chat, identities, unproved } = whole;
    return html`${this.#back()}
      <header class="contact-head">
        ${avatar(nameOf(v2), v2.id)}
        <div class="card-words"><h2><bdi>${nameOf(v2)}</bdi></h2><p class="muted">${text("contact.known", { day: dateOf(v2.created_at) })}</p></div>
        <p class="actions">
          ${desk.isWriter ? html`<button type="button" class="button" @click=${() => this.#sendTemplate(desk, v2)}>${icons.template}${text("template.send")}</button>` : nothing}
          ${v2.conversation_id ? html`<a class="button" href="#${v2.conversation_id}">${icons.chat}${text("contact.talk")}</a>` : nothing}
        </p>
      </header>
      ${found ? this.told() : html`<p class="refusal" role="alert">${icons.warning}<span>${text("contact.gone")}. ${text("contact.gone.more")}</span></p>`}
      ${this.merged
        ? html`<p class="done" role="status">${deskIcons.check}<span>${text("contact.merged")}</span>
            <button type="button" class="link" @click=${() => this.#undo(desk, this.merged)}>${text("contact.undo")}</button></p>`
        : nothing}
      <div class="contact-faces">
        <div class="contact-main">
          <section class="card-plain"><h3>${text("contact.face.v2")}</h3>${this.#form(desk, v2)}</section>
          <contact-records class="contact-records" .desk=${desk} .contact=${v2.id}></contact-records>
        </div>
        <div class="contact-side">
          <section class="card-plain"><h3>${text("contact.face.chat")}</h3>
            ${chat
              ? html`<dl class="facts">
                  <div><dt>${text("contact.name")}</dt><dd><bdi>${nameOf(chat)}</bdi></dd></div>
                  <div><dt>${text("contact.phone")}</dt><dd><bdi>${chat.phone ?? "–"}</bdi></dd></div>
                  <div><dt>${text("inbox.status")}</dt><dd>${pill(word("status", chat.conversation_status.toLowerCase()), chat.conversation_status === "Open" ? "good" : "calm")}</dd></div>
                  <div><dt>${text("contact.last")}</dt><dd>${chat.last_message_at ? whenOf(chat.last_message_at) : "–"}</dd></div>
                </dl>`
              : nothing}
          </section>
          <section class="card-plain"><h3>${text("contact.identities")}</h3>
            <ul class="identities">
              ${identities.map((one) => html`<li><span class="muted">${word("contact.kind", one.kind)}</span><bdi>${one.value}</bdi></li>`)}
              ${identities.length ? nothing : html`<li class="muted">${text("contact.identities.none")}</li>`}
            </ul>
            ${unproved.length && desk.isWriter
              ? html`<p class="muted">${text("contact.unproved", { fields: unproved.map((field) => word("contact", field)).join(", ") })}</p>
                  <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.try(() => desk.call("confirm_contact", { contact_id: v2.id, fields: unproved }), text("contact.confirmed"))}>${text("contact.confirm")}</button>`
              : nothing}
          </section>
          ${this.#portal(desk, v2)} ${desk.isWriter ? this.#merging(desk, whole) : nothing}
        </div>
      </div>`;
  }

  /**
   * Sends a template, which opens the conversation of a contact who has never written.
   *
   * @param {Desk} desk
   * @param {ContactV2} v2
   */
  async #sendTemplate(desk, v2) {
    const client_ref = randomId();
    await this.try(async () => {
      const { TemplatePicker } = await import("@rapport/live/elements/template_picker.js");
      TemplatePicker.open(
        () => sendable(desk),
        async (template) => {
          const { conversation_id } = await desk.call("send_template", { customer_id: v2.id, template, client_ref });
          location.hash = conversation_id;
          return null;
        },
      );
    });
  }

  #back() {
    return html`<a class="button-icon contacts-back" href="#/contacts" aria-label=${text("contact.back")}>${icons.back}</a>`;
  }

  /**
   * @param {Desk} desk
   * @param {ContactV2} v2
   */
  #form(desk, v2) {
    const shown = this.#begun ?? v2;
    return html`<form class="form" @input=${(/** @type {Event} */ event) => this.#touch(shown, event)} @submit=${(/** @type {SubmitEvent} */ event) => this.#save(desk, v2, event)}>
      <fieldset class="form plain contact-fields" ?disabled=${!desk.isWriter}>
        <legend class="hidden">${text("contact.face.v2")}</legend>
        ${this.#fields(
          shown,
          html`<label class="field"
            ><span>${text("inbox.status")}</span
            ><select name="conversation_status">
              ${STATUSES.map((status) => html`<option value=${status} .selected=${status === shown.conversation_status}>${word("status", status)}</option>`)}
            </select></label
          >`,
        )}
        ${desk.isWriter ? html`<p class="actions"><button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button></p>` : nothing}
      </fieldset>
    </form>`;
  }

  /**
   * Notes that the contact is being changed, unless what stands in the form is what was there.
   *
   * @param {ContactV2} shown
   * @param {Event} event
   */
  #touch(shown, event) {
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const isTouched = Object.keys(changesOf(shown, written(fieldsIn(form)))).length > 0;
    this.#begun = isTouched ? shown : null;
    if (!isTouched) this.#known = null;
  }

  /**
   * @param {Partial<ContactV2>} v2
   * @param {unknown} [status]
   */
  #fields(v2, status = nothing) {
    const kinds = { name: "text", phone: "tel", email: "email", username: "text" };
    return html`${FIELDS.map(
        (field) => html`<label class="field"
          ><span>${word("contact", field)}</span
          ><input name=${field} type=${kinds[field]} maxlength="320" autocomplete="off" .value=${v2[field] ?? ""}
        /></label>`,
      )}
      <label class="field"><span>${text("contact.tags")}</span><input name="tags" autocomplete="off" placeholder=${text("contact.tags.more")} .value=${(v2.tags ?? []).join(", ")} /></label>
      ${status}
      <label class="field"><span>${text("contact.notes")}</span><textarea name="notes" rows="3" maxlength="20000" .value=${v2.notes ?? ""}></textarea></label>`;
  }

  /**
   * @param {Desk} desk
   * @param {ContactV2} v2
   * @param {SubmitEvent} event
   */
  #save(desk, v2, event) {
    const now = written(fieldsOf(event));
    const begun = this.#begun ?? v2;
    // what is not touched is not written: a colleague may have changed it meanwhile
    const changed = changesOf(begun, now);
    if (!Object.keys(changed).length) return;
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("phone"));
    return this.try(async () => {
      // shown as it is kept, also where it is the same as before
      if (typeof changed.phone === "string") field.value = changed.phone = await desk.readPhone(changed.phone);
      // what is shown may be older than what the user was told of
      let latest = this.#known && this.#known.version > v2.version ? this.#known : v2;
      for (let isWritten = false; !isWritten; ) {
        const theirs = changesOf(this.#known ?? begun, /** @type {any} */ (latest));
        if (Object.keys(changed).some((field) => field in theirs && JSON.stringify(theirs[field]) !== JSON.stringify(changed[field]))) {
          this.#known = latest;
          throw new Conflict(text("contact.changed"));
        }
        try {
          await desk.ask(desk.from("contacts_v2").update({ ...changed, version: latest.version }).eq("id", v2.id).select("id"));
          isWritten = true;
        } catch (error) {
          if (!(error instanceof Conflict) || error.field !== "version") throw error;
          const [read] = await desk.ask(desk.from("contacts_v2").select("*").eq("id", v2.id));
          if (!read || read.version === latest.version) throw new Conflict(text("contact.changed"));
          latest = read;
        }
      }
      this.#begun = this.#known = null;
      this.#whole?.refresh();
    }, text("desk.saved"));
  }

  /** @param {Desk} desk */
  #new(desk) {
    return html`${this.#back()}<h2>${text("contact.new")}</h2>${this.told()}
      <form
        class="form card-plain contact-fields"
        @submit=${(/** @type {SubmitEvent} */ event) => {
          const { conversation_status: _, ...contact } = /** @type {Record<string, unknown>} */ (written(fieldsOf(event)));
          void this.try(async () => {
            if (typeof contact.phone === "string") contact.phone = await desk.readPhone(contact.phone);
            const [made] = await desk.ask(desk.from("contacts_v2").insert({ ...contact, account_id: desk.account.id }).select("id"));
            location.hash = `/contacts/${made.id}`;
          });
        }}
      >
        ${this.#fields({})}
        <p class="actions"><button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("desk.save")}</button></p>
      </form>`;
  }

  /**
   * @param {Desk} desk
   * @param {ContactV2} v2
   */
  #portal(desk, v2) {
    return html`<section class="card-plain"><h3>${text("contact.portal")}</h3>
      ${v2.portal_user_id
        ? html`<p>${pill(text("contact.portal.has"), "good")}</p>
            ${desk.isWriter
              ? html`<button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.try(() => desk.call("unlink_portal_login", { contact_id: v2.id }), text("contact.portal.unlinked"))}>${text("contact.portal.unlink")}</button>`
              : nothing}`
        : html`<p class="muted">${text("contact.portal.none")}</p>
            ${this.link
              ? html`<label class="field"><span>${text("contact.portal.link", { time: appointmentTime(this.link.until) })}</span><input class="invitation" readonly .value=${this.link.href} @focus=${(/** @type {Event} */ event) => /** @type {HTMLInputElement} */ (event.target).select()} /></label>
                  <button type="button" class="button" @click=${this.#copy}>${deskIcons.link}${text("contact.portal.copy")}</button>`
              : desk.isWriter
                ? html`<button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#invite(desk, v2)}>${deskIcons.portal}${text("contact.portal.invite")}</button>`
                : nothing}`}
    </section>`;
  }

  /**
   * @param {Desk} desk
   * @param {ContactV2} v2
   */
  #invite(desk, v2) {
    return this.try(async () => {
      const { token, expires_at } = await desk.call("invite_to_portal", { contact_id: v2.id });
      const address = new URL("../portal/", location.href.split("#")[0]);
      address.searchParams.set("invitation", token);
      // for a customer whose browser speaks none of the languages of the page
      address.searchParams.set("language", desk.account.language);
      this.link = { href: address.href, until: expires_at };
    });
  }

  async #copy() {
    if (!this.link) return;
    await this.try(() => navigator.clipboard.writeText(this.link?.href ?? ""), text("contact.portal.copied"));
  }

  /**
   * @param {Desk} desk
   * @param {Whole} whole
   */
  #merging(desk, { v2, merges }) {
    const { other } = this;
    return html`<section class="card-plain"><h3>${text("contact.merge")}</h3>
      ${other
        ? html`<p>${text("contact.merge.sure", { other: nameOf(other), name: nameOf(v2) })}</p>
            <p class="actions">
              <button type="button" class="button button-main" ?disabled=${this.isBusy} @click=${() => this.#merge(desk, v2.id, other.id)}>${deskIcons.merge}${text("contact.merge.do")}</button>
              <button type="button" class="button" @click=${() => (this.other = null)}>${text("desk.back")}</button>
            </p>`
        : html`<label class="field"><span>${text("contact.merge.with")}</span><input type="search" autocomplete="off" .value=${this.mergeQuery} @input=${(/** @type {InputEvent} */ event) => this.#findOther(desk, v2.id, event)} /></label>
            <ul class="merge-found">
              ${repeat(this.mergeFound, ({ id }) => id,
                (one) => html`<li><button type="button" class="drop-item" @click=${() => (this.other = one)}>${avatar(nameOf(one), one.id)}<span><bdi>${nameOf(one)}</bdi> <span class="muted"><bdi>${one.phone ?? one.email ?? ""}</bdi></span></span></button></li>`,
              )}
            </ul>`}
      ${merges.length
        ? html`<ul class="merges">
            ${repeat(merges, ({ id }) => id,
              (one) => html`<li><span>${text("contact.merge.was", { name: one.dropped_before.name ?? one.dropped_before.profile_name ?? one.dropped_before.phone ?? "?", day: dateOf(one.merged_at) })}</span>
                <button type="button" class="link" ?disabled=${this.isBusy} @click=${() => this.#undo(desk, one.id)}>${text("contact.undo")}</button></li>`,
            )}
          </ul>`
        : nothing}
    </section>`;
  }

  /**
   * @param {Desk} desk
   * @param {string} id
   * @param {InputEvent} event
   */
  #findOther(desk, id, event) {
    this.mergeQuery = /** @type {HTMLInputElement} */ (event.target).value;
    clearTimeout(this.#typing);
    this.#typing = setTimeout(async () => {
      const query = this.mergeQuery.trim();
      if (!query) return void (this.mergeFound = []);
      try {
        const { contacts } = await desk.call("search_contacts", { account_id: desk.account.id, query, page_size: 6 });
        // an answer to an older question, or of another contact
        if (query !== this.mergeQuery.trim() || id !== this.#id.toLowerCase()) return;
        this.mergeFound = contacts.filter((/** @type {ContactV2} */ one) => one.id !== id);
      } catch (error) {
        this.refusal = reasonOf(error);
      }
    }, PAUSE);
  }

  /**
   * @param {Desk} desk
   * @param {string} keep
   * @param {string} drop
   */
  async #merge(desk, keep, drop) {
    this.merged = "";
    await this.try(async () => {
      const { merge_id } = await desk.call("merge_contacts", { keep, drop });
      if (this.#id && this.#id !== keep) location.hash = `/contacts/${keep}`;
      this.other = null;
      this.mergeQuery = "";
      this.mergeFound = [];
      this.merged = merge_id;
      this.#refresh();
    });
  }

  /**
   * @param {Desk} desk
   * @param {string} merge_id
   */
  #undo(desk, merge_id) {
    return this.try(async () => {
      const { changed_since, not_returned } = await desk.call("undo_merge", { merge_id });
      this.merged = "";
      this.#refresh();
      const stays = [...changed_since.map((/** @type {any} */ one) => one.field), ...not_returned.map((/** @type {any} */ one) => one.value)];
      if (stays.length) this.notice = text("contact.undone.but", { what: stays.join(", ") });
    }, text("contact.undone"));
  }

  #refresh() {
    this.#whole?.refresh();
    this.#list?.refresh();
    this.#suggestions?.refresh();
  }

  /**
   * @param {Desk} desk
   * @param {readonly Suggestion[]} rows
   */
  #duplicates(desk, rows) {
    return html`${this.#back()}
      <h2>${text("contact.duplicates")}</h2>
      <p class="muted">${text("contact.duplicates.lead")}</p>
      ${this.told()}
      ${this.merged
        ? html`<p class="done" role="status">${deskIcons.check}<span>${text("contact.merged")}</span> <button type="button" class="link" @click=${() => this.#undo(desk, this.merged)}>${text("contact.undo")}</button></p>`
        : nothing}
      ${desk.isWriter
        ? html`<p class="actions"><button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#look(desk)}>${icons.search}${text("contact.duplicates.look")}</button></p>`
        : nothing}
      ${rows.length ? nothing : this.#suggestions?.getSnapshot().isLoaded ? emptiness(deskIcons.merge, text("contact.duplicates.none"), "") : skeleton(2)}
      <ul class="cards">
        ${repeat(rows, ({ id }) => id, (row) => html`<li class="card-plain duplicate">
          <p class="duplicate-pair">
            <a href="#/contacts/${row.contact_id}">${avatar(row.name ?? "", row.contact_id)}<bdi>${row.name ?? text("inbox.unnamed")}</bdi> <span class="muted"><bdi>${row.about}</bdi></span></a>
            <a href="#/contacts/${row.other_contact_id}">${avatar(row.other_name ?? "", row.other_contact_id)}<bdi>${row.other_name ?? text("inbox.unnamed")}</bdi> <span class="muted"><bdi>${row.other_about}</bdi></span></a>
          </p>
          <p class="muted">${word("contact.reason", row.reason)}<bdi>${evidenceOf(row.evidence)}</bdi></p>
          ${desk.isWriter
            ? html`<p class="actions">
                <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#merge(desk, row.contact_id, row.other_contact_id)}>${text("contact.merge.keep", { name: [row.name ?? text("inbox.unnamed"), row.about].filter(Boolean).join(", ") })}</button>
                <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#dismiss(desk, row.id)}>${text("contact.duplicates.no")}</button>
              </p>`
            : nothing}
        </li>`)}
      </ul>`;
  }

  /** @param {Desk} desk */
  #look(desk) {
    return this.try(async () => {
      const found = await desk.call("suggest_duplicates", { account_id: desk.account.id });
      this.#suggestions?.refresh();
      this.notice = text("contact.duplicates.found", { n: Number(found) });
    }).then(() => this.requestUpdate());
  }

  /**
   * @param {Desk} desk
   * @param {string} suggestion_id
   */
  #dismiss(desk, suggestion_id) {
    return this.try(async () => {
      await desk.call("dismiss_suggestion", { suggestion_id });
      this.#suggestions?.refresh();
    });
  }

  /** @param {InputEvent} event */
  #search(event) {
    const { value } = /** @type {HTMLInputElement} */ (event.target);
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => {
      this.query = value;
      this.pages = 1;
    }, PAUSE);
  }
}

/**
 * The contacts that the words find, by name.
 *
 * @param {Desk} desk
 * @param {string} query
 * @param {number} pages
 * @param {{ is: boolean }} more
 */
function followList(desk, query, pages, more) {
  return followAnswer(desk.live, ["contacts"], async (server) => {
    /** @type {ContactV2[]} */
    const found = [];
    for (let cursor = null, page = 0; page < pages; page++) {
      const answer = /** @type {any} */ (await server.rpc("search_contacts", { account_id: desk.account.id, query, cursor, page_size: PAGE }));
      found.push(...answer.contacts);
      cursor = answer.cursor;
      more.is = !!cursor;
      if (!cursor) break;
    }
    return found;
  });
}

/** @param {Desk} desk */
function followSuggestions(desk) {
  return followAnswer(desk.live, ["contacts"], async (server) => {
    const asked = desk.from("open_suggestions").select("*").eq("account_id", desk.account.id).order("created_at", { ascending: false }).limit(100);
    const rows = /** @type {Suggestion[]} */ (await server.ask(asked));
    // of one name, phones and emails tell them apart
    const ids = [...new Set(rows.flatMap((row) => [row.contact_id, row.other_contact_id]))];
    const known = new Map((await server.rows("contacts_v2", ids)).map((contact) => [contact.id, [contact.phone, contact.email].filter(Boolean).join(", ")]));
    return rows.map((row) => ({ ...row, about: known.get(row.contact_id) ?? "", other_about: known.get(row.other_contact_id) ?? "" }));
  });
}

/**
 * A contact in both faces, by what it is known, and what was merged into it.
 *
 * @param {Desk} desk
 * @param {string} id
 */
function followWhole(desk, id) {
  return followAnswer(
    desk.live,
    ["contacts", "conversations", "messages"],
    async (server) => {
      const [faces, chats, identities, unproved, merges] = /** @type {any[][]} */ (
        await Promise.all([
          server.ask(desk.from("contacts_v2").select("*").eq("id", id)),
          server.ask(desk.from("contacts_live_chat").select("*").eq("id", id)),
          server.ask(desk.from("contact_identities").select("kind,value,match_key").eq("contact_id", id).order("created_at")),
          server.rpc("unproved_fields", { contact_id: id }),
          server.ask(desk.from("contact_merges").select("id,dropped_before,merged_at").eq("kept_contact_id", id).is("undone_at", null).order("merged_at", { ascending: false })),
        ])
      );
      /** @type {Whole[]} */
      const whole = faces.map((v2) => ({ id, v2, chat: chats[0] ?? null, identities: identities.map((one) => ({ id: one.match_key, ...one })), unproved: unproved ?? [], merges }));
      return whole;
    },
    { pause: 500 },
  );
}

/**
 * What stands in the form, as columns.
 *
 * @param {(name: string) => string} field
 */
function written(field) {
  const tags = field("tags").split(",").map((tag) => tag.trim()).filter(Boolean);
  return {
    ...Object.fromEntries(FIELDS.map((name) => [name, field(name) || null])),
    tags: [...new Set(tags)],
    notes: field("notes") || null,
    conversation_status: field("conversation_status"),
  };
}

/**
 * What differs of what stands in the form.
 *
 * @param {Partial<ContactV2>} before
 * @param {Record<string, unknown>} now
 * @returns {Record<string, unknown>}
 */
function changesOf(before, now) {
  const differs = (/** @type {string} */ field) => JSON.stringify(now[field] || null) !== JSON.stringify(/** @type {any} */ (before)[field] || null);
  return Object.fromEntries(WRITTEN.filter(differs).map((field) => [field, now[field] || null]));
}

/** @param {{ name?: string | null, profile_name?: string | null, phone?: string | null }} contact */
function nameOf(contact) {
  return contact.name || contact.profile_name || contact.phone || text("inbox.unnamed");
}

/** @param {Record<string, unknown>} evidence */
function evidenceOf(evidence) {
  const values = Object.values(evidence ?? {}).filter((value) => typeof value === "string");
  return values.length ? ` (${values.join(", ")})` : "";
}

customElements.define("contacts-page", ContactsPage);
