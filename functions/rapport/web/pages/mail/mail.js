import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { dayOf, timeOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { emptiness, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { languageChoice } from "../common/language_choice.js";

/**
 * @typedef {object} Letter
 * @property {number} id
 * @property {string} sent_at
 * @property {"email" | "sms"} channel
 * @property {string} recipient
 * @property {string} subject
 * @property {string} body
 * @property {string | null} code
 * @property {string | null} link
 */

const PAUSE = 2000;

/** What Auth has sent on this machine, instead of mails and SMS. Nothing of it is read as HTML. */
export class MailPage extends PageElement {
  /** @override */
  static properties = { letters: { state: true }, failure: { state: true } };

  constructor() {
    super();
    /** @type {readonly Letter[] | null} */
    this.letters = null;
    /** @type {unknown} */
    this.failure = null;
    this.to = new URLSearchParams(location.search).get("to") ?? "";
  }

  /** @override */
  firstUpdated() {
    document.documentElement.lang = language;
    document.title = `${text("mail.title")} · Rapport`;
    void this.#look();
  }

  /** @override */
  render() {
    const { letters } = this;
    return html`<main class="mail">
      <header class="mail-head">
        <h1>${text("mail.title")}</h1>
        ${languageChoice()}
        <p class="muted">
          ${this.to ? html`${text("mail.to", { to: this.to })} <a class="link" href="./">${text("mail.all")}</a>` : text("mail.lead")}
        </p>
      </header>
      ${this.failure ? trouble(text("mail.failed"), /** @type {any} */ (this.failure)) : nothing}
      ${!letters && !this.failure ? skeleton(3) : nothing}
      ${letters && !letters.length ? emptiness(icons.mail, text("mail.empty"), text("mail.empty.more")) : nothing}
      ${repeat(letters ?? [], ({ id }) => id, (letter) => this.#letter(letter))}
    </main>`;
  }

  /** @param {Letter} letter */
  #letter({ channel, recipient: to, subject, sent_at, body, code, link }) {
    // only our own Auth's
    const isSafe = !!link && URL.parse(link)?.origin === location.origin;
    return html`<article class="card-plain letter">
      <header>
        <h2><bdi>${subject}</bdi></h2>
        <p class="muted"><span>${word("mail.channel", channel)}</span> <bdi>${to}</bdi>, <time datetime=${sent_at}>${dayOf(sent_at)}, ${timeOf(sent_at)}</time></p>
      </header>
      <pre><bdi>${body}</bdi></pre>
      ${isSafe || code
        ? html`<div class="actions">
            ${isSafe ? html`<a class="button button-main" href=${link} rel="noreferrer">${text("mail.follow")}</a>` : nothing}
            ${code ? html`<span><span class="muted">${text("mail.code")}</span> <strong class="letter-code">${code}</strong></span>` : nothing}
          </div>`
        : nothing}
    </article>`;
  }

  async #look() {
    try {
      const query = this.to ? `?${new URLSearchParams({ to: this.to })}` : "";
      const answer = await fetch(`../_mail/messages${query}`);
      if (!answer.ok) throw new Error(await answer.text());
      this.letters = (await answer.json()).messages;
      this.failure = null;
    } catch (error) {
      this.failure = error;
    }
    setTimeout(() => this.#look(), document.hidden ? PAUSE * 5 : PAUSE);
  }
}

customElements.define("mail-page", MailPage);
