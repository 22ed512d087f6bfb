import { html, nothing } from "lit";
import "@rapport/live/elements/connection_status.js";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { icons } from "@rapport/live/elements/icons.js";
import { emptiness, reasonOf, skeleton, trouble } from "@rapport/live/elements/parts.js";
import { text } from "@rapport/live/elements/texts.js";
import { AppPage, WrongPage, languageChoice, rowsOf } from "../common/app_page.js";
import { Desk, readAccounts } from "./desk.js";
import { EVERYTHING, Inbox } from "./inbox.js";
import "./inbox_pane.js";
import { Opened } from "./opened.js";

/** @import { Outbox } from "@rapport/live" */
/** @import { Login } from "../common/config.js" */
/** @import { Account, Member } from "./desk.js" */

const CONVERSATION = /^[0-9a-f-]{36}$/i;
const CHOSEN = "rapport-account";

/** The parts of the desk beside the inbox; each is loaded when it is opened first. */
const SECTIONS = /** @type {const} */ ({
  contacts: { drawing: deskIcons.contacts, load: () => import("./contacts.js") },
  reminders: { drawing: deskIcons.bell, load: () => import("./reminders.js") },
  metakocka: { drawing: deskIcons.sync, load: () => import("./metakocka.js") },
  health: { drawing: deskIcons.pulse, load: () => import("./health.js") },
  settings: { drawing: deskIcons.settings, load: () => import("./settings.js") },
});

/** @typedef {keyof typeof SECTIONS} Section */

/** The desk: conversations, the one that is open, and its customer; beside them the other sections. */
export class DashboardPage extends AppPage {
  /** @override */
  static properties = {
    ...AppPage.properties,
    desk: { state: true },
    opened: { state: true },
    section: { state: true },
    path: { state: true },
    loaded: { state: true },
    loadFailure: { state: true },
    showsContact: { state: true },
    outbox: { state: true },
  };

  /** The conversation to which the way back from a section leads. */
  #last = "";

  constructor() {
    super();
    this.userId = "";
    /** Those for which the user works. @type {readonly Account[]} */
    this.accounts = [];
    /** Who works for them. @type {readonly (Member & { account_id: string })[]} */
    this.members = [];
    /** @type {Desk | null} */
    this.desk = null;
    /** @type {Inbox | null} */
    this.inbox = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {Opened | null} */
    this.opened = null;
    /** @type {Section | ""} */
    this.section = "";
    /** What is open in the section. */
    this.path = "";
    /** The sections whose code has come. @type {ReadonlySet<string>} */
    this.loaded = new Set();
    this.loadFailure = "";
    this.showsContact = false;
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
    return text(this.prefersLink ? "dashboard.invited" : "dashboard.sign");
  }

  /** @override */
  get prefersLink() {
    return !!invitation();
  }

  /** @override */
  get knownEmail() {
    return new URLSearchParams(location.search).get("email") ?? "";
  }

  /** @override */
  get place() {
    return this.desk?.presence.scope ?? null;
  }

  /** @override */
  async isStillMine() {
    const { desk } = this;
    if (!desk) return true;
    const asked = desk.from("account_members").select("role").match({ account_id: desk.account.id, user_id: desk.userId });
    // the next one is asked about for itself
    return (await desk.ask(asked)).length > 0 || desk !== this.desk;
  }

