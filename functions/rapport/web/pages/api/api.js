import { html, nothing } from "lit";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { skeleton, trouble } from "@rapport/live/elements/parts.js";
import { language } from "@rapport/live/elements/texts.js";
import { readConfig } from "../common/config.js";
import { languageChoice } from "../common/language_choice.js";

/**
 * The parts of an OpenAPI document that this page shows.
 *
 * @typedef {{ $ref?: string, type?: string | string[], format?: string, enum?: unknown[], const?: unknown, items?: Schema, anyOf?: Schema[],
 *   properties?: Record<string, Schema>, required?: string[], additionalProperties?: boolean | Schema, description?: string,
 *   minimum?: number, maximum?: number, minLength?: number, maxLength?: number, maxItems?: number, default?: unknown }} Schema
 * @typedef {{ schema: Schema, example?: unknown, examples?: Record<string, { $ref: string }> }} Content
 * @typedef {{ description: string, content?: Record<string, Content> }} Answer
 * @typedef {{ operationId: string, summary: string, description?: string, tags: string[], security: Record<string, string[]>[],
 *   parameters?: { name: string, in: string, required: boolean, schema: Schema }[],
 *   requestBody?: { description: string, content: Record<string, Content> }, responses: Record<string, Answer> }} Operation
 * @typedef {{ info: { title: string, version: string, summary: string, description: string }, tags: { name: string, description: string }[],
 *   paths: Record<string, Record<string, Operation>>,
 *   components: { schemas: Record<string, Schema>, examples: Record<string, { value: unknown }>, securitySchemes: Record<string, { description: string }> } }} Document
 */

const TEXTS = {
  en: {
    title: "HTTP API",
    failed: "The description can't be loaded",
    file: "The document",
    needs: "Needs",
    open: "Needs no token.",
    parameters: "Parameters",
    body: "Body",
    answers: "Answers",
    models: "Models",
    name: "Name",
    type: "Type",
    meaning: "Meaning",
    required: "required",
    example: "Example",
    path: "in the path",
    query: "in the query",
  },
  sl: {
    title: "HTTP API",
    failed: "Opisa ni mogoče naložiti",
    file: "Dokument",
    needs: "Potrebuje",
    open: "Žeton ni potreben.",
    parameters: "Parametri",
    body: "Telo",
    answers: "Odgovori",
    models: "Modeli",
    name: "Ime",
    type: "Vrsta",
    meaning: "Pomen",
    required: "obvezno",
    example: "Primer",
    path: "v poti",
    query: "v poizvedbi",
  },
};
const MODEL = "#/components/schemas/";

/** What the functions' endpoints take and answer, from the document that they serve. */
export class ApiPage extends PageElement {
  /** @override */
  static properties = { document: { state: true }, failure: { state: true } };

  constructor() {
    super();
    /** @type {Document | null} */
    this.document = null;
    /** @type {unknown} */
    this.failure = null;
    this.address = "";
    this.texts = language === "sl" ? TEXTS.sl : TEXTS.en;
  }

  /** @override */
  async firstUpdated() {
    document.documentElement.lang = language;
    document.title = `${this.texts.title} · Rapport`;
    try {
      this.address = `${(await readConfig()).functions_url}/api/openapi.json`;
      const answer = await fetch(this.address);
      if (!answer.ok) throw new Error(await answer.text());
      this.document = await answer.json();
      await this.updateComplete;
      // the part that the address names was not there when the page was opened
      if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
    } catch (error) {
      this.failure = error;
    }
  }

