import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { appointmentTime, fieldOf, instantOf, leafOf, tomorrowAt, zoneName } from "./format.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { emptiness, pill, reasonOf, skeleton, trouble } from "./parts.js";
import { text, word } from "./texts.js";

/** @import { Job } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

const KINDS = /** @type {const} */ ({ scheduled: "calm", rescheduled: "warn", in_progress: "live", completed: "good", cancelled: "bad" });
const OPEN = new Set(["scheduled", "rescheduled", "in_progress"]);
// ms: an appointment that has no end is over by then
const LONGEST = 4 * 3_600_000;

/**
 * A customer's appointments, the next one first; those that are over or cancelled are folded. Staff
 * move, cancel and add them where the page gives `write` and `add`, which throw what is refused.
 * Where it gives `unread`, each has a button to its chat, which rises `job-chat` with the job. Times
 * are those of `zone`, the time zone of the business.
 *
 *     <job-list .source=${live.jobs(customerId)} zone="Europe/Ljubljana"></job-list>
 */
export class JobList extends PageElement {
  /** @override */
  static properties = {
    source: { attribute: false },
    write: { attribute: false },
    add: { attribute: false },
    unread: { attribute: false },
    zone: {},
    editing: { state: true },
    refusal: { state: true },
    isBusy: { state: true },
  };

