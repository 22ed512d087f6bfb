import { html, nothing } from "lit";
import { PageElement } from "./live_element.js";
import { reasonOf, skeleton, trouble } from "./parts.js";
import { text } from "./texts.js";

/** @import { Profile, ProfileSubscription } from "../live/index.js" */

const FIELDS = /** @type {const} */ ([
  ["name", "text", "name"],
  ["phone", "tel", "tel"],
  ["email", "email", "email"],
]);

/**
 * What a customer may change of itself: name, phone, email, and whether to be reminded.
 *
 *     <profile-form .source=${live.profile(customerId)}></profile-form>
 */
export class ProfileForm extends PageElement {
  /** The profile as it was when the customer began to change it: what comes meanwhile takes nothing away. @type {Profile | null} */
  #begun = null;

  /** @override */
  static properties = {
    source: { attribute: false },
    readPhone: { attribute: false },
    isBusy: { state: true },
    isSaved: { state: true },
    refusal: { state: true },
    refused: { state: true },
  };

  constructor() {
    super();
    /** @type {ProfileSubscription | null} */
    this.source = null;
    /** Reads a phone number as it is written at home; throws what is none. @type {((phone: string) => Promise<string>) | null} */
    this.readPhone = null;
    this.isBusy = false;
    this.isSaved = false;
    this.refusal = "";
    /** The field that is wrong. */
    this.refused = "";
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const profile = this.#begun ?? /** @type {Profile | null} */ (shown.profile);
    if (shown.error && !profile) return trouble(text("profile.failed"), shown.error);
    if (!profile) return skeleton(2);
    return html`<form class="profile" @submit=${this.#save} @input=${() => this.#touch(profile)}>
      ${FIELDS.map(
        ([name, type, autocomplete]) =>
          html`<label class="field"
            ><span>${text(`profile.${name}`)}</span
            ><input
              name=${name}
              type=${type}
              autocomplete=${autocomplete}
              maxlength="200"
              ?required=${name === "name"}
              aria-invalid=${this.refused === name ? "true" : "false"}
              aria-describedby=${this.refused === name ? "profile-refusal" : nothing}
              .value=${profile[name] ?? ""}
          /></label>`,
      )}
      <label class="check"
        ><input name="reminders" type="checkbox" .checked=${wantsReminders(profile)} /><span>${text("profile.reminders")}</span></label
      >
      ${this.refusal ? html`<p id="profile-refusal" class="refusal" role="alert">${this.refusal}</p>` : nothing}
      <div class="actions">
        <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("profile.save")}</button>
        <p class="saved" role="status">${this.isSaved ? text("profile.saved") : ""}</p>
      </div>
    </form>`;
  }

  /** @param {Profile} profile */
  #touch(profile) {
    this.#begun ??= profile;
    this.isSaved = false;
  }

  /** @param {SubmitEvent} event */
  async #save(event) {
    event.preventDefault();
    const now = this.source?.getSnapshot().profile;
    const profile = this.#begun ?? now;
    if (!profile) return;
    const form = /** @type {HTMLFormElement} */ (event.target);
    const given = new FormData(form);
    /** @type {Record<string, any>} */
    const changed = {};
    for (const [name] of FIELDS) {
      const value = String(given.get(name) ?? "").trim() || null;
      if (value !== (profile[name] ?? null)) changed[name] = value;
    }
    const wants = given.has("reminders");
    if (wants !== wantsReminders(profile)) changed.preferences = { ...preferencesOf(now ?? profile), wants_reminders: wants };
    this.refusal = this.refused = "";
    this.isBusy = true;
    // what was typed stays while it is on its way, and to be corrected
    this.#begun = profile;
    try {
      if (changed.phone && this.readPhone) {
        const phone = await this.readPhone(changed.phone);
        // shown as it is kept, also where it is the same as before
        /** @type {HTMLInputElement} */ (form.elements.namedItem("phone")).value = changed.phone = phone;
        if (phone === profile.phone) delete changed.phone;
      }
      if (Object.keys(changed).length) await this.source?.edit(changed);
      this.#begun = null;
      this.isSaved = true;
    } catch (error) {
      this.refusal = reasonOf(error);
      this.refused = /** @type {any} */ (error).field ?? "";
      await this.updateComplete;
      /** @type {HTMLElement | null} */ (this.querySelector(`[name="${CSS.escape(this.refused)}"]`))?.focus();
    }
    this.isBusy = false;
  }
}

/** @param {Profile} profile */
function preferencesOf(profile) {
  return /** @type {Record<string, unknown>} */ (profile.preferences ?? {});
}

/** @param {Profile} profile */
function wantsReminders(profile) {
  return preferencesOf(profile).wants_reminders !== false;
}

customElements.define("profile-form", ProfileForm);
