import { html, nothing } from "lit";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { avatar } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Login } from "./config.js" */

/** Signing in by email and password; on a project for trying it out, by one click. */
export class SignIn extends PageElement {
  /** @override */
  static properties = {
    supabase: { attribute: false },
    logins: { attribute: false },
    heading: {},
    lead: {},
    isBusy: { state: true },
    refusal: { state: true },
  };

  constructor() {
    super();
    /** @type {SupabaseClient | null} */
    this.supabase = null;
    /** @type {readonly Login[]} */
    this.logins = [];
    this.heading = "";
    this.lead = "";
    this.isBusy = false;
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
          <label class="field"><span>${text("sign.email")}</span><input name="email" type="email" autocomplete="username" required /></label>
          <label class="field"
            ><span>${text("sign.password")}</span><input name="password" type="password" autocomplete="current-password" required
          /></label>
          ${this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing}
          <button type="submit" class="button button-main button-wide" ?disabled=${this.isBusy}>
            ${this.isBusy ? text("sign.busy") : text("sign.in")}
          </button>
        </form>
        ${this.logins.length
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
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
    void this.#enter(String(fields.get("email")), String(fields.get("password")));
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
      this.refusal = error.code === "invalid_credentials" ? text("sign.wrong") : text("sign.failed", { reason: error.message });
    }
    this.isBusy = false;
  }
}

customElements.define("sign-in", SignIn);
