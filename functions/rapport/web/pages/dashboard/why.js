import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { icons } from "@rapport/live/elements/icons.js";
import { pill, skeleton } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { SectionPage, fieldsOf } from "./section_page.js";

/** @import { Database } from "../../database.types.js" */
/** @import { Desk } from "./desk.js" */

/** @typedef {Database["public"]["Functions"]["why_not_shown"]["Returns"]} Answer */
/** @typedef {Answer["steps"][number]} Step */

/** Facts that name something, by what they are called. */
const ID = /(_ids?|^key|^topics|^merged_into)$/;

/** Why something does not show: the first broken step on top, and all steps in their order. */
export class WhyPage extends SectionPage {
  /** @override */
  static properties = { ...SectionPage.properties, answer: { state: true } };

  /** Counts the questions: the answer to an earlier one is not shown. */
  #asked = 0;
  /** Those who may see it: staff and the customer. @type {readonly { user_id: string, name: string }[]} */
  #readers = [];

  constructor() {
    super();
    /** @type {Answer | null} */
    this.answer = null;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (this.desk && (changed.has("desk") || changed.has("path"))) void this.#ask(this.desk, null);
  }

  /** @override */
  render() {
    const { desk, answer } = this;
    if (!desk) return nothing;
    return html`<div class="section-page">
      <header class="section-head">
        <p><a class="link" href="#/health">${text("why.back")}</a></p>
        <h1>${text("why.title")}</h1>
        <p class="muted">${text("why.lead")}</p>
      </header>
      ${whyForm(referenceOf(this.path), () => this.#ask(desk, null))} ${this.told()}
      <div aria-live="polite">${answer ? this.#top(answer) : nothing}</div>
      ${answer
        ? html`${this.#readers.length ? this.#logins(desk) : nothing}
            <ol class="why-steps">
              ${answer.steps.map((step) => this.#step(step))}
            </ol>`
        : this.refusal || !this.path
          ? nothing
          : skeleton(5)}
    </div>`;
  }

  /** @param {Answer} answer */
  #top(answer) {
    return html`<section class="card why-top ${answer.broken ? "why-broken" : "why-fine"}" aria-label=${text(answer.broken ? "why.first" : "why.title")}>
        ${answer.broken ? icons.warning : deskIcons.check}
        <div class="card-words">
          <p class="card-title"><bdi>${answer.words}</bdi></p>
          ${answer.remedy ? html`<p class="health-remedy">${answer.remedy}</p>` : nothing}
          ${answer.time_zone === Intl.DateTimeFormat().resolvedOptions().timeZone
            ? nothing
            : html`<p class="muted">${text("why.zone", { zone: answer.time_zone })}</p>`}
          ${answer.match === null ? nothing : html`<p data-match=${answer.match}>${pill(text(answer.match ? "why.match" : "why.no-match"), answer.match ? "good" : "bad")}</p>`}
        </div>
      </section>`;
  }

  /** @param {Desk} desk */
  #logins(desk) {
    return html`<form class="form-row" @change=${(/** @type {Event} */ event) => this.#ask(desk, /** @type {HTMLSelectElement} */ (event.target).value || null)}>
        <label class="field"
          ><span>${text("why.login")}</span
          ><select name="login">
            <option value="">${text("why.everybody")}</option>
            ${this.#readers.map(({ user_id, name }) => html`<option value=${user_id}>${name}</option>`)}
          </select></label
        >
      </form>`;
  }

  /** @param {Step} step */
  #step({ step, ok, words, remedy, facts }) {
    const state = ok === null ? "unknown" : ok ? "fine" : "broken";
    const drawing = { unknown: html`<span class="why-mark">?</span>`, fine: deskIcons.check, broken: icons.warning }[state];
    const known = Object.entries(facts).filter(([name, fact]) => ID.test(name) || typeof fact !== "object");
    return html`<li class="why-step why-${state}">
      <span class="why-sign" aria-hidden="true">${drawing}</span>
      <div class="card-words">
        <p class="why-name">${word("why.step", step)}<span class="hidden">: ${text(`why.${state}`)}</span></p>
        <p><bdi>${words}</bdi></p>
        ${remedy ? html`<p class="health-remedy">${remedy}</p>` : nothing}
        ${known.length
          ? html`<details class="why-facts">
              <summary>${text("why.facts")}<span class="hidden"> (${word("why.step", step)})</span></summary>
              <dl class="facts">${known.map(([name, fact]) => this.#fact(name, fact))}</dl>
            </details>`
          : nothing}
      </div>
    </li>`;
  }

  /**
   * What a step says of something, for who has to name it elsewhere: an id can be copied.
   *
   * @param {string} name
   * @param {unknown} fact
   */
  #fact(name, fact) {
    const label = word("why.fact", name);
    const words = Array.isArray(fact) ? fact.join(", ") : String(fact);
    const copy = () => this.try(() => navigator.clipboard.writeText(words), text("contact.portal.copied"));
    return html`<div>
      <dt>${label === name ? name.replaceAll("_", " ") : label}</dt>
      <dd>
        <code><bdi>${words}</bdi></code>
        ${ID.test(name)
          ? html`<button type="button" class="button-icon" aria-label=${text("why.copy", { name: label })} title=${text("why.copy", { name: label })} @click=${copy}>${deskIcons.copy}</button>`
          : nothing}
      </dd>
    </div>`;
  }

  /**
   * @param {Desk} desk
   * @param {string | null} login whether this one may see it; null for everybody
   */
  async #ask(desk, login) {
    const reference = referenceOf(this.path);
    const asked = ++this.#asked;
    if (login === null) {
      this.answer = null;
      this.#readers = [];
    }
    if (!reference) return;
    await this.try(async () => {
      const answer = await desk.call("why_not_shown", { reference, account_id: desk.account.id, login, language });
      if (asked !== this.#asked) return;
      this.answer = answer;
      if (login === null) this.#readers = answer.steps.find((/** @type {Step} */ { step }) => step === "access")?.facts.people ?? [];
    });
  }
}

/**
 * What asks why something does not show.
 *
 * @param {string} [reference] that is asked about already
 * @param {() => unknown} [askAgain]
 */
export function whyForm(reference = "", askAgain = () => {}) {
  /** @param {SubmitEvent} event */
  const ask = (event) => {
    const wanted = fieldsOf(event)("reference");
    if (wanted === reference) askAgain();
    else location.hash = wayToWhy(wanted);
  };
  return html`<form class="inline why-form" @submit=${ask}>
    <label class="field"
      ><span>${text("why.reference")}</span
      ><input name="reference" required maxlength="512" autocomplete="off" spellcheck="false" .value=${reference} /></label
    >
    <p class="muted">${text("why.reference.more")}</p>
    <div class="actions"><button type="submit" class="button">${icons.search}${text("why.ask")}</button></div>
  </form>`;
}

/** The way to the answer about an id or a number. @param {string} reference */
export function wayToWhy(reference) {
  return `#/health/why/${encodeURIComponent(reference)}`;
}

/** @param {string} path */
function referenceOf(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    // a stray percent sign
    return path;
  }
}

customElements.define("why-page", WhyPage);
