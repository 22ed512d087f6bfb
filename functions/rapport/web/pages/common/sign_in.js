import { html, nothing } from "lit";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { avatar, reasonOf } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Login } from "./config.js" */

/** What an address without a login is answered with. */
const UNKNOWN = new Set(["otp_disabled", "signup_disabled", "user_not_found"]);

/** Whether somebody comes by the link of an invitation, who may have no login yet. */
const isInvited = () => new URLSearchParams(location.search).has("invitation");

/** Signing in by email and password, or by a link in a mail; on a project for trying it out, by one click. */
export class SignIn extends PageElement {
  /** @override */
  static properties = {
    supabase: { attribute: false },
    logins: { attribute: false },
    heading: {},
    lead: {},
    prefersLink: { attribute: false },
    email: {},
    isBusy: { state: true },
    isSent: { state: true },
    refusal: {},
  };

  constructor() {
    super();
    /** @type {SupabaseClient | null} */
    this.supabase = null;
    /** @type {readonly Login[]} */
    this.logins = [];
    this.heading = "";
    this.lead = "";
    /** Whether a link in a mail is offered before a password. */
    this.prefersLink = false;
    /** The address that is known already. */
    this.email = "";
    this.isBusy = false;
    /** The address to which a link is on its way. */
    this.isSent = "";
    this.refusal = "";
  }

  /** @override */
  render() {
    return html`<main class="sign">
      <div class="sign-card">
        <p class="brand">Rapport</p>
        <h1>${this.heading}</h1>
        <p class="muted">${this.lead}</p>
        <form @submit=${this.#submit}>
          ${this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing}
          <label class="field"><span>${text("sign.email")}</span><input name="email" type="email" autocomplete="username" required value=${this.email} /></label>
          ${this.prefersLink
            ? nothing
            : html`<label class="field"
                ><span>${text("sign.password")}</span><input name="password" type="password" autocomplete="current-password" required
              /></label>`}
          ${this.prefersLink
            ? html`<button type="submit" class="button button-main button-wide" ?disabled=${this.isBusy}>${icons.mail}${text("sign.mail")}</button>
                <button type="button" class="button button-wide" ?disabled=${this.isBusy} @click=${() => (this.prefersLink = false)}>${text("sign.by-password")}</button>`
            : html`<button type="submit" class="button button-main button-wide" ?disabled=${this.isBusy}>
                  ${this.isBusy ? text("sign.busy") : text("sign.in")}
                </button>
                <button type="button" class="button button-wide" ?disabled=${this.isBusy} @click=${this.#sendLink}>${icons.mail}${text("sign.mail")}</button>`}
          <p class="sign-sent" role="status">
            ${this.isSent
              ? html`${text(isInvited() ? "sign.sent.invited" : "sign.sent", { email: this.isSent })}
                ${this.logins.length
                  ? html`<a class="link" href="../mail/?to=${encodeURIComponent(this.isSent)}" target="rapport-mail">${text("sign.mails")}</a>`
                  : nothing}`
              : nothing}
          </p>
        </form>
        ${this.logins.length && !this.prefersLink
          ? html`<h2 class="sign-try">${text("sign.try")}</h2>
              <ul class="sign-logins">
                ${this.logins.map((login) => html`<li>${this.#login(login)}</li>`)}
              </ul>`
          : nothing}
      </div>
    </main>`;
  }

  /** @param {Login} login */
  #login(login) {
    const name = login.email.split("@")[0].replace(/^./, (letter) => letter.toUpperCase());
    return html`<button type="button" class="sign-login" ?disabled=${this.isBusy} @click=${() => this.#enter(login.email, login.password)}>
      ${avatar(name)}
      <span><strong>${name}</strong><span class="muted">${word("role", login.role)}, ${login.account}</span></span>
    </button>`;
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    if (this.prefersLink) return void this.#sendLink();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
    void this.#enter(String(fields.get("email")), String(fields.get("password")));
  }

  /** Has a link be sent to the address. Whether it is known is told by no word, but to those who were invited. */
  async #sendLink() {
    const field = /** @type {HTMLInputElement} */ (this.querySelector("[name=email]"));
    if (!this.supabase || !field.reportValidity()) return;
    this.isBusy = true;
    this.isSent = this.refusal = "";
    const { origin, pathname, search } = location;
    const { error } = await this.supabase.auth.signInWithOtp({
      email: field.value,
      options: {
        emailRedirectTo: `${origin}${pathname}${search}`,
        shouldCreateUser: isInvited(),
        data: { language },
      },
    });
    const isUnknown = UNKNOWN.has(error?.code ?? "");
    if (isUnknown && isInvited()) this.refusal = text("sign.closed", { email: field.value });
    else if (!error || isUnknown) this.isSent = field.value;
    else this.refusal = text("sign.failed", { reason: reasonOf(error) });
    this.isBusy = false;
  }

  /**
   * @param {string} email
   * @param {string} password
   */
  async #enter(email, password) {
    if (!this.supabase) return;
    this.isBusy = true;
    this.refusal = "";
    const { error } = await this.supabase.auth.signInWithPassword({ email, password });
    if (error) {
      this.refusal = error.code === "invalid_credentials" ? text("sign.wrong") : text("sign.failed", { reason: reasonOf(error) });
    }
    this.isBusy = false;
  }
}

customElements.define("sign-in", SignIn);
