import { html, nothing } from "lit";
import { LiveError } from "../live/errors.js";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { emptiness, kindOf, pill, reasonOf, refusalOf, skeleton, trouble } from "./parts.js";
import { labelOf } from "./template_label.js";
import { contentOf, faultOf, fieldsOf, previewOf, summaryOf } from "./template_words.js";
import { text, word } from "./texts.js";
import { formatted } from "./words.js";

/** @import { PendingMessage } from "../live/outbox.js" */
/** @import { Piece, Template, TemplateField } from "./template_words.js" */
/** @import { TextKey } from "./texts.js" */

// stands around a variable that is not filled yet, and is in no text
const OPEN = "\u{e000}";

/** @typedef {(content: object) => Promise<PendingMessage | null>} SendTemplate answers what is refused */

/**
 * The choice of a template: the templates that may be sent, fields for the variables of one, and
 * what the customer will see.
 */
export class TemplatePicker extends PageElement {
  /** @override */
  static properties = {
    templates: { state: true },
    chosen: { state: true },
    values: { state: true },
    faults: { state: true },
    query: { state: true },
    failure: { state: true },
    refusal: { state: true },
    isSending: { state: true },
  };

  constructor() {
    super();
    /** @type {readonly Template[] | null} */
    this.templates = null;
    /** @type {Template | null} */
    this.chosen = null;
    /** By the keys of fields. @type {Readonly<Record<string, string>>} */
    this.values = {};
    /** What is wrong, in words, by the keys of fields. @type {Readonly<Record<string, string>>} */
    this.faults = {};
    this.query = "";
    /** Why there are no templates. @type {{ message: string } | null} */
    this.failure = null;
    /** Why it is not sent, where no field is meant. */
    this.refusal = "";
    this.isSending = false;
    /** @type {() => Promise<readonly Template[]>} */
    this.read = async () => [];
    /** @type {SendTemplate} */
    this.send = async () => null;
  }

  /**
   * Opens the choice over the page.
   *
   * @param {() => Promise<readonly Template[]>} read
   * @param {SendTemplate} send
   */
  static open(read, send) {
    const picker = new TemplatePicker();
    picker.read = read;
    picker.send = send;
    document.body.append(picker);
    return picker;
  }

  /** @override */
  async firstUpdated() {
    this.#dialog?.showModal();
    try {
      this.templates = await this.read();
    } catch (error) {
      this.failure = { message: reasonOf(error) };
    }
  }

