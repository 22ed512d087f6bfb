import { html, nothing } from "lit";
import { dateOf, weekdayOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { avatar, emptiness, reasonOf } from "@rapport/live/elements/parts.js";
import { ReadMarks } from "@rapport/live/elements/read_marks.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { AppPage, languageChoice, rowsOf } from "../common/app_page.js";
import { Inbox } from "./inbox.js";
import { readTemplates } from "./templates.js";

/** @import { Job, LiveChatContact, Outbox, Subscription } from "@rapport/live" */
/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */
/** @import { Login } from "../common/config.js" */

const STATUSES = /** @type {const} */ (["open", "pending", "closed"]);
// ms: a search while it is typed
const PAUSE = 200;

/** What belongs to the conversation that is open. */
class Opened {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #closing;

  /**
   * @param {DashboardPage} page
   * @param {string} id
   */
  constructor(page, id) {
    this.id = id;
    this.page = page;
    const live = /** @type {NonNullable<DashboardPage["live"]>} */ (page.live);
    /** @type {InboxRow | null} */
    this.row = null;
    /** @type {{ open: boolean, closes_at: string | null } | null} */
    this.window = null;
    this.messages = live.conversation(id, { onNewMessage: (message) => message.sender_type === "client" && this.readWindow() });
    // what was seen is marked even if another is opened meanwhile
    this.marks = new ReadMarks(
      (conversationId, seq) => this.messages.markRead(conversationId, seq),
      () => page.inbox?.hurry(),
    );
    this.customerTypes = live.typing("customer", id);
    this.staffTypes = live.typing("staff", id);
    /** @type {ReturnType<typeof live.jobs> | null} */
    this.jobs = null;
    void this.readWindow();
    void this.#readRow();
  }

  /** Until when free text may be sent. */
  async readWindow() {
    const { data } = await /** @type {any} */ (this.page.supabase).rpc("reply_window", { conversation_id: this.id });
    if (!data || this.page.opened !== this) return;
    this.window = data;
    clearTimeout(this.#closing);
    const left = data.closes_at ? Date.parse(data.closes_at) - Date.now() : 0;
    if (data.open && left > 0) this.#closing = setTimeout(() => this.readWindow(), Math.min(left + 1000, 2 ** 31 - 1));
    this.page.requestUpdate();
  }

  readTemplates = () => readTemplates(/** @type {any} */ (this.page.supabase), this.id);

  /** @param {InboxRow} row */
  take(row) {
    this.row = row;
    if (!this.jobs && row.customer_id && this.page.live) this.jobs = this.page.live.jobs(row.customer_id);
  }

  close() {
    clearTimeout(this.#closing);
    this.messages.close();
    this.customerTypes.close();
    this.staffTypes.close();
    this.jobs?.close();
  }

  /** A conversation that is not among the latest can be open as well. */
  async #readRow() {
    const { data, error } = await /** @type {any} */ (this.page.supabase).from("inbox").select("*").eq("id", this.id).maybeSingle();
    if (error || this.page.opened !== this || this.row) return;
    // an address of a conversation that is not the user's to see
    if (!data) return void (location.hash = "");
    this.take(data);
    this.page.requestUpdate();
  }
}

/** The desk: conversations, the one that is open, and its customer. */
export class DashboardPage extends AppPage {
  /** @override */
  static properties = {
    ...AppPage.properties,
    opened: { state: true },
    status: { state: true },
    name: { state: true },
    showsContact: { state: true },
    outbox: { state: true },
    refusal: { state: true },
  };

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #searching;

  constructor() {
    super();
    this.business = "";
    /** @type {Inbox | null} */
    this.inbox = null;
    /** @type {Subscription<LiveChatContact, {}> | null} */
    this.contacts = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {Opened | null} */
    this.opened = null;
    this.status = "";
    this.name = "";
    this.showsContact = false;
    this.refusal = "";
  }

  /** @override */
  get app() {
    return "dashboard";
  }

  /** @override */
  get heading() {
    return text("dashboard.title");
  }

  /** @override */
  get lead() {
    return text("dashboard.sign");
  }

  /**
   * @override
   * @param {Login} login
   */
  mayTry(login) {
    return login.role !== "customer";
  }

  /** @override */
  async enter() {
    const { supabase, live } = this;
    if (!supabase || !live) return;
    const accounts = await rowsOf(supabase.from("accounts").select("name").order("name"));
    if (!accounts.length) {
      await supabase.auth.signOut({ scope: "local" });
      throw new Error(text("dashboard.no-business"));
    }
    this.business = accounts.map(({ name }) => name).join(", ");
    this.contacts = live.contacts("live_chat");
    this.inbox = new Inbox(supabase, live);
    this.outbox = await live.openOutbox();
    window.addEventListener("hashchange", () => this.#follow());
    this.#follow();
  }

  /** @override */
  content() {
    const inbox = this.look("inbox", this.inbox);
    const contacts = this.look("contacts", this.contacts);
    const typing = this.look("typing", this.opened?.customerTypes);
    const row = inbox?.rows.find(({ id }) => id === this.opened?.id);
    if (row) this.opened?.take(row);
    const contact = contacts?.rows.find(({ id }) => id === this.opened?.row?.customer_id);
    return html`<div class="desk ${this.opened ? "desk-open" : ""} ${this.showsContact ? "desk-contact" : ""}">
      <header class="bar">
        <p class="brand">Rapport</p>
        <p class="bar-name" title=${this.business}>${this.business}</p>
        <connection-status variant="badge" .state=${this.state}></connection-status>
        ${languageChoice()}
        <button type="button" class="button" @click=${() => this.signOut()}>${text("sign.out")}</button>
      </header>
      <nav class="pane pane-inbox" aria-label=${text("inbox.label")}>
        <div class="pane-head">
          <h1>${text("inbox.label")}</h1>
          <label class="search">${icons.search}<span class="hidden">${text("inbox.search")}</span
            ><input type="search" placeholder=${text("inbox.search")} .value=${this.name} @input=${this.#search} /></label>
          <div class="segments" role="group" aria-label=${text("inbox.status")}>
            ${["", ...STATUSES].map(
              (status) =>
                html`<button type="button" aria-pressed=${this.status === status ? "true" : "false"} @click=${() => this.#filter(status)}>
                  ${status ? word("status", status) : text("inbox.all")}
                </button>`,
            )}
          </div>
        </div>
        <div class="pane-body">
          <inbox-list
            .rows=${inbox?.rows ?? []}
            .isLoaded=${inbox?.isLoaded ?? false}
            .hasMore=${inbox?.hasMore ?? false}
            .isFiltered=${!!(this.status || this.name)}
            .error=${inbox?.error ?? null}
            .selected=${this.opened?.id ?? ""}
            @conversation-open=${(/** @type {CustomEvent<string>} */ event) => (location.hash = event.detail)}
            @inbox-more=${() => this.inbox?.more()}
          ></inbox-list>
        </div>
      </nav>
      ${this.opened ? this.#conversation(this.opened, contact, typing?.isTyping ?? false) : html`<main class="pane pane-chat">
        ${emptiness(icons.chat, text("chat.choose"), text("chat.choose.more"))}</main>`}
      ${this.opened ? this.#face(this.opened, contact) : nothing}
    </div>`;
  }

  /**
   * @param {Opened} opened
   * @param {LiveChatContact | undefined} contact
   * @param {boolean} isTyping
   */
  #conversation(opened, contact, isTyping) {
    const { row, window: free } = opened;
    const name = contact?.name || (row ? row.customer_name || text("inbox.unnamed") : "…");
    const hint = free?.open && free.closes_at ? text("chat.window.until", { time: weekdayOf(free.closes_at) }) : "";
    return html`<main class="pane pane-chat">
      <div class="pane-head chat-head">
        <a class="button-icon chat-back" href="#" aria-label=${text("chat.back")}>${icons.back}</a>
        ${avatar(name, row?.customer_id ?? opened.id)}
        <div class="chat-who"><h2 title=${name}><bdi>${name}</bdi></h2><p class="muted">${row ? word("channel", row.channel) : ""}</p></div>
        ${row
          ? html`<label class="field-inline"
              ><span class="hidden">${text("inbox.status")}</span
              ><select @change=${(/** @type {Event} */ event) => this.#setStatus(opened, event)}>
                ${STATUSES.map((status) => html`<option value=${status} ?selected=${status === row.status} .selected=${status === row.status}>${word("status", status)}</option>`)}
              </select></label
            >`
          : nothing}
        <button type="button" class="button-icon chat-contact" aria-label=${text("chat.contact")} aria-expanded=${this.showsContact ? "true" : "false"}
          @click=${() => (this.showsContact = !this.showsContact)}>${icons.person}</button>
      </div>
      ${this.refusal ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${this.refusal}</p>` : nothing}
      <conversation-view
        .source=${opened.messages}
        .outbox=${this.outbox}
        .chat=${chatOf(opened.id)}
        side="operator"
        .label=${name}
        .channel=${row?.channel ?? ""}
        .files=${this.files}
        .readTemplates=${row?.channel === "whatsapp" ? opened.readTemplates : null}
        .isTyping=${isTyping}
        .hint=${hint}
        .closed=${free && !free.open ? text("chat.window.closed") : ""}
        @message-typed=${() => opened.staffTypes.say()}
        @messages-seen=${(/** @type {CustomEvent<{ conversationId: string, seq: number }>} */ event) => opened.marks.note(event.detail)}
      ></conversation-view>
    </main>`;
  }

  /**
   * @param {Opened} opened
   * @param {LiveChatContact | undefined} contact
   */
  #face(opened, contact) {
    const { row } = opened;
    const name = contact?.name || (row ? row.customer_name || text("inbox.unnamed") : "…");
    const facts = [
      [text("contact.phone"), contact?.phone],
      [text("contact.email"), contact?.email],
      [text("contact.username"), contact?.username],
      [text("contact.since"), contact && dateOf(contact.created_at)],
    ];
    return html`<aside class="pane pane-face" aria-label=${text("chat.contact")}>
      <div class="face-head">
        <button type="button" class="button-icon face-close" aria-label=${text("notification.dismiss")} @click=${() => (this.showsContact = false)}>${icons.close}</button>
        ${avatar(name, row?.customer_id ?? opened.id)}
        <h2><bdi>${name}</bdi></h2>
      </div>
      ${row && !row.customer_id
        ? html`<p class="muted">${text("contact.group")}</p>`
        : html`<dl class="facts">
              ${facts.map(([label, value]) => (value ? html`<div><dt>${label}</dt><dd><bdi>${value}</bdi></dd></div>` : nothing))}
              ${contact?.tags.length
                ? html`<div><dt>${text("contact.tags")}</dt><dd>${contact.tags.map((tag) => html`<span class="tag"><bdi>${tag}</bdi></span> `)}</dd></div>`
                : nothing}
            </dl>
            ${opened.jobs
              ? html`<h3>${text("jobs.title")}</h3>
                  <job-list
                  .source=${opened.jobs}
                  .write=${(/** @type {string} */ id, /** @type {Partial<Job>} */ patch) => opened.jobs?.update(id, patch)}
                  .add=${(/** @type {object} */ fields) => this.#addJob(opened, fields)}
                ></job-list>`
              : nothing}`}
    </aside>`;
  }

  #follow() {
    const id = location.hash.slice(1);
    if (id === (this.opened?.id ?? "")) return;
    this.opened?.close();
    this.refusal = "";
    this.showsContact = false;
    this.opened = /^[0-9a-f-]{36}$/i.test(id) ? new Opened(this, id) : null;
  }

  /** @param {InputEvent} event */
  #search(event) {
    this.name = /** @type {HTMLInputElement} */ (event.target).value;
    clearTimeout(this.#searching);
    this.#searching = setTimeout(() => this.inbox?.filter({ status: this.status, name: this.name }), PAUSE);
  }

  /** @param {string} status */
  #filter(status) {
    this.status = status;
    this.inbox?.filter({ status, name: this.name });
  }

  /**
   * @param {Opened} opened
   * @param {Event} event
   */
  async #setStatus(opened, event) {
    const status = /** @type {HTMLSelectElement} */ (event.target).value;
    this.refusal = "";
    try {
      await rowsOf(/** @type {any} */ (this.supabase).rpc("set_conversation_status", { conversation_id: opened.id, status }));
    } catch (error) {
      this.refusal = reasonOf(error);
    }
    this.inbox?.hurry();
    this.requestUpdate();
  }

  /**
   * @param {Opened} opened
   * @param {object} fields
   */
  async #addJob(opened, fields) {
    const { error } = await /** @type {any} */ (this.supabase)
      .from("jobs")
      .insert({ ...fields, customer_id: opened.row?.customer_id, account_id: opened.row?.account_id });
    if (error) throw new Error(error.message);
  }
}

/** @type {Map<string, { conversationId: string }>} */
const chats = new Map();

/**
 * The same object for the same chat, since elements compare by identity.
 *
 * @param {string} conversationId
 */
function chatOf(conversationId) {
  const chat = chats.get(conversationId) ?? { conversationId };
  chats.set(conversationId, chat);
  return chat;
}

customElements.define("dashboard-page", DashboardPage);
