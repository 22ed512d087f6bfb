import { html, nothing } from "lit";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { reasonOf, trouble } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { readConfig } from "./config.js";
import { languageChoice } from "./language_choice.js";

/** @import { Config, Login } from "./config.js" */

const PAGES = /** @type {const} */ ([
  ["phone", icons.phone],
  ["dashboard", icons.chat],
  ["portal", icons.person],
]);
const STEPS = /** @type {const} */ (["start.try.1", "start.try.2", "start.try.3", "start.try.4"]);

/** The first page: the three others with their logins, what to try, and where else to look. */
export class StartPage extends PageElement {
  /** @override */
  static properties = { config: { state: true }, failure: { state: true } };

  constructor() {
    super();
    /** @type {Config | null} */
    this.config = null;
    this.failure = "";
  }

  /** @override */
  async firstUpdated() {
    document.documentElement.lang = language;
    try {
      this.config = await readConfig();
    } catch (error) {
      this.failure = reasonOf(error);
    }
  }

  /** @override */
  render() {
    if (this.failure) return html`<main class="whole">${trouble(text("page.failed"), { message: this.failure })}</main>`;
    const { config } = this;
    const logins = config?.logins ?? [];
    // the phone is a customer's on this machine
    const pages = PAGES.filter(([page]) => page !== "phone" || !config || config.phones?.length);
    return html`<main class="start">
      <header class="start-head">
        <h1>${text("start.title")}</h1>
        <p class="start-lead">${text("start.lead")}</p>
      </header>
      <ul class="doors">
        ${pages.map(
          ([page, drawing]) => html`<li>
            <a class="door door-${page}" href="${page}/" target="rapport-${page}">
              <span class="door-icon">${drawing}</span>
              <strong>${text(`${page}.title`)}</strong>
              <span class="muted">${text(`start.${page}`)}</span>
              ${loginsOf(page, logins)}
            </a>
          </li>`,
        )}
      </ul>
      ${config && logins.length ? this.#more(config, logins) : nothing} ${languageChoice()}
    </main>`;
  }

  /**
   * What there is for trying it out.
   *
   * @param {Config} config
   * @param {readonly Login[]} logins
   */
  #more(config, logins) {
    const url = config.url;
    const login = logins.find(({ role }) => role === "agent") ?? logins[0];
    const commands = [
      `TOKEN=$(curl -s "${url}/auth/v1/token?grant_type=password" -H "apikey: ${config.publishable_key}" \\`,
      `  -d '{"email": "${login.email}", "password": "${login.password}"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')`,
      `curl "${url}/rest/v1/contacts_v2?select=name,phone" -H "apikey: ${config.publishable_key}" -H "Authorization: Bearer $TOKEN"`,
      `curl ${url}/rest/v1/ -H "apikey: ${config.publishable_key}" -H "Authorization: Bearer $TOKEN"`,
    ];
    return html`<section aria-labelledby="try-title">
        <h2 id="try-title">${text("start.try")}</h2>
        <ol class="start-steps">
          ${STEPS.map((step) => html`<li>${text(step)}</li>`)}
        </ol>
      </section>
      <section aria-labelledby="logins-title">
        <h2 id="logins-title">${text("start.logins")}</h2>
        <p class="muted">${text("start.password", { password: logins[0].password })}</p>
        <ul class="logins">
          ${logins.map(
            (one) => html`<li><code>${one.email}</code><span>${word("role", one.role)}</span><span class="muted">${one.account}</span></li>`,
          )}
        </ul>
      </section>
      <section aria-labelledby="more-title">
        <h2 id="more-title">${text("start.more")}</h2>
        <ul class="start-links">
          <li><a class="link" href="mail/" target="rapport-mail">${text("mail.title")}</a> <span class="muted">${text("start.mail")}</span></li>
          <li><a class="link" href="api/" target="rapport-api">HTTP API</a></li>
          <li>
            <details>
              <summary>${text("start.api")}</summary>
              <p class="muted">${text("start.api.how")}</p>
              <pre class="commands" tabindex="0">${commands.join("\n")}</pre>
            </details>
          </li>
        </ul>
      </section>`;
  }
}

/**
 * Who may come in by a door.
 *
 * @param {typeof PAGES[number][0]} page
 * @param {readonly Login[]} logins
 */
function loginsOf(page, logins) {
  const names = logins
    .filter(({ role }) => page !== "phone" && (role === "customer") === (page === "portal"))
    .map(({ email }) => email.split("@")[0].replace(/^./, (letter) => letter.toUpperCase()));
  return names.length ? html`<span class="door-logins muted">${text("start.as", { names: names.join(", ") })}</span>` : nothing;
}

customElements.define("start-page", StartPage);
