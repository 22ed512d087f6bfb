/** The texts of the language that the user reads: the one that was chosen, or the browser's. */

/** @import { Plural, Texts } from "./texts/en.js" */
/** @import { SectionTexts } from "./texts/sections_en.js" */
/** @typedef {keyof (Texts & SectionTexts)} TextKey */

/** Each comes only to those who read it. @type {Record<string, { name: string, load: () => Promise<Texts>, loadSections: () => Promise<SectionTexts>, loadRefusals?: () => Promise<Readonly<Record<string, string>>> }>} */
const LANGUAGES = {
  en: {
    name: "English",
    load: async () => (await import("./texts/en.js")).en,
    loadSections: async () => (await import("./texts/sections_en.js")).en,
  },
  sl: {
    name: "Slovenščina",
    load: async () => (await import("./texts/sl.js")).sl,
    loadSections: async () => (await import("./texts/sections_sl.js")).sl,
    loadRefusals: async () => (await import("./texts/refusals_sl.js")).refusals,
  },
};
const KEPT = "rapport-language";

/** The languages that there are, by code, with their own names. */
export const languages = Object.entries(LANGUAGES).map(([code, { name }]) => ({ code, name }));

/** The language of the texts: chosen before, or the browser's; or else that of a link's sender. */
export const language = chosen();

/** For dates and numbers: the browser's own way, where it speaks the language of the texts. */
export const locale = navigator.languages.find((one) => codeOf(one) === language) ?? language;

/** @type {Readonly<Record<string, string>>} */
const NO_WORDS = {};
// of English there are none: what refuses says so in English
const [loaded, refusals] = await Promise.all([LANGUAGES[language].load(), LANGUAGES[language].loadRefusals?.() ?? NO_WORDS]);
const texts = /** @type {Texts & SectionTexts} */ ({ ...loaded });
const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);

/** Adds the texts of the dashboard's sections, which pages without them do without. */
export async function loadSections() {
  Object.assign(texts, await LANGUAGES[language].loadSections());
}

/**
 * A text with its values, `{name}` being the place of one. Of a plural, `n` chooses the form.
 *
 * @param {TextKey} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function text(key, values = {}) {
  const found = texts[key];
  const forms = /** @type {Plural} */ (found);
  const form = typeof found === "string" ? found : (forms[plurals.select(Number(values.n))] ?? forms.other);
  return form.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name] ?? "";
    return typeof value === "number" ? numbers.format(value) : value;
  });
}

/**
 * The text for a word of the database, or the word itself where there is none.
 *
 * @param {string} kind
 * @param {string} word
 * @returns {string}
 */
export function word(kind, word) {
  const key = `${kind}.${word}`;
  return Object.hasOwn(texts, key) ? text(/** @type {TextKey} */ (key)) : word;
}

/**
 * Words for what was refused, or nothing where its own are the best.
 *
 * @param {{ name?: string, code?: string, field?: string, facts?: Readonly<Record<string, string>> }} error
 * @returns {string}
 */
export function refusalText({ name = "", code = "", field = "", facts = {} }) {
  const about = `${code} ${field.split(".").at(-1)}`;
  const fact = Object.keys(facts).find((one) => Object.hasOwn(refusals, `${about} ${one}`));
  const key = [`${about} ${fact}`, about, code, name].find((one) => Object.hasOwn(refusals, one));
  return key === undefined ? "" : refusals[key].replace(/\{(\w+)\}/g, (_, one) => facts[one] ?? "");
}

/**
 * Has the page speak another language from now on.
 *
 * @param {string} code
 */
export function choose(code) {
  localStorage.setItem(KEPT, code);
  location.reload();
}

function chosen() {
  const linked = globalThis.location ? (new URLSearchParams(location.search).get("language") ?? "") : "";
  const wishes = [localStorage.getItem(KEPT) ?? "", ...navigator.languages, linked].map(codeOf);
  return wishes.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en";
}

/** @param {string} tag */
function codeOf(tag) {
  return tag.split("-")[0].toLowerCase();
}