  constructor() {
    super();
    /** @type {Store<Snapshot<Job>> | null} */
    this.source = null;
    /** Writes columns of a job. @type {((id: string, patch: Partial<Job>) => Promise<unknown>) | null} */
    this.write = null;
    /** Makes a job. @type {((fields: { service_type: string, starts_at: string }) => Promise<unknown>) | null} */
    this.add = null;
    /** Unread messages in the chats of jobs, by the job's id. @type {Readonly<Record<string, number>> | null} */
    this.unread = null;
    /** An IANA time zone; without one, times are those of the viewer. */
    this.zone = "";
    /** What is open: "move" or "cancel" and the id, or "new". */
    this.editing = "";
    this.refusal = "";
    this.isBusy = false;
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const { rows } = shown;
    if (!shown.isLoaded) return shown.error ? trouble(text("jobs.failed"), shown.error) : skeleton(2);
    const next = rows.filter((job) => this.#isShown(job));
    const past = rows.filter((job) => !this.#isShown(job)).reverse();
    return html`
      ${rows.length ? nothing : shown.error ? trouble(text("jobs.failed"), shown.error) : emptiness(icons.calendar, text("jobs.empty"), text("jobs.empty.more"))}
      ${next.length ? html`<ul class="cards">${repeat(next, ({ id }) => id, (job) => this.#job(job))}</ul>` : nothing}
      ${past.length
        ? html`<details class="past" ?open=${!next.length}>
            <summary>${text("jobs.past", { n: past.length })}</summary>
            <ul class="cards">${repeat(past, ({ id }) => id, (job) => this.#job(job))}</ul>
          </details>`
        : nothing}
      ${this.add ? this.#adding() : nothing}
    `;
  }

  /**
   * Whether it is still to come; to staff, also where nobody has completed it.
   *
   * @param {Job} job
   */
  #isNext({ status, starts_at, ends_at }) {
    if (!OPEN.has(status)) return false;
    return !!this.write || status === "in_progress" || Date.parse(ends_at ?? starts_at) + (ends_at ? 0 : LONGEST) > Date.now();
  }

  /** Whether it stands among those to come, as the one does that is being changed. @param {Job} job */
  #isShown(job) {
    return this.#isNext(job) || this.editing.endsWith(` ${job.id}`);
  }

  /** @param {Job} job */
  #job(job) {
    const leaf = leafOf(job.starts_at, this.zone);
    const isOpen = this.#isShown(job);
    const unread = this.unread?.[job.id] ?? 0;
    return html`<li class="card job ${isOpen ? "" : "job-over"}" data-id=${job.id}>
      <div class="leaf" aria-hidden="true"><span>${leaf.month}</span><strong>${leaf.day}</strong></div>
      <div class="card-words">
        <p class="card-title"><bdi>${job.service_type}</bdi></p>
        <p class="muted"><time datetime=${job.starts_at}>${appointmentTime(job.starts_at, { zone: this.zone, withYear: !isOpen })}</time></p>
        ${job.address ? html`<p class="muted"><bdi>${job.address}</bdi></p>` : nothing}
      </div>
      ${pill(word("job", job.status), KINDS[job.status] ?? "calm")}
      ${this.unread
        ? html`<div class="job-edit">
            <button type="button" class="link job-chat" @click=${() => this.tell("job-chat", job)}>
              ${icons.chat}${text("jobs.chat")}${unread
                ? html`<span class="badge"><span aria-hidden="true">${unread}</span><span class="hidden">${text("inbox.unread", { n: unread })}</span></span>`
                : nothing}
            </button>
          </div>`
        : nothing}
      ${this.write && isOpen ? html`<div class="job-edit">${this.#editing(job)}</div>` : nothing}
    </li>`;
  }

  /** @param {Job} job */
  #editing(job) {
    if (this.editing === `move ${job.id}`) {
      return html`<form class="inline" @submit=${(/** @type {SubmitEvent} */ event) => this.#move(event, job)}>
        <label class="field"><span>${this.#when(job.starts_at)}</span><input type="datetime-local" name="at" required .value=${fieldOf(job.starts_at, this.zone)} /></label>
        ${this.#refused()}
        <div class="actions">
          <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("jobs.save")}</button>
          <button type="button" class="button" @click=${() => this.#open("")}>${text("jobs.back")}</button>
        </div>
      </form>`;
    }
    if (this.editing === `cancel ${job.id}`) {
      return html`<div class="inline">
        <p>${text("jobs.cancel.sure", { service: job.service_type })}</p>
        ${this.#refused()}
        <div class="actions">
          <button type="button" class="button button-bad" ?disabled=${this.isBusy} @click=${() => this.#write(job.id, { status: "cancelled" })}>
            ${text("jobs.cancel")}
          </button>
          <button type="button" class="button" @click=${() => this.#open("")}>${text("jobs.keep")}</button>
        </div>
      </div>`;
    }
    return html`<div class="actions">
      <button type="button" class="link" @click=${() => this.#open(`move ${job.id}`)}>${text("jobs.move")}</button>
      <button type="button" class="link" @click=${() => this.#open(`cancel ${job.id}`)}>${text("jobs.cancel")}</button>
    </div>`;
  }

  #adding() {
    if (this.editing !== "new") {
      return html`<button type="button" class="button button-wide" @click=${() => this.#open("new")}>${icons.plus}${text("jobs.new")}</button>`;
    }
    const tomorrow = tomorrowAt("09:00", this.zone);
    return html`<form class="inline card-plain" @submit=${this.#make}>
      <label class="field"><span>${text("jobs.service")}</span><input name="service" required maxlength="200" autocomplete="off" /></label>
      <label class="field"><span>${this.#when(instantOf(tomorrow, this.zone).getTime())}</span><input type="datetime-local" name="at" required value=${tomorrow} /></label>
      ${this.#refused()}
      <div class="actions">
        <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${text("jobs.add")}</button>
        <button type="button" class="button" @click=${() => this.#open("")}>${text("jobs.back")}</button>
      </div>
    </form>`;
  }

  /**
   * What the field for a time is called, with the zone where it is not the viewer's.
   *
   * @param {string | number} instant
   */
  #when(instant) {
    const zone = zoneName(instant, this.zone);
    return zone ? `${text("jobs.when")} (${zone})` : text("jobs.when");
  }

  #refused() {
    return this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing;
  }

  /** @param {string} what */
  async #open(what) {
    this.editing = what;
    this.refusal = "";
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(".inline input"))?.focus();
  }

  /**
   * @param {SubmitEvent} event
   * @param {Job} job
   */
  #move(event, job) {
    event.preventDefault();
    const starts = instantOf(valueOf(event, "at"), this.zone);
    const length = job.ends_at ? Date.parse(job.ends_at) - Date.parse(job.starts_at) : null;
    /** @type {Partial<Job>} */
    const patch = { starts_at: starts.toISOString() };
    if (job.status === "scheduled") Object.assign(patch, { status: "rescheduled" });
    if (length) Object.assign(patch, { ends_at: new Date(starts.getTime() + length).toISOString() });
    void this.#write(job.id, patch);
  }

  /** @param {SubmitEvent} event */
  #make(event) {
    event.preventDefault();
    const fields = { service_type: valueOf(event, "service").trim(), starts_at: instantOf(valueOf(event, "at"), this.zone).toISOString() };
    void this.#try(async () => this.add?.(fields));
  }

  /**
   * @param {string} id
   * @param {Partial<Job>} patch
   */
  #write(id, patch) {
    return this.#try(async () => this.write?.(id, patch));
  }

  /** @param {() => Promise<unknown>} write */
  async #try(write) {
    const { editing } = this;
    this.isBusy = true;
    this.refusal = "";
    try {
      await write();
      // unless another is being changed meanwhile
      if (this.editing === editing) this.editing = "";
    } catch (error) {
      if (this.editing === editing) this.refusal = reasonOf(error);
    }
    this.isBusy = false;
  }
}

/**
 * @param {SubmitEvent} event
 * @param {string} name
 */
function valueOf(event, name) {
  return String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get(name) ?? "");
}

customElements.define("job-list", JobList);
