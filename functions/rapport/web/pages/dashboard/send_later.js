import { html, nothing } from "lit";
import { Unprocessable } from "@rapport/live";
import { fieldOf, weekdayOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { reasonOf } from "@rapport/live/elements/parts.js";
import { text } from "@rapport/live/elements/texts.js";
import "./template_field.js";
import { readTemplates } from "./templates.js";
import { laterToday, nextWeek, tomorrow } from "./times.js";

/** @import { Desk } from "./desk.js" */
/** @import { FilledTemplate } from "./template_field.js" */
/** @import { Template } from "./templates.js" */

/**
 * When the text that is begun is to be sent; where WhatsApp takes no free text at that time, which
 * template goes instead. It rises `send-later` with the row once it is kept.
 *
 *     <send-later .desk=${desk} .conversationId=${id} .words=${() => view.words}></send-later>
 */
export class SendLater extends PageElement {
  /** @override */
  static properties = {
    desk: { attribute: false },
    conversationId: {},
    words: { attribute: false },
    at: { state: true },
    template: { state: true },
    templates: { state: true },
    refusal: { state: true },
    isBusy: { state: true },
  };

  constructor() {
    super();
    /** @type {Desk | null} */
    this.desk = null;
    this.conversationId = "";
    /** What is to be sent. */
    this.words = () => "";
    this.at = "";
    /** @type {FilledTemplate | null} */
    this.template = null;
    /** Those that can be sent; null while none is needed. @type {readonly Template[] | null} */
    this.templates = null;
    this.refusal = "";
    this.isBusy = false;
  }

  /** @override */
  render() {
    const later = laterToday();
    /** @type {[string, Date][]} */
    const quick = [...(later ? [/** @type {[string, Date]} */ ([text("desk.later-today"), later])] : []), [text("desk.tomorrow"), tomorrow()], [text("desk.next-week"), nextWeek()]];
    return html`<form class="drop-form" @submit=${this.#submit}>
      <p class="drop-title">${text("desk.later.title")}</p>
      ${this.templates
        ? nothing
        : quick.map(
            ([label, at]) => html`<button type="button" class="drop-item" ?disabled=${this.isBusy} @click=${() => this.#send(at)}>
              <span>${label}</span><span class="muted">${weekdayOf(at.getTime())}</span>
            </button>`,
          )}
      <label class="field"
        ><span>${text("desk.at")}</span
        ><input type="datetime-local" name="at" required .value=${this.at || fieldOf(tomorrow().getTime())} @input=${(/** @type {InputEvent} */ event) => (this.at = /** @type {HTMLInputElement} */ (event.target).value)}
      /></label>
      ${this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing}
      ${this.templates
        ? html`<p class="muted">${text("desk.later.template")}</p>
            <template-field .templates=${this.templates} .value=${this.template} @template-change=${(/** @type {CustomEvent} */ event) => (this.template = event.detail)}></template-field>`
        : nothing}
      <button type="submit" class="button button-main" ?disabled=${this.isBusy}>${icons.clock}${text("desk.later.send")}</button>
    </form>`;
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    void this.#send(new Date(this.at || fieldOf(tomorrow().getTime())));
  }

  /** @param {Date} at */
  async #send(at) {
    const { desk } = this;
    const message = this.words().trim();
    this.at = fieldOf(at.getTime());
    this.refusal = message ? "" : text("desk.later.empty");
    if (!desk || !message) return;
    this.isBusy = true;
    const row = { conversation_id: this.conversationId, message, send_at: at.toISOString(), ...(this.template ? { template: this.template } : {}) };
    try {
      const [kept] = await desk.ask(desk.from("scheduled_messages").insert(row).select("*"));
      this.tell("send-later", kept);
    } catch (error) {
      this.refusal = reasonOf(error);
      // the window will be closed by then
      if (error instanceof Unprocessable && error.field === "template") {
        this.templates ??= await readTemplates(desk, this.conversationId).catch(() => []);
      }
    }
    this.isBusy = false;
  }
}

customElements.define("send-later", SendLater);