  /** @override */
  get farewell() {
    return /** @type {[string, string]} */ ([text("dashboard.lost", { business: this.desk?.account.name ?? "" }), text("dashboard.lost.more")]);
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
    const token = invitation();
    if (token) localStorage.setItem(CHOSEN, await (await import("./invited.js")).answerInvitation(supabase, token));
    Object.assign(this, await readAccounts(supabase, live));
    if (!this.accounts.length) {
      const customers = await rowsOf(supabase.from("my_profile").select("id").limit(1));
      if (customers.length) throw new WrongPage(text("dashboard.customer"), "portal");
      await supabase.auth.signOut({ scope: "local" });
      throw new Error(text("dashboard.no-business"));
    }
    const kept = localStorage.getItem(CHOSEN);
    this.#sit(this.accounts.find(({ id }) => id === kept) ?? this.accounts[0]);
    // the list need not wait for it
    void live.openOutbox().then((outbox) => (this.outbox = outbox));
    window.addEventListener("hashchange", () => this.#follow());
    navigator.serviceWorker?.addEventListener("message", ({ data }) => CONVERSATION.test(data?.id) && (location.hash = data.id));
    this.#follow();
  }

  /** @override */
  content() {
    const { desk, opened, section } = this;
    if (!desk) return nothing;
    const name = this.#nameOf(opened);
    return html`<div class="desk ${opened && !section ? "desk-open" : ""} ${this.showsContact ? "desk-contact" : ""} ${section ? "desk-section" : ""}">
      <header class="bar">
        <p class="brand">Rapport</p>
        ${this.accounts.length > 1
          ? html`<label class="field-inline bar-name"
              ><span class="hidden">${text("desk.account")}</span
              ><select @change=${this.#change}>
                ${this.accounts.map(({ id, name: business }) => html`<option value=${id} .selected=${id === desk.account.id}>${business}</option>`)}
              </select></label
            >`
          : html`<p class="bar-name" title=${desk.account.name}>${desk.account.name}</p>`}
        <connection-status variant="badge" .state=${this.state}></connection-status>
        ${languageChoice()}
        <button type="button" class="button" @click=${() => this.signOut()}>${text("sign.out")}</button>
      </header>
      ${this.#rail(desk)}
      ${section
        ? html`<main class="pane pane-section">${this.#sectionOf(desk, section)}</main>`
        : html`<inbox-pane
              role="navigation"
              aria-label=${text("inbox.label")}
              class="pane pane-inbox"
              .desk=${desk}
              .inbox=${this.inbox}
              .selected=${opened?.id ?? ""}
              @conversation-open=${(/** @type {CustomEvent<string>} */ event) => (location.hash = event.detail)}
            ></inbox-pane>
            ${opened
              ? html`<main class="pane pane-chat">
                    ${this.loadFailure ? trouble(text("page.failed"), { message: this.loadFailure }) : nothing}
                    <conversation-pane
                      .desk=${desk}
                      .inbox=${this.inbox}
                      .opened=${opened}
                      .outbox=${this.outbox}
                      .files=${this.files}
                      .name=${name}
                      .showsContact=${this.showsContact}
                      @contact-toggle=${this.#toggle}
                    ></conversation-pane>
                  </main>
                  <aside class="pane pane-face" aria-label=${text("chat.contact")}>
                    <customer-face .desk=${desk} .opened=${opened} .row=${this.inbox?.rows.getSnapshot().pinned ?? null} .name=${name} @contact-toggle=${this.#toggle}></customer-face>
                  </aside>`
              : html`<main class="pane pane-chat">${this.#isEmpty
                  ? emptiness(icons.chat, text("chat.none"), text("chat.none.more"))
                  : html`${emptiness(icons.chat, text("chat.choose"), text("chat.choose.more"))}
                      <p class="keys muted"><kbd>j</kbd> <kbd>k</kbd> ${text("desk.keys.move")} <kbd>/</kbd> ${text("desk.keys.search")}</p>`}</main>`}`}
    </div>`;
  }

  /** The ways to the sections, at the side or, on a telephone, beneath. @param {Desk} desk */
  #rail(desk) {
    const wrong = this.look("health", desk.health)?.rows.filter(({ account_id }) => account_id === desk.account.id).length ?? 0;
    return html`<nav class="rail" aria-label=${text("desk.sections")}>
      <a href="#${this.#last}" class="rail-door" aria-current=${this.section ? "false" : "page"}>${deskIcons.inbox}<span>${text("desk.inbox")}</span></a>
      ${/** @type {Section[]} */ (Object.keys(SECTIONS)).map(
        (name) => html`<a href="#/${name}" class="rail-door" aria-current=${this.section === name ? "page" : "false"}>
          ${SECTIONS[name].drawing}<span>${text(`desk.${name}`)}</span>
          ${name === "health" && wrong ? html`<span class="badge badge-bad"><span aria-hidden="true">${wrong}</span><span class="hidden">${text("health.count", { n: wrong })}</span></span>` : nothing}
        </a>`,
      )}
    </nav>`;
  }

  /**
   * @param {Desk} desk
   * @param {Section} section
   */
  #sectionOf(desk, section) {
    if (this.loadFailure) return trouble(text("page.failed"), { message: this.loadFailure });
    if (!this.loaded.has(section)) return skeleton(5);
    const { path } = this;
    switch (section) {
      case "contacts":
        return html`<contacts-page .desk=${desk} .path=${path}></contacts-page>`;
      case "reminders":
        return html`<reminders-page .desk=${desk}></reminders-page>`;
      case "metakocka":
        return html`<metakocka-page .desk=${desk}></metakocka-page>`;
      case "health":
        return html`<health-page .desk=${desk} .path=${path}></health-page>`;
      case "settings":
        return html`<settings-page .desk=${desk} .path=${path} @account-change=${(/** @type {CustomEvent<Account>} */ event) => this.#rename(event.detail)}></settings-page>`;
    }
  }

  /** Whether there is no conversation at all to choose. */
  get #isEmpty() {
    const { inbox } = this;
    const shown = inbox?.rows.getSnapshot();
    return !!shown?.isLoaded && !shown.isLoading && !shown.rows.length && inbox?.choice === EVERYTHING;
  }

  /** @param {Opened | null} opened */
  #nameOf(opened) {
    const shown = this.look("inbox", this.inbox?.rows);
    const row = shown?.pinned ?? null;
    opened?.take(row);
    const contact = this.look("contact", opened?.customer?.contact)?.rows[0];
    return contact?.name || contact?.profile_name || (row ? row.customer_name || text("inbox.unnamed") : "…");
  }

  /** Sits down at the desk of an account. @param {Account} account */
  #sit(account) {
    const { supabase, live } = this;
    if (!supabase || !live) return;
    this.#close();
    this.inbox?.close();
    this.desk?.close();
    // what is followed first is shown first
    this.inbox = new Inbox({ live, account, userId: this.userId });
    this.desk = new Desk(supabase, live, account, this.members.filter(({ account_id }) => account_id === account.id), this.userId, this.config?.functions_url);
  }

  /** @param {Event} event */
  #change(event) {
    const id = /** @type {HTMLSelectElement} */ (event.target).value;
    localStorage.setItem(CHOSEN, id);
    const account = this.accounts.find((one) => one.id === id);
    if (location.hash.length > 1 && !this.section) history.replaceState(null, "", location.pathname);
    if (account) this.#sit(account);
  }

