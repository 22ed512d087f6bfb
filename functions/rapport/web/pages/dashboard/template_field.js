import { html, nothing } from "lit";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { labelOf } from "@rapport/live/elements/template_label.js";
import { fieldsOf } from "@rapport/live/elements/template_words.js";
import { text } from "@rapport/live/elements/texts.js";

/** @import { Template } from "./templates.js" */

/**
 * The content of a message of the type template.
 *
 * @typedef {{ name: string, language: string, variables?: Record<string, string> }} FilledTemplate
 */

/**
 * The choice of a template and its variables, with what the customer will read. `value` is the
 * content of a message of the type template, or null; it rises `template-change`.
 *
 *     <template-field .templates=${templates} .value=${null}></template-field>
 */
export class TemplateField extends PageElement {
  /** @override */
  static properties = { templates: { attribute: false }, value: { attribute: false }, empty: {} };

  constructor() {
    super();
    /** @type {readonly Template[]} */
    this.templates = [];
    /** @type {FilledTemplate | null} */
    this.value = null;
    /** What the choice of no template is called. */
    this.empty = "";
  }

  /** @override */
  render() {
    const chosen = this.templates.find(({ name, language }) => name === this.value?.name && language === this.value?.language);
    if (!this.templates.length) return html`<p class="muted">${text("desk.template.none")}</p>`;
    return html`<label class="field"
        ><span>${text("desk.template")}</span
        ><select @change=${this.#choose}>
          <option value="" ?selected=${!chosen}>${this.empty || text("desk.template.choose")}</option>
          ${this.templates.map(
            (one) => html`<option value=${one.id} ?selected=${one === chosen} .selected=${one === chosen}>${one.name} (${one.language})</option>`,
          )}
        </select></label
      >
      ${chosen ? this.#filled(chosen) : nothing}`;
  }

  /** @param {Template} template */
  #filled(template) {
    const given = this.value?.variables ?? {};
    const labels = new Map(fieldsOf(/** @type {any} */ (template)).map((field) => [field.variable, labelOf(field)]));
    return html`${namesOf(template).map(
        (name) => html`<label class="field"
          ><span>${labels.get(name) ?? text("desk.template.variable", { name })}</span
          ><input required maxlength="1024" .value=${given[name] ?? ""} @input=${(/** @type {InputEvent} */ event) => this.#fill(name, event)}
        /></label>`,
      )}
      <p class="preview" dir="auto">${previewOf(template, given)}</p>`;
  }

  /** @param {Event} event */
  #choose(event) {
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    const found = this.templates.find(({ id }) => id === value);
    const variables = found ? Object.fromEntries(namesOf(found).map((name) => [name, ""])) : {};
    this.#tell(found ? { name: found.name, language: found.language, ...(Object.keys(variables).length ? { variables } : {}) } : null);
  }

  /**
   * @param {string} name
   * @param {InputEvent} event
   */
  #fill(name, event) {
    if (!this.value) return;
    this.#tell({ ...this.value, variables: { ...this.value.variables, [name]: /** @type {HTMLInputElement} */ (event.target).value } });
  }

  /** @param {FilledTemplate | null} value */
  #tell(value) {
    this.value = value;
    this.tell("template-change", value);
  }
}

/** @param {Template} template */
function namesOf(template) {
  return Object.entries(/** @type {Record<string, string[]>} */ (template.variables ?? {})).flatMap(([part, names]) => names.map((name) => (name.startsWith(`${part}.`) ? name : `${part}.${name}`)));
}

/**
 * What the customer will read.
 *
 * @param {Template} template
 * @param {Record<string, string>} given
 */
function previewOf(template, given) {
  return /** @type {{ type: string, text?: string }[]} */ (template.components)
    .filter(({ text: words }) => words)
    .map(({ type, text: words }) =>
      /** @type {string} */ (words).replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => given[`${type.toLowerCase()}.${name}`] || "___"),
    )
    .join("\n\n");
}

customElements.define("template-field", TemplateField);
