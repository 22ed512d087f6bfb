import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { appointmentTime } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { emptiness, pill, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { followAnswer } from "./follow.js";
import { healthWords } from "./health_words.js";
import { SectionPage } from "./section_page.js";
import { whyForm } from "./why.js";

/** @import { Tables } from "../../database.types.js" */
/** @import { Desk } from "./desk.js" */

/** @typedef {Readonly<Tables<"account_health">>} Trouble */

// of the address, before what is asked about
const WHY = "why/";

/** What is wrong with the account at the moment, and what to do: live. */
export class HealthPage extends SectionPage {
  /** The numbers that are stopped. @type {ReturnType<typeof followStopped> | null} */
  #stopped = null;

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (!this.desk || !changed.has("desk")) return;
    this.#stopped?.close();
    this.#stopped = followStopped(this.desk);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#stopped?.close();
    this.#stopped = null;
  }

  /** @override */
  render() {
    const { desk } = this;
    const shown = this.look("health", desk?.health);
    if (!desk || !shown) return nothing;
    if (this.path.startsWith(WHY) && desk.isAdmin) return html`<why-page .desk=${desk} .path=${this.path.slice(WHY.length)}></why-page>`;
    const rows = shown.rows.filter(({ account_id }) => account_id === desk.account.id);
    return html`<div class="section-page">
      <header class="section-head"><h1>${text("desk.health")}</h1><p class="muted">${text("health.lead")}</p></header>
      ${this.told()}
      ${shown.error && !rows.length ? trouble(text("health.failed"), shown.error) : nothing}
      ${!shown.error && !shown.isLoaded ? skeleton(3) : nothing}
      ${!shown.error && shown.isLoaded && !rows.length ? emptiness(deskIcons.check, text("health.fine"), text("health.fine.more")) : nothing}
      <ul class="cards" aria-live="polite">
        ${rows.map(
          (row) => html`<li class="card health-row">
            <span class="health-sign">${icons.warning}</span>
            <div class="card-words">
              <p class="card-title">${word("health", row.kind)}${row.subject ? html` · <bdi>${row.subject}</bdi>` : nothing}</p>
              <p>${this.#words(desk, row)}</p>
              ${this.#reasonOf(row)}
              <p class="health-remedy">${this.#words(desk, row, ".remedy")}</p>
              <p class="muted">${text("health.since", { time: appointmentTime(row.since) })}</p>
              ${this.#way(desk, row)}
            </div>
            ${row.count > 1 ? pill(String(row.count), "bad") : nothing}
          </li>`,
        )}
      </ul>
      ${desk.isAdmin ? html`<section class="section-part"><h2>${text("why.title")}</h2><p class="muted">${text("why.lead")}</p>${whyForm()}</section>` : nothing}
    </div>`;
  }

  /**
   * What the database says of it, or the same in the language of the page.
   *
   * @param {Desk} desk
   * @param {Trouble} row
   * @param {"" | ".remedy"} about
   */
  #words(desk, row, about = "") {
    const own = about ? row.remedy : row.meaning;
    if (desk.account.language === language) return own;
    const facts = { subject: row.subject, count: String(row.count), since: appointmentTime(row.since) };
    return healthWords(language, row.kind + about, facts) || own;
  }

  /** @param {Trouble} row */
  #reasonOf(row) {
    const reason = row.kind === "stopped_number" && this.#numberOf(row)?.stopped_reason;
    return reason ? html`<p><bdi>${reason}</bdi></p>` : nothing;
  }

  /**
   * The next step, where it is one click away.
   *
   * @param {Desk} desk
   * @param {Trouble} row
   */
  #way(desk, row) {
    const number = this.#numberOf(row);
    if (row.kind === "failing_sync") return html`<p><a class="button" href="#/metakocka">${text("desk.metakocka")}</a></p>`;
    if (!desk.isAdmin || (!number && row.kind !== "paused_account")) return nothing;
    const resume = () =>
      row.kind === "stopped_number"
        ? desk.call("resume_channel", { channel_id: number?.id })
        : desk.call("resume_sending", { account_id: desk.account.id, channel_id: number?.id });
    return html`<p><button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.try(resume)}>${text("health.resume")}</button></p>`;
  }

  /** @param {Trouble} row */
  #numberOf(row) {
    const numbers = this.look("stopped", this.#stopped)?.rows ?? [];
    return ["stopped_number", "paused_number"].includes(row.kind) ? numbers.find(({ display_phone_number }) => display_phone_number === row.subject) : undefined;
  }
}

/** @param {Desk} desk */
function followStopped(desk) {
  return followAnswer(desk.live, ["account_health"], async (server) => {
    const asked = desk.from("whatsapp_channels").select("id,display_phone_number,stopped_reason").eq("account_id", desk.account.id);
    return /** @type {{ id: string, display_phone_number: string, stopped_reason: string | null }[]} */ (await server.ask(asked.or("stopped_at.not.is.null,paused_at.not.is.null")));
  });
}

customElements.define("health-page", HealthPage);
