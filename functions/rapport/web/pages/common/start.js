import { html, nothing } from "lit";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { languageChoice } from "./app_page.js";
import { readConfig } from "./config.js";

/** @import { Login } from "./config.js" */

const PAGES = /** @type {const} */ ([
  ["phone", icons.phone],
  ["dashboard", icons.chat],
  ["portal", icons.person],
]);

/** The first page: the three others, and who may sign in. */
export class StartPage extends PageElement {
  /** @override */
  static properties = { logins: { state: true } };

  constructor() {
    super();
    /** @type {readonly Login[]} */
    this.logins = [];
  }

  /** @override */
  async firstUpdated() {
    document.documentElement.lang = language;
    const { logins = [] } = await readConfig();
    this.logins = logins;
  }

  /** @override */
  render() {
    return html`<main class="start">
      <header class="start-head">
        <h1>${text("start.title")}</h1>
        <p class="start-lead">${text("start.lead")}</p>
        <p class="muted">${text("start.how")}</p>
      </header>
      <ul class="doors">
        ${PAGES.map(
          ([page, drawing]) => html`<li>
            <a class="door door-${page}" href="${page}/" target="rapport-${page}">
              <span class="door-icon">${drawing}</span>
              <strong>${text(`${page}.title`)}</strong>
              <span class="muted">${text(`start.${page}`)}</span>
            </a>
          </li>`,
        )}
      </ul>
      ${this.logins.length
        ? html`<section aria-labelledby="logins-title">
            <h2 id="logins-title">${text("start.logins")}</h2>
            <p class="muted">${text("start.password", { password: this.logins[0].password })}</p>
            <ul class="logins">
              ${this.logins.map(
                (login) => html`<li>
                  <code>${login.email}</code><span>${word("role", login.role)}</span><span class="muted">${login.account}</span>
                </li>`,
              )}
            </ul>
          </section>`
        : nothing}
      ${languageChoice()}
    </main>`;
  }
}

customElements.define("start-page", StartPage);
