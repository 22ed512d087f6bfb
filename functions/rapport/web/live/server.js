import { readEvent } from "./events.js";
import { NotSignedIn, Unavailable, Unreadable, refusal } from "./errors.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Event, Json } from "./events.js" */
/** @import { Timing } from "./timing.js" */

/**
 * A private topic that the user may join: account, customer, conversation, or one of those on
 * which people see each other.
 *
 * @typedef {{ topic: string, kind: string, id: string }} Topic
 *
 * An answer of `changes_since`.
 *
 * @typedef {{ cursor: string, changes: Event[], more: boolean, resync: boolean }} ChangesPage
 */

const PAGE = 1000;
const IDS_IN_A_URL = 100;

/**
 * The project's REST interface as the signed-in user, on the app's own client. Every method throws
 * what the database refuses, and Unavailable when it can't be reached.
 */
export class Server {
  /**
   * @param {SupabaseClient<any, any, any>} supabase
   * @param {Timing} timing
   */
  constructor(supabase, timing) {
    this.supabase = supabase;
    this.timing = timing;
  }

  /**
   * Who is signed in, and from and until when the token of the moment is good, by the server's
   * clock. Throws NotSignedIn, and Unavailable where it can't be told.
   *
   * @returns {Promise<{ user: string, issuedAt: number, expiresAt: number }>} in ms since 1970
   */
  async session() {
    const { realtime } = this.supabase;
    if (!hasSessions(this.supabase)) {
      const token = await realtime.accessToken?.().catch((/** @type {unknown} */ cause) => {
        throw new Unavailable("No access token can be had at the moment.", { cause });
      });
      return claims(token ?? "");
    }
    const { data, error } = await this.supabase.auth.getSession();
    // a session that can't be renewed without network is still one
    if (error && error.name === "AuthRetryableFetchError") throw new Unavailable("The session can't be renewed at the moment.", { cause: error });
    return claims(data.session?.access_token ?? "");
  }

  /** Asks for a new session after a token was refused, since clocks may differ. */
  async renew() {
    // tokens of another provider are that one's to renew
    if (hasSessions(this.supabase)) await this.supabase.auth.refreshSession().catch(() => {});
  }

  /**
   * The topics that the user may join, and the given conversation's.
   *
   * @param {string | null} [conversation]
   * @returns {Promise<Topic[]>}
   */
  async myTopics(conversation = null) {
    return list(await this.rpc("my_topics", { conversation_id: conversation }));
  }

  /**
   * Whose rows the user sees: by account as staff, by customer as that customer.
   *
   * @returns {Promise<{ [column: string]: string }[]>}
   */
  async owners() {
    const mine = await this.myTopics();
    return mine
      .filter(({ kind }) => kind === "account" || kind === "customer")
      .map(({ kind, id }) => ({ [`${kind}_id`]: id }));
  }

  /**
   * What has changed since a cursor; without one, the first cursor.
   *
   * @param {string | null} cursor
   * @returns {Promise<ChangesPage>}
   */
  async changesSince(cursor) {
    const page = /** @type {any} */ (await this.rpc("changes_since", { cursor, page_size: PAGE }));
    if (typeof page?.cursor !== "string") throw new Unreadable("The change log's answer can't be read.");
    const changes = list(page.changes).flatMap((change) => readEvent(change) ?? []);
    // what can't be read as a change can be read as the rows stand
    const resync = !!page.resync || changes.length < page.changes.length;
    return { cursor: page.cursor, changes, more: !!page.more, resync };
  }

  /**
   * All rows whose columns equal the given values, read in pages by a unique key.
   *
   * @param {string} table
   * @param {Record<string, unknown>} equals
   * @param {string} [key]
   * @param {unknown} [after]
   * @returns {Promise<Json[]>}
   */
  async all(table, equals, key = "id", after = null) {
    /** @type {Json[]} */
    const found = [];
    for (let last = after, size = PAGE; size === PAGE; last = found.at(-1)?.[key]) {
      let query = this.#from(table).match(equals);
      if (last !== null) query = query.gt(key, last);
      const page = list(await this.ask(query.order(key).limit(PAGE)));
      found.push(...page);
      size = page.length;
    }
    return found;
  }

  /**
   * Those of the rows that can be seen.
   *
   * @param {string} table
   * @param {string[]} ids
   * @returns {Promise<Json[]>}
   */
  async rows(table, ids) {
    const found = [];
    for (let start = 0; start < ids.length; start += IDS_IN_A_URL) {
      const some = ids.slice(start, start + IDS_IN_A_URL);
      found.push(...list(await this.ask(this.#from(table).in("id", some))));
    }
    return found;
  }

  /**
   * Writes columns of a row and returns it as it is then. Throws NotFound where nothing was hit.
   *
   * @param {string} table
   * @param {string} id
   * @param {Json} patch
   * @returns {Promise<Json>}
   */
  async update(table, id, patch) {
    const query = this.#schema.from(table).update(patch).eq("id", id).select("*");
    const [row] = list(await this.ask(query));
    if (!row) throw refusal({ code: "PT404", message: "There is no such row, or not for you to write." }, 404);
    return row;
  }

  /**
   * @param {string} name
   * @param {Json} given
   */
  rpc(name, given) {
    return this.ask(this.#schema.rpc(name, given));
  }

  /**
   * Throws NotSignedIn where nobody is: the official client would send the project's key instead.
   *
   * @param {any} query of the official client
   * @returns {Promise<unknown>}
   */
  async ask(query) {
    await this.session();
    const { data, error, status } = await query.retry(false).abortSignal(AbortSignal.timeout(this.timing.requestTimeout));
    if (error) throw refusal(error, status);
    return data;
  }

  get #schema() {
    return this.supabase.schema("public");
  }

  /** @param {string} table */
  #from(table) {
    return this.#schema.from(table).select("*");
  }
}

/**
 * @param {unknown} answer
 * @returns {any[]}
 */
function list(answer) {
  if (!Array.isArray(answer)) throw new Unreadable("The server's answer can't be read.");
  return answer;
}

/**
 * Whether the official client keeps sessions, or is given tokens of another provider.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 */
export function hasSessions(supabase) {
  try {
    return !!supabase.auth.getSession;
  } catch {
    return false;
  }
}

/**
 * What a client reads of its own token; the server alone can verify it.
 *
 * @param {string} token
 */
function claims(token) {
  try {
    const { sub, iat = 0, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    if (typeof sub === "string") return { user: sub, issuedAt: iat * 1000, expiresAt: exp * 1000 };
  } catch {
    // the project's key stands where there is no session, and it is no user's
  }
  throw new NotSignedIn("Nobody is signed in. Sign in with supabase.auth first.");
}
