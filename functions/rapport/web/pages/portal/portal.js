import { html, nothing } from "lit";
import { amountOf, appointmentTime } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { ReadMarks } from "@rapport/live/elements/read_marks.js";
import { text, word } from "@rapport/live/elements/texts.js";
import { AppPage, languageChoice, rowsOf } from "../common/app_page.js";

/** @import { Invoice, Job, LoyaltySubscription, Message, MessageSubscription, Outbox, Subscription } from "@rapport/live" */
/** @import { NotificationStack, NotificationType } from "@rapport/live/elements/realtime_notification.js" */
/** @import { Login } from "../common/config.js" */

const PARTS = /** @type {const} */ (["jobs", "invoices", "points", "chat"]);
/** @typedef {typeof PARTS[number]} Part */
const ICONS = { jobs: icons.calendar, invoices: icons.invoice, points: icons.gift, chat: icons.chat };

/** What a customer sees: appointments, invoices, points and the chat, as they change. */
export class PortalPage extends AppPage {
  /** @override */
  static properties = { ...AppPage.properties, shows: { state: true }, outbox: { state: true } };

  constructor() {
    super();
    /** @type {{ id: string, name: string | null, account_name: string } | null} */
    this.profile = null;
    /** @type {Subscription<Job, {}> | null} */
    this.jobs = null;
    /** @type {Subscription<Invoice, {}> | null} */
    this.invoices = null;
    /** @type {LoyaltySubscription | null} */
    this.loyalty = null;
    /** @type {MessageSubscription | null} */
    this.messages = null;
    /** @type {ReadMarks | null} */
    this.marks = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {{ customerId: string } | null} */
    this.chat = null;
    /** What a narrow screen shows. @type {Part} */
    this.shows = "jobs";
  }

  /** @override */
  get app() {
    return "portal";
  }

  /** @override */
  get heading() {
    return text("portal.title");
  }

  /** @override */
  get lead() {
    return text("portal.sign");
  }

  /**
   * @override
   * @param {Login} login
   */
  mayTry(login) {
    return login.role === "customer";
  }

