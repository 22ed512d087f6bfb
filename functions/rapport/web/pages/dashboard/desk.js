import { personId } from "@rapport/live";
import { followDesk, stayAtDesk } from "@rapport/live/desk";
import { insist } from "../../live/desk/insist.js";
import { askFunctions } from "../common/ask_functions.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Live, Presence } from "@rapport/live" */

/**
 * @typedef {object} Account
 * @property {string} id
 * @property {string} name
 * @property {string | null} country
 * @property {string} time_zone
 * @property {"en" | "sl"} language
 * @property {boolean} assigns_in_turn
 * @property {string | null} quiet_from
 * @property {string | null} quiet_until
 *
 * @typedef {object} Member
 * @property {string} user_id
 * @property {"owner" | "admin" | "agent" | "viewer"} role
 * @property {string} display_name
 * @property {string} person_id as presence names the member
 *
 * @typedef {{ id: string, account_id: string, name: string, colour: string }} Label
 * @typedef {{ id: string, account_id: string, short_code: string, title: string | null, text: string }} SavedReply
 */

export const ACCOUNT_COLUMNS = "id,name,country,time_zone,language,assigns_in_turn,quiet_from,quiet_until";

/**
 * The accounts for which the user works, by name, and who works for each.
 *
 * @param {SupabaseClient} supabase
 * @param {Live} live
 * @returns {Promise<{ userId: string, accounts: Account[], members: (Member & { account_id: string })[] }>}
 */
export async function readAccounts(supabase, live) {
  const { server } = live.hub;
  const [{ user }, accounts, members] = await Promise.all([
    server.session(),
    server.ask(supabase.from("accounts").select(ACCOUNT_COLUMNS).order("name")),
    server.ask(supabase.from("account_members").select("account_id,user_id,role,display_name").order("display_name")),
  ]);
  const named = /** @type {any[]} */ (members).map(async (member) => ({ ...member, person_id: await personId(member.user_id) }));
  return { userId: user, accounts: /** @type {Account[]} */ (accounts), members: await Promise.all(named) };
}

/** The desk of one account: its people, labels, saved replies and health, and who is there. */
export class Desk {
  /** @type {(() => void)[]} */
  #ends = [];
  /** Answers that were begun, by conversation, for as long as the page is open. @type {Map<string, string>} */
  drafts = new Map();
  /** Notes that were begun, by conversation. @type {Map<string, string>} */
  draftNotes = new Map();
  #isClosed = false;

  /**
   * @param {SupabaseClient} supabase
   * @param {Live} live
   * @param {Account} account
   * @param {readonly Member[]} members
   * @param {string} userId
   * @param {string} [functionsUrl]
   */
  constructor(supabase, live, account, members, userId, functionsUrl) {
    this.supabase = /** @type {any} */ (supabase);
    this.live = live;
    this.account = account;
    this.members = members;
    this.userId = userId;
    /** Of the HTTP functions, where there are any. */
    this.functionsUrl = functionsUrl;
    /** Who is at the desk. @type {Presence} */
    this.presence = live.presence("desk", account.id);
    void this.presence.showMe();
    this.#ends.push(this.presence.close);
    this.labels = this.#follow("labels");
    this.replies = this.#follow("saved_replies");
    this.health = this.#follow("account_health");
    // a user writes one thing at a time: first come the rows that are to be seen
    void this.labels
      .ready()
      .catch(() => {})
      .then(() => this.#isClosed || this.#ends.push(stayAtDesk(live, account.id)));
  }

  /** The member who is signed in. */
  get me() {
    return this.members.find(({ user_id }) => user_id === this.userId);
  }

  get isAdmin() {
    return ["owner", "admin"].includes(this.me?.role ?? "");
  }

  /** Whether the user may write here, and not only read. */
  get isWriter() {
    return !!this.me && this.me.role !== "viewer";
  }

  /** Those who may answer. */
  get writers() {
    return this.members.filter(({ role }) => role !== "viewer");
  }

  /** @param {string | null | undefined} userId */
  nameOf(userId) {
    return this.members.find(({ user_id }) => user_id === userId)?.display_name ?? "";
  }

  /**
   * The members who are among those whom presence names, without the user.
   *
   * @param {Readonly<Record<string, unknown>>} online
   */
  othersIn(online) {
    return this.members.filter(({ person_id, user_id }) => user_id !== this.userId && person_id in online);
  }

  /** @returns {readonly Label[]} */
  get labelRows() {
    return /** @type {any} */ (this.labels.getSnapshot().rows.filter((row) => row.account_id === this.account.id));
  }

  /** @returns {readonly SavedReply[]} */
  get replyRows() {
    return /** @type {any} */ (this.replies.getSnapshot().rows.filter((row) => row.account_id === this.account.id));
  }

  /**
   * Calls a function of the database; throws what it refuses as a LiveError.
   *
   * @param {string} name
   * @param {Record<string, unknown>} given
   * @returns {Promise<any>}
   */
  call(name, given) {
    const { server } = this.live.hub;
    return insist(() => server.rpc(name, given));
  }

  /**
   * The answer to a query of the official client; throws what is refused as a LiveError.
   *
   * @param {any} query
   * @returns {Promise<any>}
   */
  ask(query) {
    const { server } = this.live.hub;
    return insist(() => server.ask(query));
  }

  /** @param {string} table */
  from(table) {
    return this.supabase.from(table);
  }

  /** A phone number as it is written in the account's country. @param {string} phone */
  async readPhone(phone) {
    // with the forms that need it
    const { readPhone } = await import("../common/phone_reader.js");
    return readPhone(this.supabase, this.functionsUrl, phone, this.account.id);
  }

  /**
   * Shows the customer on WhatsApp that staff have read up to this seq. It is only shown: where
   * nobody answers, the marks of the database are right all the same.
   *
   * @param {string} conversationId
   * @param {number} upToSeq
   */
  async showRead(conversationId, upToSeq) {
    if (!this.functionsUrl || !this.isWriter) return;
    await askFunctions(this.supabase, this.functionsUrl, `/api/conversations/${conversationId}/read`, { upToSeq });
  }

  close() {
    this.#isClosed = true;
    for (const end of this.#ends) end();
  }

  /**
   * @template {"labels" | "saved_replies" | "account_health"} T
   * @param {T} table
   */
  #follow(table) {
    const followed = followDesk(this.live, table);
    this.#ends.push(followed.close);
    return followed;
  }
}