  /** @param {Account} account as it was changed */
  #rename(account) {
    this.accounts = this.accounts.map((one) => (one.id === account.id ? account : one));
    if (this.desk) this.desk.account = account;
    this.requestUpdate();
  }

  #toggle() {
    this.showsContact = !this.showsContact;
  }

  #close() {
    this.opened?.close();
    this.opened = null;
    this.inbox?.rows.pin(null);
    this.showsContact = false;
  }

  #follow() {
    const hash = location.hash.slice(1);
    const [, name = "", path = ""] = /^\/(\w+)\/?(.*)$/.exec(hash) ?? [];
    this.section = Object.hasOwn(SECTIONS, name) ? /** @type {Section} */ (name) : "";
    this.path = path;
    if (this.section) void this.#load(this.section);
    const id = CONVERSATION.test(hash) ? hash : "";
    if (id === (this.opened?.id ?? "")) return;
    if (!this.section) this.#last = id;
    this.#close();
    const { desk, inbox } = this;
    if (!id || !desk || !inbox) return;
    this.loadFailure = "";
    void openingLoaded().catch((error) => (this.loadFailure = reasonOf(error)));
    this.opened = new Opened(desk, id, () => this.requestUpdate(), () => this.#check(id));
    inbox.rows.pin(id);
    void this.#check(id);
  }

  /** Leaves an address of a conversation that is not the user's to see. @param {string} id */
  async #check(id) {
    const { desk } = this;
    const found = await desk?.ask(desk.from("inbox").select("id").eq("id", id)).catch(() => null);
    if (found && !found.length && this.opened?.id === id) location.hash = "";
  }

  /** @param {Section} section */
  async #load(section) {
    this.loadFailure = "";
    if (this.loaded.has(section)) return;
    try {
      await SECTIONS[section].load();
      this.loaded = new Set([...this.loaded, section]);
    } catch (error) {
      this.loadFailure = reasonOf(error);
    }
  }
}

/** With which the page was opened. */
function invitation() {
  return new URLSearchParams(location.search).get("invitation");
}

/** What shows a conversation, which the list alone does not need; the browser keeps it. */
function openingLoaded() {
  return Promise.all([import("./conversation_pane.js"), import("./customer_face.js")]);
}

customElements.define("dashboard-page", DashboardPage);