  /** @override */
  render() {
    return html`<dialog class="dialog templates ${this.chosen ? "templates-one" : ""}" aria-labelledby="templates-title" @close=${() => this.remove()}>
      <header class="dialog-head">
        ${this.chosen
          ? html`<button type="button" class="button-icon templates-back" aria-label=${text("template.back")} @click=${() => this.#choose(null)}>${icons.back}</button>`
          : nothing}
        <h2 id="templates-title">${text("template.title")}</h2>
        <button type="button" class="button-icon" aria-label=${text("template.close")} @click=${() => this.#dialog?.close()}>${icons.close}</button>
      </header>
      <div class="templates-body">
        <div class="templates-list">
          <label class="search">${icons.search}<span class="hidden">${text("template.search")}</span
            ><input type="search" autofocus placeholder=${text("template.search")} .value=${this.query} @input=${this.#search} /></label>
          ${this.#list()}
        </div>
        ${this.chosen ? this.#one(this.chosen) : html`<p class="templates-none muted">${text("template.none-chosen")}</p>`}
      </div>
    </dialog>`;
  }

  get #dialog() {
    return this.querySelector("dialog");
  }

  #list() {
    if (this.failure) return trouble(text("template.failed"), this.failure);
    if (!this.templates) return skeleton(3);
    if (!this.templates.length) return emptiness(icons.template, text("template.empty"), text("template.empty.more"));
    const sought = this.query.trim().toLocaleLowerCase();
    const found = this.templates.filter((one) => `${one.name} ${titleOf(one)} ${summaryOf(one)}`.toLocaleLowerCase().includes(sought));
    if (!found.length) return emptiness(icons.search, text("template.not-found"));
    return html`<ul class="templates-rows">
      ${found.map(
        (one) => html`<li>
          <button type="button" class="template-row" aria-current=${one === this.chosen ? "true" : "false"} @click=${() => this.#choose(one)}>
            <span class="template-name"><bdi>${titleOf(one)}</bdi></span>
            ${pill(one.language, "calm")}
            <span class="template-words muted"><bdi>${summaryOf(one)}</bdi></span>
          </button>
        </li>`,
      )}
    </ul>`;
  }

  /** @param {Template} template */
  #one(template) {
    const fields = fieldsOf(template);
    return html`<form class="templates-form" novalidate @submit=${this.#submit}>
      <div class="templates-fields">
        <p class="template-title"><strong><bdi>${titleOf(template)}</bdi></strong> <span class="muted">${word("template.category", template.category)}</span></p>
        ${fields.map((field) => this.#field(field))}
        ${fields.length ? nothing : html`<p class="muted">${text("template.no-fields")}</p>`}
      </div>
      <section class="template-preview" aria-label=${text("template.preview")}>
        <h3>${text("template.preview")}</h3>
        ${this.#preview(template)}
      </section>
      <footer class="templates-foot">
        ${this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing}
        <button type="submit" class="button button-main" ?disabled=${this.isSending}>${icons.send}${this.isSending ? text("template.sending") : text("chat.send")}</button>
      </footer>
    </form>`;
  }

  /** @param {TemplateField} field */
  #field(field) {
    const id = `template-${field.key}`;
    const fault = this.faults[field.key];
    return html`<div class="field">
      <label for=${id}>${labelOf(field)}</label>
      <input
        id=${id}
        dir="auto"
        type=${field.kind === "link" ? "url" : "text"}
        inputmode=${field.kind === "latitude" || field.kind === "longitude" ? "decimal" : nothing}
        autocomplete="off"
        placeholder=${field.example}
        aria-invalid=${fault ? "true" : "false"}
        aria-describedby=${fault ? `${id}-fault` : nothing}
        .value=${this.values[field.key] ?? ""}
        @input=${(/** @type {InputEvent} */ event) => this.#write(field, /** @type {HTMLInputElement} */ (event.target).value)}
      />
      ${fault ? html`<p id="${id}-fault" class="field-fault">${fault}</p>` : nothing}
    </div>`;
  }

  /** @param {Template} template */
  #preview(template) {
    const { file, header, body, footer, buttons } = previewOf(template, this.values);
    return html`<div class="bubble-row bubble-ours"><div class="bubble">
      ${file ? html`<p class="template-file">${file === "location" ? icons.place : file === "video" ? icons.video : file === "image" ? icons.picture : icons.file}${kindOf(file)}</p>` : nothing}
      ${header.length ? html`<p class="template-header" dir="auto">${pieces(header, false)}</p>` : nothing}
      <p class="bubble-words" dir="auto">${pieces(body, true)}</p>
      ${footer ? html`<p class="template-footer" dir="auto">${footer}</p>` : nothing}
      ${buttons.length ? html`<ul class="template-buttons">${buttons.map(({ words }) => html`<li><bdi>${words}</bdi></li>`)}</ul>` : nothing}
    </div></div>`;
  }

  /** @param {InputEvent} event */
  #search = (event) => {
    this.query = /** @type {HTMLInputElement} */ (event.target).value;
  };

  /** @param {Template | null} template */
  async #choose(template) {
    this.chosen = template;
    this.values = {};
    this.faults = {};
    this.refusal = "";
    await this.updateComplete;
    const next = template ? ".templates-form input, .templates-form button[type=submit]" : "input[type=search]";
    /** @type {HTMLElement | null} */ (this.querySelector(next))?.focus();
  }

  /**
   * @param {TemplateField} field
   * @param {string} value
   */
  #write({ key }, value) {
    this.values = { ...this.values, [key]: value };
    if (this.faults[key]) this.faults = { ...this.faults, [key]: "" };
    this.refusal = "";
  }

  /** @param {SubmitEvent} event */
  #submit = async (event) => {
    event.preventDefault();
    const template = this.chosen;
    if (!template || this.isSending) return;
    const fields = fieldsOf(template);
    const wrong = fields.map((field) => ({ field, fault: faultOf(field, this.values[field.key] ?? "") })).filter(({ fault }) => fault);
    if (wrong.length) return this.#show(Object.fromEntries(wrong.map(({ field, fault }) => [field.key, text(/** @type {TextKey} */ (`template.fault.${fault}`))])));
    this.isSending = true;
    this.refusal = "";
    try {
      const refused = await this.send(contentOf(template, this.values));
      if (!refused) return this.#dialog?.close();
      await this.#refuse(fields, refused.refused?.field, refusalOf(refused));
    } catch (error) {
      await this.#refuse(fields, error instanceof LiveError ? error.field : "", reasonOf(error));
    } finally {
      this.isSending = false;
    }
  };

  /**
   * Tells what was refused: at its field, where one is meant.
   *
   * @param {readonly TemplateField[]} fields
   * @param {string | undefined} named
   * @param {string} words
   */
  async #refuse(fields, named, words) {
    const field = fields.find(({ variable }) => named?.endsWith(`variables.${variable}`));
    if (field) await this.#show({ [field.key]: words });
    else this.refusal = words;
  }

  /** @param {Record<string, string>} faults */
  async #show(faults) {
    this.faults = faults;
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector('[aria-invalid="true"]'))?.focus();
  }
}

/**
 * A name of WhatsApp's, which has small letters and lines between, for people.
 *
 * @param {Template} template
 */
function titleOf({ name }) {
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toLocaleUpperCase() + words.slice(1);
}

/**
 * @param {Piece[]} all
 * @param {boolean} isMarked whether WhatsApp's marks count
 */
function pieces(all, isMarked) {
  // marks may stand around variables, so the whole text is looked at
  const whole = all.map(({ words, isOpen }) => (isOpen ? OPEN + words + OPEN : words)).join("");
  return isMarked ? formatted(whole, opened) : opened(whole);
}

/**
 * A piece of a text, with what is not filled yet standing out.
 *
 * @param {string} piece
 */
function opened(piece) {
  return piece.split(OPEN).map((words, index) => (index % 2 ? html`<mark class="template-open">${words}</mark>` : words));
}

customElements.define("template-picker", TemplatePicker);
