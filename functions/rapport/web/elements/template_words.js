/** A template of WhatsApp with its variables filled, as the customer will see it. Nothing of it is trusted. */

/**
 * @typedef {object} Template as `sendable_templates` shows it
 * @property {string} id
 * @property {string} name
 * @property {string} language
 * @property {string} category
 * @property {unknown} components as WhatsApp describes them
 * @property {{ header?: string[], body?: string[], buttons?: string[] }} variables the names to fill
 *
 * @typedef {object} TemplateField what is to be filled
 * @property {string} key its name, such as body.1; of a place also its part, such as header.location.latitude
 * @property {string} variable
 * @property {"header" | "body" | "buttons"} part
 * @property {"text" | "link" | "latitude" | "longitude" | "place"} kind
 * @property {string} label what WhatsApp calls it: 1, first_name …
 * @property {string} example of WhatsApp's, or nothing
 * @property {string} around the words beside its place, such as “we see you on ___.”; nothing where there are none
 *
 * @typedef {object} Piece a piece of a text; `isOpen` where a variable is not filled yet
 * @property {string} words
 * @property {boolean} isOpen
 *
 * @typedef {object} Preview
 * @property {string | null} file what stands at the top, if not a text: image, video, document or location
 * @property {Piece[]} header
 * @property {Piece[]} body
 * @property {string} footer
 * @property {{ kind: string, words: string }[]} buttons
 */

const PLACE = /\{\{\s*([A-Za-z0-9_]+)\s*\}\}/g;
const FILES = ["image", "video", "document"];
const LONGEST = 1024;
// characters on each side of a variable by which its field is known
const BESIDE = 24;
/** Line breaks, tabs and more than four spaces, which WhatsApp refuses. */
const BROKEN = /[\r\n\t]| {5}/;

/**
 * What a template wants to know, in the order in which it is read.
 *
 * @param {Template} template
 * @returns {TemplateField[]}
 */
export function fieldsOf(template) {
  /** @type {TemplateField[]} */
  const fields = [];
  for (const part of /** @type {const} */ (["header", "body", "buttons"])) {
    for (const [index, variable] of strings(template.variables?.[part]).entries()) {
      const label = variable.split(".").at(-1) ?? variable;
      const field = { key: variable, variable, part, label, example: exampleOf(template, part, label, index), around: aroundOf(template, part, label) };
      if (part === "header" && FILES.includes(label)) fields.push({ ...field, kind: "link", example: "https://…" });
      else if (part === "header" && label === "location") {
        for (const kind of /** @type {const} */ (["latitude", "longitude", "place"])) fields.push({ ...field, key: `${variable}.${kind}`, kind, example: "" });
      } else fields.push({ ...field, kind: "text" });
    }
  }
  return fields;
}

/**
 * The content of the message.
 *
 * @param {Template} template
 * @param {Record<string, string>} values by the keys of the fields
 */
export function contentOf(template, values) {
  /** @type {Record<string, unknown>} */
  const variables = {};
  for (const { key, variable, kind } of fieldsOf(template)) {
    const value = (values[key] ?? "").trim();
    if (kind === "text") variables[variable] = value;
    else if (kind === "link") variables[variable] = { link: value };
    else {
      const place = /** @type {Record<string, unknown>} */ (variables[variable] ?? {});
      if (kind === "place") Object.assign(place, value ? { name: value } : {});
      else place[kind] = Number(value);
      variables[variable] = place;
    }
  }
  return { name: template.name, language: template.language, variables };
}

/**
 * What is wrong with a value: a word for it, or nothing.
 *
 * @param {TemplateField} field
 * @param {string} value
 * @returns {"" | "empty" | "long" | "broken" | "link" | "degrees"}
 */
export function faultOf({ kind }, value) {
  const words = value.trim();
  if (kind === "place") return words.length > 512 ? "long" : "";
  if (!words) return "empty";
  if (words.length > LONGEST) return "long";
  if (kind === "text") return BROKEN.test(words) ? "broken" : "";
  if (kind === "link") return /^https:\/\/\S+$/.test(words) && URL.canParse(words) ? "" : "link";
  return Math.abs(Number(words)) <= (kind === "latitude" ? 90 : 180) ? "" : "degrees";
}