  /** @override */
  render() {
    const { texts, document: told } = this;
    return html`<main class="api">
      <header class="api-head">
        <h1>${texts.title}</h1>
        ${languageChoice()}
        ${told
          ? html`<p class="muted" lang="en">${words(told.info.description)}</p>
              <p class="muted"><a class="link" href=${this.address} rel="noreferrer">${texts.file}</a>, ${told.info.version}</p>`
          : nothing}
      </header>
      ${this.failure ? trouble(texts.failed, /** @type {any} */ (this.failure)) : nothing} ${!told && !this.failure ? skeleton(6) : nothing}
      ${told ? told.tags.map(({ name, description }) => this.#group(told, name, description)) : nothing}
      ${told
        ? html`<section class="api-group" aria-labelledby="models">
            <h2 id="models">${texts.models}</h2>
            ${Object.entries(told.components.schemas).map(([name, schema]) => this.#model(name, schema))}
          </section>`
        : nothing}
    </main>`;
  }

  /**
   * @param {Document} told
   * @param {string} tag
   * @param {string} description
   */
  #group(told, tag, description) {
    const operations = Object.entries(told.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, operation]) => (operation.tags.includes(tag) ? [{ method, path, operation }] : [])),
    );
    const id = `tag-${tag}`;
    return html`<section class="api-group" aria-labelledby=${id} lang="en">
      <h2 id=${id}>${tag}</h2>
      <p class="muted">${description}</p>
      ${operations.map(
        ({ method, path, operation }) => html`<details class="card-plain api-call" id=${operation.operationId}>
          <summary><code class="api-route"><b>${method.toUpperCase()}</b> ${path}</code> <span>${operation.summary}</span></summary>
          ${this.#operation(told, operation)}
        </details>`,
      )}
    </section>`;
  }

  /**
   * @param {Document} told
   * @param {Operation} operation
   */
  #operation(told, operation) {
    const { texts } = this;
    const { security, parameters, requestBody } = operation;
    const schemes = security.flatMap((one) => Object.keys(one)).map((name) => told.components.securitySchemes[name].description);
    return html`
      ${operation.description ? html`<p>${words(operation.description)}</p>` : nothing}
      <p class="muted">${schemes.length ? html`<span lang=${language}>${texts.needs}</span>: ${schemes.join(" ")}` : html`<span lang=${language}>${texts.open}</span>`}</p>
      ${parameters?.length
        ? html`<h3 lang=${language}>${texts.parameters}</h3>
            <ul class="api-fields">
              ${parameters.map(({ name, in: place, required, schema }) => this.#field(name, schema, required, place === "path" ? texts.path : texts.query))}
            </ul>`
        : nothing}
      ${requestBody ? html`<h3 lang=${language}>${texts.body}</h3>${this.#content(told, requestBody.description, requestBody.content)}` : nothing}
      <h3 lang=${language}>${texts.answers}</h3>
      <dl class="api-answers">
        ${Object.entries(operation.responses).map(
          ([status, { description, content = {} }]) => html`<dt><code>${status}</code></dt>
            <dd>${this.#content(told, description, content)}</dd>`,
        )}
      </dl>
    `;
  }

  /**
   * @param {Document} told
   * @param {string} description
   * @param {Record<string, Content>} content
   */
  #content(told, description, content) {
    return html`<p>${words(description)}</p>
      ${Object.entries(content).map(([type, { schema, example, examples = {} }]) => {
        const shown = example === undefined ? Object.values(examples).map(({ $ref }) => told.components.examples[nameOf($ref)].value) : [example];
        return html`<p><code>${type}</code> ${typeOf(schema)}</p>
          ${shown.length
            ? html`<details class="api-example">
                <summary lang=${language}>${this.texts.example}</summary>
                ${shown.map((one) => html`<pre tabindex="0"><code>${JSON.stringify(one, null, 2)}</code></pre>`)}
              </details>`
            : nothing}`;
      })}`;
  }

  /**
   * @param {string} name
   * @param {Schema} schema
   */
  #model(name, schema) {
    const { properties = {}, required = [], description } = schema;
    return html`<article class="card-plain api-model" id="model-${name}" lang="en">
      <h3><code>${name}</code></h3>
      ${description ? html`<p>${words(description)}</p>` : nothing}
      ${Object.keys(properties).length
        ? html`<ul class="api-fields">
            ${Object.entries(properties).map(([field, one]) => this.#field(field, one, required.includes(field)))}
          </ul>`
        : nothing}
    </article>`;
  }

  /**
   * @param {string} name
   * @param {Schema} schema
   * @param {boolean} isRequired
   * @param {string} [place]
   */
  #field(name, schema, isRequired, place) {
    return html`<li>
      <code>${name}</code> <span class="muted">${typeOf(schema)}${limitsOf(schema)}</span>
      ${place ? html`<span class="muted" lang=${language}>· ${place}</span>` : nothing}
      ${isRequired ? html`<span class="api-required" lang=${language}>${this.texts.required}</span>` : nothing}
      ${schema.description ? html`<p>${words(schema.description)}</p>` : nothing}
    </li>`;
  }
}

/** @param {string} reference */
function nameOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

/**
 * A schema in few words, with a link where it has a name.
 *
 * @param {Schema} schema
 * @returns {unknown}
 */
function typeOf(schema) {
  if (schema.$ref?.startsWith(MODEL)) return html`<a class="link" href="#model-${nameOf(schema.$ref)}"><code>${nameOf(schema.$ref)}</code></a>`;
  if (schema.anyOf) return schema.anyOf.map((one, place) => html`${place ? " | " : nothing}${typeOf(one)}`);
  if (schema.const !== undefined) return html`<code>${JSON.stringify(schema.const)}</code>`;
  if (schema.enum) return html`<code>${schema.enum.map((one) => JSON.stringify(one)).join(" | ")}</code>`;
  if (schema.type === "array" && schema.items) return html`[${typeOf(schema.items)}]`;
  return [schema.type ?? "any"].flat().join(" | ") + (schema.format ? ` (${schema.format})` : "");
}

/** @param {Schema} schema */
function limitsOf({ minimum, maximum, minLength, maxLength, maxItems, default: usual }) {
  const limits = [
    minimum !== undefined && `≥ ${minimum}`,
    maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER && `≤ ${maximum}`,
    minLength !== undefined && `≥ ${minLength}`,
    maxLength !== undefined && `≤ ${maxLength}`,
    maxItems !== undefined && `≤ ${maxItems}`,
    usual !== undefined && usual !== null && `= ${JSON.stringify(usual)}`,
  ].filter(Boolean);
  return limits.length ? ` ${limits.join(", ")}` : "";
}

/**
 * A sentence in which backticks mark what is code.
 *
 * @param {string} sentence
 */
function words(sentence) {
  return sentence.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));
}

customElements.define("api-page", ApiPage);
