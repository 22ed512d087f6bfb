/** Where the project is: a small file beside the pages, so that the pages themselves are the same for every project. */

/**
 * @typedef {object} Login for trying it out
 * @property {string} email
 * @property {string} password
 * @property {string} role
 * @property {string} account
 *
 * @typedef {object} Phone a customer's, that the phone page plays
 * @property {string} name
 * @property {string} number
 * @property {string} phone_number_id
 * @property {string} business
 *
 * @typedef {object} Config
 * @property {string} url of the project
 * @property {string} publishable_key
 * @property {string} [functions_url] of the HTTP functions; without it files are not shown
 * @property {Login[]} [logins] on a project for trying it out
 * @property {Phone[]} [phones]
 */

/** @returns {Promise<Config>} */
export async function readConfig() {
  const answer = await fetch(new URL("../config.json", import.meta.url), { cache: "no-store" });
  if (!answer.ok) throw new Error(`config.json: ${answer.status}`);
  return answer.json();
}
