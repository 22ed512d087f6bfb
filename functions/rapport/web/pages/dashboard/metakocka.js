import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { followDesk, followSyncQuestions } from "@rapport/live/desk";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { appointmentTime } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { emptiness, pill, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { followAnswer } from "./follow.js";
import { SectionPage, fieldsOf } from "./section_page.js";

/** @import { Tables } from "../../database.types.js" */
/** @import { Desk } from "./desk.js" */

/** @typedef {Readonly<Tables<"sync_conflicts">>} Question */
/** @typedef {{ id: string, company_id: string, active: boolean, conflict_rule: string, paused_until: string | null, pause_reason: string | null }} Connection */
/** @typedef {{ id: string, operation: string, message: string, created_at: string }} SyncError */
/** @typedef {{ id: string, name: string | null, missing: string[], version: number }} Blocked a contact that lacks what Metakocka requires */

const RULES = /** @type {const} */ (["crm", "metakocka", "newest", "ask"]);
const KINDS = /** @type {const} */ ({ queued: "calm", running: "live", stopped: "warn", done: "good", failed: "bad" });
const RUNS = 8;
const ERRORS = 10;
const BLOCKED = 50;

/** The agreement with Metakocka: how it is connected, its runs, and the questions that it asks. */
export class MetakockaPage extends SectionPage {
  /** @override */
  static properties = { ...SectionPage.properties, names: { state: true } };

  /** @type {ReturnType<typeof followDesk<"sync_runs">> | null} */
  #runs = null;
  /** @type {ReturnType<typeof followSyncQuestions> | null} */
  #questions = null;
  /** @type {ReturnType<typeof followConnection> | null} */
  #connection = null;
  /** @type {ReturnType<typeof followErrors> | null} */
  #errors = null;
  /** @type {ReturnType<typeof followBlocked> | null} */
  #blocked = null;
  /** Waiting contacts that a person has begun to fill in, by id. @type {Map<string, Blocked>} */
  #begun = new Map();
  /** Contacts whose names were asked for. @type {Set<string>} */
  #asked = new Set();

  constructor() {
    super();
    /** The names of contacts, by id. @type {ReadonlyMap<string, string>} */
    this.names = new Map();
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    const { desk } = this;
    if (!desk || !changed.has("desk")) return;
    this.#close();
    this.#runs = followDesk(desk.live, "sync_runs");
    this.#questions = followSyncQuestions(desk.live);
    this.#blocked = followBlocked(desk);
    if (desk.isAdmin) {
      this.#connection = followConnection(desk);
      this.#errors = followErrors(desk);
    }
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#close();
  }

  /** @override */
  render() {
    const { desk } = this;
    const runs = this.look("runs", this.#runs);
    const asked = this.look("questions", this.#questions);
    if (!desk || !runs || !asked) return nothing;
    const latest = runs.rows.filter(({ account_id }) => account_id === desk.account.id).slice(-RUNS).reverse();
    const questions = asked.rows.filter(({ account_id }) => account_id === desk.account.id);
    void this.#nameAll(desk, questions);
    return html`<div class="section-page">
      <header class="section-head"><h1>${text("desk.metakocka")}</h1><p class="muted">${text("sync.lead")}</p></header>
      ${this.told()} ${this.#connected(desk)}
      <section class="section-part" aria-labelledby="questions-title">
        <h2 id="questions-title">${text("sync.questions")}${questions.length ? html` <span class="count">${questions.length}</span>` : nothing}</h2>
        ${asked.error && !questions.length ? trouble(text("sync.failed"), asked.error) : nothing}
        ${questions.length || asked.error ? nothing : asked.isLoaded ? html`<p class="muted">${text("sync.questions.none")}</p>` : skeleton(1)}
        <ul class="cards">${repeat(questions, ({ id }) => id, (one) => html`<li class="card-plain">${this.#question(desk, one)}</li>`)}</ul>
      </section>
      ${this.#waiting(desk)}
      <section class="section-part" aria-labelledby="runs-title">
        <h2 id="runs-title">${text("sync.runs")}</h2>
        ${runs.error && !latest.length ? trouble(text("sync.failed"), runs.error) : nothing}
        ${!runs.error && !runs.isLoaded ? skeleton(3) : nothing}
        ${!runs.error && runs.isLoaded && !latest.length ? emptiness(deskIcons.sync, text("sync.runs.none"), text("sync.runs.none.more")) : nothing}
        <ul class="cards" aria-live="polite">${repeat(latest, ({ id }) => id, (run) => html`<li class="card-plain run">${runOf(run)}</li>`)}</ul>
      </section>
      ${this.#failures()}
    </div>`;
  }

  /** @param {Desk} desk */
  #connected(desk) {
    if (!desk.isAdmin) return html`<p class="muted">${text("sync.readers")}</p>`;
    const shown = this.look("connection", this.#connection);
    const connection = shown?.rows[0];
    if (!shown?.isLoaded) return shown?.error ? trouble(text("sync.failed"), shown.error) : skeleton(1);
    if (!connection) {
      return html`<form class="form card-plain" @submit=${(/** @type {SubmitEvent} */ event) => this.#connect(desk, event)}>
        <p><strong>${text("sync.connect")}</strong></p>
        <p class="muted">${text("sync.connect.more")}</p>
        <div class="form-row">
          <label class="field"><span>${text("sync.company")}</span><input name="company_id" required maxlength="64" pattern="[A-Za-z0-9_\\-]+" autocomplete="off" /></label>
          ${ruleField("ask")}
        </div>
        <p class="actions"><button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("sync.connect.do")}</button></p>
      </form>`;
    }
    const isPaused = connection.paused_until && Date.parse(connection.paused_until) > Date.now();
    return html`<div class="card-plain form">
      <div class="reply-row">
        <div class="card-words">
          <p class="card-title">${text("sync.connected", { company: connection.company_id })} ${connection.active ? (isPaused ? pill(text("sync.paused"), "warn") : pill(text("sync.active"), "good")) : pill(text("sync.off"), "calm")}</p>
          ${isPaused ? html`<p>${text("sync.paused.until", { time: appointmentTime(/** @type {string} */ (connection.paused_until)) })} <bdi>${connection.pause_reason ?? ""}</bdi></p>` : nothing}
        </div>
        <p class="actions">
          ${isPaused
            ? html`<button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#write(desk, { paused_until: null })}>${text("sync.again")}</button>`
            : html`<button type="button" class="button button-main" ?disabled=${this.isBusy || !connection.active} @click=${() => this.try(() => desk.call("request_sync", { direction: "both", account_id: desk.account.id }), text("sync.asked"))}>${deskIcons.sync}${text("sync.now")}</button>`}
          <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#write(desk, { active: !connection.active })}>${text(connection.active ? "sync.stop" : "sync.begin")}</button>
        </p>
      </div>
      <form @change=${(/** @type {Event} */ event) => this.#write(desk, { conflict_rule: /** @type {HTMLSelectElement} */ (event.target).value })}>${ruleField(connection.conflict_rule)}</form>
    </div>`;
  }

  /**
   * @param {Desk} desk
   * @param {Question} one
   */
  #question(desk, one) {
    const contact = one.contact_id ? (this.names.get(one.contact_id) ?? "…") : "";
    const partner = partnerOf(one.metakocka);
    const mayDecide = desk.isAdmin;
    if (one.question === "field") {
      return html`<p class="card-title"><a href="#/contacts/${one.contact_id}"><bdi>${contact}</bdi></a> · ${word("contact", one.field ?? "")}</p>
        <p class="muted">${text("sync.question.field")}</p>
        <dl class="versus">
          <div><dt>${text("sync.here")}</dt><dd><bdi>${valueWords(one.crm)}</bdi></dd></div>
          <div><dt>${text("sync.there")}</dt><dd><bdi>${valueWords(one.metakocka)}</bdi></dd></div>
          <div><dt>${text("sync.before")}</dt><dd class="muted"><bdi>${valueWords(one.base)}</bdi></dd></div>
        </dl>
        ${mayDecide
          ? html`<p class="actions">
              <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#decide(desk, one, "crm")}>${text("sync.keep.here")}</button>
              <button type="button" class="button" ?disabled=${this.isBusy} @click=${() => this.#decide(desk, one, "metakocka")}>${text("sync.keep.there")}</button>
            </p>`
          : nothing}`;
    }
    /** @type {{ id: string, name: string }[]} */
    const choices =
      one.question === "contact"
        ? one.candidates.map((id) => ({ id, name: this.names.get(id) ?? "…" }))
        : /** @type {any[]} */ (one.partners ?? []).map((each) => ({ id: String(each.metakocka_id), name: partnerOf(each) }));
    return html`<p class="card-title"><bdi>${one.question === "contact" ? partner : contact}</bdi></p>
      <p class="muted">${text(one.question === "contact" ? "sync.question.contact" : "sync.question.partner")}</p>
      ${mayDecide
        ? html`<div class="drop-list">
            ${repeat(choices, ({ id }) => id, ({ id, name }) => html`<button type="button" class="drop-item" ?disabled=${this.isBusy} @click=${() => this.#decide(desk, one, id)}>${icons.person}<span><bdi>${name}</bdi></span></button>`)}
            <button type="button" class="drop-item" ?disabled=${this.isBusy} @click=${() => this.#decide(desk, one, "new")}>${icons.plus}<span>${text("sync.new")}</span></button>
            ${one.question === "partner" ? html`<button type="button" class="drop-item" ?disabled=${this.isBusy} @click=${() => this.#decide(desk, one, "unlink")}>${icons.close}<span>${text("sync.unlink")}</span></button>` : nothing}
          </div>`
        : nothing}`;
  }

  /**
   * @param {Desk} desk
   * @param {Question} question
   * @param {string} choice
   */
  #decide(desk, question, choice) {
    return this.try(async () => {
      await desk.call("resolve_sync_conflict", { conflict_id: question.id, choice });
      this.#questions?.refresh();
    }, text("sync.decided"));
  }

  /** Contacts that can't be sent before their fields are filled in. @param {Desk} desk */
  #waiting(desk) {
    const asked = this.look("blocked", this.#blocked)?.rows.filter(({ missing }) => missing.length) ?? [];
    // an edit elsewhere takes a contact from the list until the next run; a half-filled form stays, in its place
    const rows = [...asked.filter(({ id }) => !this.#begun.has(id)), ...this.#begun.values()].sort((one, other) => (one.name ?? "").localeCompare(other.name ?? ""));
    if (!rows.length) return nothing;
    return html`<section class="section-part" aria-labelledby="waiting-title">
      <h2 id="waiting-title">${text("sync.blocked")} <span class="count">${rows.length}</span></h2>
      <p class="muted">${text("sync.blocked.more")}</p>
      <ul class="cards">${repeat(rows, ({ id }) => id, (row) => html`<li class="card-plain">
        <p class="card-title"><a href="#/contacts/${row.id}"><bdi>${row.name ?? text("inbox.unnamed")}</bdi></a></p>
        <form class="form" @input=${() => this.#begun.set(row.id, row)} @submit=${(/** @type {SubmitEvent} */ event) => this.#fill(desk, row, event)}>
          <div class="form-row">${row.missing.map((name) => html`<label class="field"><span>${word("contact", name)}</span><input name=${name} required maxlength="200" ?disabled=${!desk.isWriter} autocomplete="off" /></label>`)}</div>
          ${desk.isWriter ? html`<p class="actions"><button type="submit" class="button" ?disabled=${this.isBusy}>${text("sync.blocked.save")}</button></p>` : nothing}
        </form>
      </li>`)}</ul>
    </section>`;
  }

  /**
   * @param {Desk} desk
   * @param {Blocked} row
   * @param {SubmitEvent} event
   */
  #fill(desk, row, event) {
    const field = fieldsOf(event);
    const filled = Object.fromEntries(row.missing.map((name) => [name, field(name)]));
    return this.try(async () => {
      await desk.ask(desk.from("metakocka_partners").update(filled).eq("id", row.id).select("id"));
      this.#begun.delete(row.id);
      this.#blocked?.refresh();
    }, text("sync.decided"));
  }

  #failures() {
    const rows = this.look("errors", this.#errors)?.rows ?? [];
    if (!rows.length) return nothing;
    return html`<details class="section-part past"><summary>${text("sync.errors", { n: rows.length })}</summary>
      <ul class="reminders">${rows.map((row) => html`<li><time datetime=${row.created_at}>${appointmentTime(row.created_at)}</time><span class="card-words"><bdi>${row.message}</bdi> <span class="muted">${row.operation}</span></span></li>`)}</ul>
    </details>`;
  }

  /**
   * @param {Desk} desk
   * @param {SubmitEvent} event
   */
  #connect(desk, event) {
    const field = fieldsOf(event);
    const row = { account_id: desk.account.id, company_id: field("company_id"), conflict_rule: field("conflict_rule") };
    return this.try(async () => {
      await desk.ask(desk.from("metakocka_connections").insert(row).select("account_id"));
      this.#connection?.refresh();
    }, text("desk.saved"));
  }

  /**
   * @param {Desk} desk
   * @param {Record<string, unknown>} columns
   */
  #write(desk, columns) {
    return this.try(async () => {
      await desk.ask(desk.from("metakocka_connections").update(columns).eq("account_id", desk.account.id).select("account_id"));
      this.#connection?.refresh();
    }, text("desk.saved"));
  }

  /**
   * Reads the names of the contacts that questions are about.
   *
   * @param {Desk} desk
   * @param {readonly Question[]} questions
   */
  async #nameAll(desk, questions) {
    const ids = questions.flatMap(({ contact_id, candidates }) => [...(contact_id ? [contact_id] : []), ...candidates]).filter((id) => !this.#asked.has(id));
    if (!ids.length) return;
    for (const id of ids) this.#asked.add(id);
    const rows = await desk.live.hub.server.rows("contacts_v2", [...new Set(ids)]).catch(() => []);
    this.names = new Map([...this.names, ...rows.map((row) => /** @type {[string, string]} */ ([row.id, String(row.name ?? row.phone ?? text("inbox.unnamed"))]))]);
  }

  #close() {
    this.#begun.clear();
    for (const one of [this.#runs, this.#questions, this.#blocked, this.#connection, this.#errors]) one?.close();
    this.#runs = this.#questions = this.#blocked = this.#connection = this.#errors = null;
  }
}

/** @param {Desk} desk */
function followConnection(desk) {
  return followAnswer(desk.live, ["sync_runs"], async (server) => {
    const asked = desk.from("metakocka_connections").select("account_id,company_id,active,conflict_rule,paused_until,pause_reason").eq("account_id", desk.account.id);
    const rows = /** @type {any[]} */ (await server.ask(asked));
    return /** @type {Connection[]} */ (rows.map((row) => ({ id: row.account_id, ...row })));
  });
}

/** @param {Desk} desk */
function followBlocked(desk) {
  return followAnswer(desk.live, ["sync_runs", "contacts"], async (server) => {
    const asked = desk.from("metakocka_partners").select("id,name,missing,version").eq("account_id", desk.account.id).eq("sync_state", "blocked").order("name").limit(BLOCKED);
    return /** @type {Blocked[]} */ (await server.ask(asked));
  });
}

/** @param {Desk} desk */
function followErrors(desk) {
  return followAnswer(desk.live, ["sync_runs"], async (server) => {
    const asked = desk.from("sync_errors").select("id,operation,message,created_at").eq("account_id", desk.account.id).order("created_at", { ascending: false }).limit(ERRORS);
    return /** @type {SyncError[]} */ (await server.ask(asked));
  });
}

/** @param {string} rule */
function ruleField(rule) {
  return html`<label class="field"
    ><span>${text("sync.rule")}</span
    ><select name="conflict_rule">
      ${RULES.map((one) => html`<option value=${one} .selected=${one === rule}>${text(`sync.rule.${one}`)}</option>`)}
    </select></label
  >`;
}

/** @param {any} run a row of `sync_runs` */
function runOf(run) {
  const isMoving = run.state === "running" || run.state === "queued" || run.state === "stopped";
  const at = run.started_at ?? run.created_at;
  // a run that has come to its end has not sent everything
  const isPartial = run.state === "done" && run.failed > 0;
  const state = isPartial ? text("sync.state.partial", { n: run.failed }) : word("sync.state", run.state);
  return html`<p class="run-head"><strong>${word("sync.direction", run.direction)}</strong> <time class="muted" datetime=${at}>${appointmentTime(at)}</time> ${pill(state, isPartial ? "warn" : (/** @type {any} */ (KINDS)[run.state] ?? "calm"))}</p>
    ${isMoving
      ? run.total
        ? html`<progress max=${run.total} value=${run.done} aria-label=${text("sync.progress")}></progress>`
        : html`<progress aria-label=${text("sync.progress")}></progress>`
      : nothing}
    <p class="muted">${run.total === null && isMoving ? text("sync.counting") : text("sync.counts", { done: run.done, total: run.total ?? run.done, changed: run.succeeded, failed: run.failed })}
      ${run.resumes_at ? text("sync.resumes", { time: appointmentTime(run.resumes_at) }) : nothing}</p>`;
}

/** @param {unknown} partner */
function partnerOf(partner) {
  const { name, email, metakocka_id } = /** @type {any} */ (partner ?? {});
  return [name, email].filter(Boolean).join(", ") || String(metakocka_id ?? "");
}

/** @param {unknown} value */
function valueWords(value) {
  if (value === null || value === undefined || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

customElements.define("metakocka-page", MetakockaPage);