  /** Answers the invitation with which the page was opened. */
  async #claim() {
    const token = new URLSearchParams(location.search).get("invitation");
    if (!token || !this.supabase) return;
    const { error } = await this.supabase.rpc("claim_portal_invitation", { token });
    // it is good for once
    history.replaceState(null, "", location.pathname);
    if (error) throw new Error(error.message);
  }

  /** @override */
  async enter() {
    const { supabase, live } = this;
    if (!supabase || !live) return;
    await this.#claim();
    const [profile] = await rowsOf(supabase.from("my_profile").select("id,name,account_name").order("id").limit(1));
    if (!profile) {
      await supabase.auth.signOut({ scope: "local" });
      throw new Error(text("portal.no-customer"));
    }
    this.profile = profile;
    this.chat = { customerId: profile.id };
    this.jobs = live.jobs(profile.id, {
      onInsert: (job) => this.#note("job", text("toast.job.new"), jobText(job)),
      onUpdate: (job, old) => this.#jobChanged(job, old),
    });
    this.invoices = live.invoices(profile.id, {
      onInsert: (invoice) => this.#note("invoice", text("toast.invoice.new"), invoiceText(invoice)),
      onUpdate: (invoice, old) => this.#invoiceChanged(invoice, old),
    });
    this.loyalty = live.loyalty(profile.id, {
      onPointsEarned: ({ points }) =>
        this.#note("loyalty", text("toast.points", { n: points }), text("toast.points.text", { n: this.loyalty?.getSnapshot().totalPoints ?? 0 })),
    });
    const messages = live.messages(profile.id, { onNewMessage: (message) => this.#messageCame(message) });
    this.messages = messages;
    this.marks = new ReadMarks((conversationId, seq) => messages.markRead(conversationId, seq));
    this.outbox = await live.openOutbox();
  }

  /** @override */
  content() {
    const messages = this.look("messages", this.messages);
    const name = this.profile?.name;
    const business = this.profile?.account_name || text("chat.business");
    const unread = messages?.unreadCount ?? 0;
    return html`<div class="portal" data-part=${this.shows}>
      <header class="bar">
        <p class="brand">${business}</p>
        <connection-status variant="badge" .state=${this.state}></connection-status>
        ${languageChoice()}
        <button type="button" class="button" @click=${() => this.signOut()}>${text("sign.out")}</button>
      </header>
      <main class="portal-main">
        <h1 class="portal-hello"><bdi>${name ? text("portal.hello", { name }) : text("portal.hello.nobody")}</bdi></h1>
        <section class="part part-jobs" aria-labelledby="jobs-title">
          <h2 id="jobs-title">${text("jobs.title")}</h2>
          <job-list .source=${this.jobs}></job-list>
        </section>
        <section class="part part-invoices" aria-labelledby="invoices-title">
          <h2 id="invoices-title">${text("invoices.title")}</h2>
          <invoice-list .source=${this.invoices}></invoice-list>
        </section>
        <section class="part part-points" aria-labelledby="points-title">
          <h2 id="points-title">${text("points.title")}</h2>
          <div class="card-plain"><points-total .source=${this.loyalty}></points-total></div>
        </section>
        <section class="part part-chat" aria-labelledby="chat-title">
          <h2 id="chat-title">${text("portal.chat")}</h2>
          <conversation-view
            .source=${this.messages}
            .outbox=${this.outbox}
            .chat=${this.chat}
            side="client"
            .label=${business}
            .files=${this.files}
            @messages-seen=${(/** @type {CustomEvent<{ conversationId: string, seq: number }>} */ event) => this.marks?.note(event.detail)}
          ></conversation-view>
        </section>
      </main>
      <nav class="tabs" aria-label=${text("portal.title")}>
        ${PARTS.map(
          (part) =>
            html`<button type="button" aria-current=${part === this.shows ? "page" : "false"} @click=${() => (this.shows = part)}>
              ${ICONS[part]}<span>${part === "chat" ? text("portal.chat") : text(`${part}.title`)}</span>
              ${part === "chat" && unread ? html`<span class="badge">${unread}</span>` : nothing}
            </button>`,
        )}
      </nav>
      <notification-stack class="notes"></notification-stack>
    </div>`;
  }

  /**
   * @param {Job} job
   * @param {Job | null} old
   */
  #jobChanged(job, old) {
    // what changes nothing for the customer is no news
    if (job.status !== old?.status) this.#note("job", word("toast.job", job.status), jobText(job));
    else if (job.starts_at !== old.starts_at) this.#note("job", text("toast.job.moved"), jobText(job));
  }

  /**
   * @param {Invoice} invoice
   * @param {Invoice | null} old
   */
  #invoiceChanged(invoice, old) {
    if (invoice.status === old?.status || (invoice.status !== "paid" && invoice.status !== "overdue")) return;
    this.#note("invoice", text(`toast.invoice.${invoice.status}`), invoiceText(invoice));
  }

  /** @param {Message} message */
  #messageCame(message) {
    const isInSight = !document.hidden && /** @type {Element | null} */ (this.querySelector("conversation-view"))?.checkVisibility();
    if (message.sender_type === "operator" && !isInSight) this.#note("message", text("toast.message"), message.message);
  }

  /**
   * @param {NotificationType} type
   * @param {string} heading
   * @param {string} message
   */
  #note(type, heading, message) {
    /** @type {NotificationStack | null} */ (this.querySelector("notification-stack"))?.show({ type, heading, message });
  }
}

/** @param {Job} job */
function jobText(job) {
  return text("toast.job.text", { service: job.service_type, time: appointmentTime(job.starts_at) });
}

/** @param {Invoice} invoice */
function invoiceText(invoice) {
  return text("toast.invoice.text", { number: invoice.number, amount: amountOf(invoice.amount_minor, invoice.currency) });
}

customElements.define("portal-page", PortalPage);
