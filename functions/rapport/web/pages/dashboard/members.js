import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { personId } from "@rapport/live";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { dateOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { avatar, pill, reasonOf, skeleton } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { SectionPage, fieldsOf } from "./section_page.js";

/** @import { Desk, Member } from "./desk.js" */
/** @import { LiveError } from "../../live/errors.js" */

const ROLES = /** @type {const} */ (["owner", "admin", "agent", "viewer"]);
// ms: members come without a broadcast
const LOOKS = 5000;

/** @typedef {{ email: string, role: Member["role"], display_name: string, invited_by: string, expires_at: string }} Invitation */
/** @typedef {Omit<Member, "person_id"> & { created_at: string }} Shown */

/** The people who work for the account. Its owners invite others, change roles and remove people. */
export class MembersPart extends SectionPage {
  /** @override */
  static properties = {
    ...SectionPage.properties,
    members: { state: true },
    invitations: { state: true },
    removing: { state: true },
    link: { state: true },
    fault: { state: true },
  };

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  /** How often it has looked: the last answer counts. */
  #looks = 0;

  constructor() {
    super();
    /** @type {readonly Shown[] | null} */
    this.members = null;
    /** @type {readonly Invitation[]} */
    this.invitations = [];
    /** Who is about to be removed. */
    this.removing = "";
    /** The invitation that was made last: only its answer has the link. @type {{ email: string, href: string, until: string } | null} */
    this.link = null;
    /** What was refused of a field. @type {{ field: string, reason: string } | null} */
    this.fault = null;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  updated(changed) {
    if (changed.has("desk")) this.#look();
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    document.removeEventListener("visibilitychange", this.#look);
    clearTimeout(this.#next);
  }

  /** @override */
  render() {
    const { desk, members } = this;
    if (!desk) return nothing;
    const isOwner = desk.me?.role === "owner";
    return html`<p class="muted">${text(isOwner ? "members.lead" : "members.readers")}</p>
      ${this.told()}
      ${members
        ? html`<ul class="cards members">
            ${repeat(members, ({ user_id }) => user_id, (member) => html`<li class="card">${this.#member(desk, member, isOwner)}</li>`)}
          </ul>`
        : skeleton(3)}
      ${isOwner ? html`${this.#inviting(desk)} ${this.#open(desk)}` : nothing}`;
  }

  /**
   * @param {Desk} desk
   * @param {Shown} member
   * @param {boolean} isOwner
   */
  #member(desk, { user_id, display_name: name, role, created_at }, isOwner) {
    const isMe = user_id === desk.userId;
    return html`${avatar(name, user_id)}
      <div class="card-words">
        <p class="card-title"><bdi>${name}</bdi>${isMe ? html` <span class="muted">(${text("desk.you")})</span>` : nothing}</p>
        <p class="muted">${text("members.since", { day: dateOf(created_at) })}</p>
        ${this.removing === user_id
          ? html`<p>${text("members.remove.sure", { name })}</p>
              <p class="actions">
                <button type="button" class="button button-bad" ?disabled=${this.isBusy} @click=${() => this.#remove(desk, user_id)}>${text("members.remove")}</button>
                <button type="button" class="button" @click=${() => (this.removing = "")}>${text("desk.back")}</button>
              </p>`
          : nothing}
      </div>
      ${isOwner
        ? html`<label class="field-inline"
              ><span class="hidden">${text("members.role.of", { name })}</span
              ><select ?disabled=${this.isBusy} @change=${(/** @type {Event} */ event) => this.#change(desk, user_id, event)}>
                ${ROLES.map((one) => html`<option value=${one} .selected=${one === role}>${word("members.role", one)}</option>`)}
              </select></label
            >
            <button type="button" class="button-icon" aria-label=${text("members.remove.this", { name })} title=${text("members.remove.this", { name })} @click=${() => (this.removing = user_id)}>
              ${deskIcons.trash}
            </button>`
        : pill(word("members.role", role), "calm")}`;
  }

  /** @param {Desk} desk */
  #inviting(desk) {
    const { link } = this;
    return html`<section class="section-part" aria-labelledby="invite-title">
      <h2 id="invite-title">${text("members.invite")}</h2>
      <form class="form card-plain" novalidate @submit=${(/** @type {SubmitEvent} */ event) => this.#invite(desk, event)}>
        <div class="form-row form-row-wide">
          ${this.#field("email", html`<input id="invite-email" name="email" type="email" autocomplete="off" maxlength="255" aria-invalid=${this.#isWrong("email")} aria-describedby="fault-email" />`)}
          ${this.#field("display_name", html`<input id="invite-display_name" name="display_name" autocomplete="off" maxlength="200" aria-invalid=${this.#isWrong("display_name")} aria-describedby="fault-display_name" />`)}
          ${this.#field(
            "role",
            html`<select id="invite-role" name="role" aria-invalid=${this.#isWrong("role")} aria-describedby="fault-role">
              ${ROLES.map((role) => html`<option value=${role} ?selected=${role === "agent"}>${word("members.role", role)}</option>`)}
            </select>`,
          )}
        </div>
        <p class="muted">${text("members.roles")}</p>
        <p class="actions"><button type="submit" class="button button-main" ?disabled=${this.isBusy}>${icons.plus}${text("members.invite.do")}</button></p>
      </form>
      ${link
        ? html`<div class="card-plain form" role="status">
            <p>${text("members.link", { email: link.email, time: dateOf(link.until) })}</p>
            <label class="field"><span class="hidden">${text("contact.portal.copy")}</span><input class="invitation" readonly .value=${link.href} @focus=${(/** @type {Event} */ event) => /** @type {HTMLInputElement} */ (event.target).select()} /></label>
            <p class="actions">
              <button type="button" class="button" @click=${this.#copy}>${deskIcons.link}${text("contact.portal.copy")}</button>
              <a class="button" href=${this.#mail(desk, link)}>${icons.mail}${text("members.mail")}</a>
            </p>
          </div>`
        : nothing}
    </section>`;
  }

  /**
   * @param {"email" | "display_name" | "role"} name
   * @param {unknown} input
   */
  #field(name, input) {
    // what was refused is no part of the field's name
    return html`<div class="field">
      <label for="invite-${name}">${text(`members.field.${name}`)}</label>${input}
      <span class="field-fault" id="fault-${name}">${this.fault?.field === name ? this.fault.reason : nothing}</span>
    </div>`;
  }

  /** @param {string} name */
  #isWrong(name) {
    return this.fault?.field === name ? "true" : "false";
  }

  /** @param {Desk} desk */
  #open(desk) {
    if (!this.invitations.length) return nothing;
    return html`<section class="section-part" aria-labelledby="invited-title">
      <h2 id="invited-title">${text("members.invited")}</h2>
      <ul class="cards">
        ${repeat(this.invitations, ({ email }) => email, ({ email, role, invited_by, expires_at }) => {
          const isOver = Date.parse(expires_at) <= Date.now();
          return html`<li class="card reply-row">
            <div class="card-words">
              <p class="card-title"><bdi>${email}</bdi></p>
              <p class="muted">${text("members.invited.by", { role: word("members.role", role), name: invited_by })}</p>
            </div>
            ${pill(text(isOver ? "members.over" : "members.until", { day: dateOf(expires_at) }), isOver ? "warn" : "calm")}
            <p class="actions">
              <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#renew(desk, email)}>${text("members.renew")}</button>
              <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#withdraw(desk, email)}>${text("members.withdraw")}</button>
            </p>
          </li>`;
        })}
      </ul>
    </section>`;
  }

  #look = async () => {
    clearTimeout(this.#next);
    const { desk } = this;
    if (!desk || !this.isConnected || document.hidden) return;
    const look = ++this.#looks;
    const { id } = desk.account;
    try {
      const asked = desk.from("account_members").select("user_id,role,display_name,created_at").eq("account_id", id).order("display_name").order("user_id");
      const members = /** @type {Shown[]} */ (await desk.ask(asked));
      const isOwner = members.some(({ user_id, role }) => user_id === desk.userId && role === "owner");
      const invitations = isOwner ? await desk.call("open_member_invitations", { account_id: id }) : [];
      if (look !== this.#looks || desk !== this.desk) return;
      desk.members = await Promise.all(members.map(async (member) => ({ ...member, person_id: await personId(member.user_id) })));
      this.members = members;
      this.invitations = invitations;
    } catch (error) {
      // what is shown stays until the next look
      if (!this.members) this.refusal = reasonOf(error);
    }
    if (look === this.#looks && this.isConnected) this.#next = setTimeout(this.#look, LOOKS);
  };

  /**
   * @param {Desk} desk
   * @param {SubmitEvent} event
   */
  async #invite(desk, event) {
    const form = /** @type {HTMLFormElement} */ (event.target);
    const field = fieldsOf(event);
    const given = { email: field("email"), role: field("role"), display_name: field("display_name") || null };
    if (await this.#make(desk, given)) form.reset();
    else if (this.fault) /** @type {HTMLElement | null} */ (form.elements.namedItem(this.fault.field))?.focus();
  }

  /**
   * Makes an invitation, and shows its link.
   *
   * @param {Desk} desk
   * @param {{ email: string, role: string, display_name: string | null }} given
   */
  async #make(desk, given) {
    this.fault = this.link = null;
    const isDone = await this.try(async () => {
      try {
        const { token, expires_at } = await desk.call("invite_member", { account_id: desk.account.id, ...given });
        const way = new URL(location.pathname, location.href);
        way.search = new URLSearchParams({ invitation: token, email: given.email }).toString();
        this.link = { email: given.email, href: way.href, until: expires_at };
      } catch (error) {
        const { field = "" } = /** @type {LiveError} */ (error);
        if (!["email", "role", "display_name"].includes(field)) throw error;
        this.fault = { field, reason: reasonOf(error) };
      }
    });
    await this.#look();
    return isDone && !this.fault;
  }

  /** A new link in place of the earlier one. @param {Desk} desk @param {string} email */
  async #renew(desk, email) {
    const found = this.invitations.find((one) => one.email === email);
    if (found) await this.#make(desk, { email, role: found.role, display_name: found.display_name });
  }

  /** @param {Desk} desk @param {string} email */
  async #withdraw(desk, email) {
    if (this.link?.email === email) this.link = null;
    await this.try(() => desk.call("revoke_member_invitation", { account_id: desk.account.id, email }), text("members.withdrawn"));
    await this.#look();
  }

  /**
   * @param {Desk} desk
   * @param {string} user_id
   * @param {Event} event
   */
  async #change(desk, user_id, event) {
    const select = /** @type {HTMLSelectElement} */ (event.target);
    const isDone = await this.try(() => desk.call("change_member", { account_id: desk.account.id, user_id, role: select.value }), text("desk.saved"));
    // what was refused is not shown as if it were so
    if (!isDone) select.value = this.members?.find((one) => one.user_id === user_id)?.role ?? select.value;
    await this.#look();
  }

  /** @param {Desk} desk @param {string} user_id */
  async #remove(desk, user_id) {
    this.removing = "";
    const isDone = await this.try(() => desk.call("remove_member", { account_id: desk.account.id, user_id }), text("members.removed"));
    // who has left sees nothing more
    if (isDone && user_id === desk.userId) return location.reload();
    await this.#look();
  }

  async #copy() {
    await this.try(() => navigator.clipboard.writeText(this.link?.href ?? ""), text("contact.portal.copied"));
  }

  /**
   * A letter that the user's own program sends.
   *
   * @param {Desk} desk
   * @param {{ email: string, href: string, until: string }} link
   */
  #mail(desk, { email, href, until }) {
    const about = { name: desk.me?.display_name ?? "", business: desk.account.name, link: href, time: dateOf(until) };
    const subject = text("members.mail.subject", about);
    const body = text("members.mail.body", about);
    return `mailto:${encodeURIComponent(email)}?subject=${encodeURIComponent(subject)}&body=${encodeURIComponent(body)}`;
  }
}

customElements.define("members-part", MembersPart);
