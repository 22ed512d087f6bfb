import { html, nothing } from "lit";
import "@rapport/live/elements/conversation_view.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { avatar, reasonOf, ticks, trouble } from "@rapport/live/elements/parts.js";
import { language, loadTexts, text } from "@rapport/live/elements/texts.js";
import { readConfig } from "../common/config.js";
import { languageChoice } from "../common/language_choice.js";
import { PhoneChat } from "./phone_chat.js";

/** @import { Phone } from "../common/config.js" */

await loadTexts("customers");

const CHAT = { customerId: "phone" };

/** A customer's phone on this machine, by the stand-in for WhatsApp. */
export class PhonePage extends PageElement {
  /** @override */
  static properties = { phones: { state: true }, phone: { state: true }, failure: { state: true } };

  constructor() {
    super();
    /** @type {readonly Phone[]} */
    this.phones = [];
    /** @type {Phone | null} */
    this.phone = null;
    /** @type {PhoneChat | null} */
    this.chat = null;
    this.failure = "";
  }

  /** @override */
  firstUpdated() {
    document.documentElement.lang = language;
    document.title = `${text("phone.title")} · Rapport`;
    void this.#begin();
  }

  /** @override */
  render() {
    if (this.failure) return html`<main class="whole">${trouble(text("page.failed"), { message: this.failure })}</main>`;
    if (!this.phone) return html`<main class="whole"><p class="muted" role="status">${text("page.loading")}</p></main>`;
    this.look("chat", this.chat);
    const { name, business } = this.phone;
    return html`<main class="phone-page">
      <div class="phone-about">
        <h1>${text("phone.title")}</h1>
        <label class="field"
          ><span>${text("phone.who")}</span
          ><select @change=${this.#choose}>
            ${this.phones.map((phone, index) => html`<option value=${index} ?selected=${phone === this.phone}>${text("phone.choice", phone)}</option>`)}
          </select></label
        >
        <p class="muted">${text("phone.local")}</p>
        <dl class="phone-ticks">
          <div><dt>${ticks("delivered")}</dt><dd class="muted">${text("phone.delivered")}</dd></div>
          <div><dt>${ticks("read")}</dt><dd class="muted">${text("phone.read")}</dd></div>
        </dl>
        <p class="muted">${text("phone.reads")}</p>
        ${languageChoice()}
      </div>
      <section class="phone" aria-label=${text("phone.to", { name, business })}>
        <header class="phone-head">
          ${avatar(business)}
          <div class="chat-who"><h2><bdi>${business}</bdi></h2><p>${text("phone.online")}</p></div>
        </header>
        ${this.chat?.isAway ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${text("phone.away")}</p>` : nothing}
        <conversation-view .source=${this.chat} .outbox=${this.chat} .chat=${CHAT} side="client" .label=${business} .canAnswer=${false}></conversation-view>
      </section>
    </main>`;
  }

  async #begin() {
    try {
      this.phones = (await readConfig()).phones ?? [];
      if (!this.phones.length) throw new Error(text("phone.local"));
      const kept = Number(sessionStorage.getItem("rapport-phone") ?? 0);
      this.#show(this.phones[kept] ?? this.phones[0]);
    } catch (error) {
      this.failure = reasonOf(error);
    }
  }

  /** @param {Event} event */
  #choose(event) {
    const index = Number(/** @type {HTMLSelectElement} */ (event.target).value);
    sessionStorage.setItem("rapport-phone", String(index));
    this.#show(this.phones[index]);
  }

  /** @param {Phone} phone */
  #show(phone) {
    this.chat?.close();
    this.chat = new PhoneChat(phone);
    this.phone = phone;
  }
}

customElements.define("phone-page", PhonePage);
