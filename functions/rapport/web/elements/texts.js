/** The texts of the language that the user reads: the one that was chosen, or the browser's. */

/** @import { Plural, Texts } from "./texts/en.js" */
/** @import { CustomerTexts } from "./texts/customers_en.js" */
/** @import { SectionTexts } from "./texts/sections_en.js" */
/** @import { SeldomTexts } from "./texts/seldom_en.js" */
/** @typedef {keyof (Texts & CustomerTexts & SectionTexts & SeldomTexts)} TextKey */
/** @typedef {{ customers: () => Promise<CustomerTexts>, sections: () => Promise<SectionTexts>, seldom: () => Promise<SeldomTexts> }} More the texts of some pages and elements alone */

/** Each comes only to those who read it. @type {Record<string, { name: string, load: () => Promise<Texts>, more: More, loadRefusals?: () => Promise<Readonly<Record<string, string>>> }>} */
const LANGUAGES = {
  en: {
    name: "English",
    load: async () => (await import("./texts/en.js")).en,
    more: {
      customers: async () => (await import("./texts/customers_en.js")).en,
      sections: async () => (await import("./texts/sections_en.js")).en,
      seldom: async () => (await import("./texts/seldom_en.js")).en,
    },
  },
  sl: {
    name: "Slovenščina",
    load: async () => (await import("./texts/sl.js")).sl,
    more: {
      customers: async () => (await import("./texts/customers_sl.js")).sl,
      sections: async () => (await import("./texts/sections_sl.js")).sl,
      seldom: async () => (await import("./texts/seldom_sl.js")).sl,
    },
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
const texts = /** @type {Texts & CustomerTexts & SectionTexts & SeldomTexts} */ ({ ...loaded });
const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);

/**
 * Adds texts that most do without: of the customer's pages, of the dashboard's sections, or of
 * elements that are opened now and then.
 *
 * @param {keyof More} part
 */
export async function loadTexts(part) {
  Object.assign(texts, await LANGUAGES[language].more[part]());
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