/**
 * What the customer will see.
 *
 * @param {Template} template
 * @param {Record<string, string>} values
 * @returns {Preview}
 */
export function previewOf(template, values) {
  const parts = list(template.components);
  const of = (/** @type {string} */ type) => parts.find((one) => String(one?.type).toLowerCase() === type);
  const header = of("header");
  const format = String(header?.format ?? "text").toLowerCase();
  return {
    file: header && format !== "text" ? format : null,
    header: format === "text" ? filled(header?.text, "header", values) : [],
    body: filled(of("body")?.text, "body", values),
    footer: typeof of("footer")?.text === "string" ? of("footer").text : "",
    buttons: list(of("buttons")?.buttons).map((one) => ({ kind: String(one?.type ?? "").toLowerCase(), words: String(one?.text ?? "") })),
  };
}

/**
 * The words of a template without its variables, to look for it.
 *
 * @param {Template} template
 */
export function summaryOf(template) {
  const body = list(template.components).find((one) => String(one?.type).toLowerCase() === "body");
  return typeof body?.text === "string" ? body.text : "";
}

/**
 * A text with its variables filled, from left to right: what fills one is not filled again.
 *
 * @param {unknown} words
 * @param {string} section
 * @param {Record<string, string>} values
 * @returns {Piece[]}
 */
function filled(words, section, values) {
  if (typeof words !== "string") return [];
  const pieces = [];
  let end = 0;
  for (const { 0: place, 1: label, index } of words.matchAll(PLACE)) {
    const value = (values[`${section}.${label}`] ?? "").trim();
    pieces.push({ words: words.slice(end, index), isOpen: false }, { words: value || "___", isOpen: !value });
    end = index + place.length;
  }
  pieces.push({ words: words.slice(end), isOpen: false });
  return pieces.filter((piece) => piece.words);
}

/**
 * The words beside a variable's place, which is shown as a line; nothing where there are none.
 *
 * @param {Template} template
 * @param {string} part
 * @param {string} label
 */
function aroundOf(template, part, label) {
  const component = list(template.components).find((one) => String(one?.type).toLowerCase() === part);
  if (part === "buttons" || typeof component?.text !== "string") return "";
  const words = component.text.replace(/\s+/g, " ").replace(/[*_~`]/g, "");
  const place = [...words.matchAll(PLACE)].find(({ 1: name }) => name === label);
  if (!place) return "";
  // up to the next variable, and whole words only
  const before = words.slice(0, place.index).split(PLACE).at(-1) ?? "";
  const [after = ""] = words.slice(place.index + place[0].length).split(PLACE);
  const first = before.length > BESIDE ? `…${before.slice(-BESIDE).replace(/^\S*/, "")}` : before;
  const last = after.length > BESIDE ? `${after.slice(0, BESIDE).replace(/\S*$/, "")}…` : after;
  // what ended the sentence before says nothing
  return /[\p{L}\p{N}]/u.test(first + last) ? `${first.replace(/^[\s,.;:!?)]+/, "")}___${last}`.trim() : "";
}

/**
 * WhatsApp's own example of a variable.
 *
 * @param {Template} template
 * @param {string} part
 * @param {string} label
 * @param {number} index
 */
function exampleOf(template, part, label, index) {
  const component = list(template.components).find((one) => String(one?.type).toLowerCase() === part);
  const example = component?.example ?? {};
  const named = list(example[`${part}_text_named_params`]).find((one) => one?.param_name === label)?.example;
  const listed = part === "body" ? list(example.body_text)[0]?.[index] : list(example.header_text)[index];
  const found = named ?? listed;
  return typeof found === "string" ? found : "";
}

/**
 * @param {unknown} value
 * @returns {any[]}
 */
function list(value) {
  return Array.isArray(value) ? value : [];
}

/**
 * @param {unknown} value
 * @returns {string[]}
 */
function strings(value) {
  return list(value).filter((one) => typeof one === "string");
}
