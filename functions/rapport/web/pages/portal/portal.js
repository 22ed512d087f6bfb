import { html, nothing } from "lit";
import "@rapport/live/elements/booking_chat.js";
import "@rapport/live/elements/invoice_list.js";
import "@rapport/live/elements/job_list.js";
import "@rapport/live/elements/points_total.js";
import "@rapport/live/elements/profile_form.js";
import "@rapport/live/elements/push_switch.js";
import "@rapport/live/elements/realtime_notification.js";
import { filtered } from "@rapport/live/elements/filtered.js";
import { amountOf, appointmentTime } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { reasonOf } from "@rapport/live/elements/parts.js";
import { ReadMarks } from "@rapport/live/elements/read_marks.js";
import { loadTexts, text, word } from "@rapport/live/elements/texts.js";
import { AppPage, WrongPage, connectionNote, languageChoice, rowsOf } from "../common/app_page.js";
import { readPhone } from "../common/phone_reader.js";
import { NotFound, refusal } from "../../live/errors.js";
import { ofCustomer } from "../../live/scope.js";
import { Away } from "./away.js";

/** @import { Invoice, Job, LoyaltySubscription, Message, MessageSubscription, Outbox, ProfileSubscription, Subscription } from "@rapport/live" */
/** @import { NotificationStack, NotificationType } from "@rapport/live/elements/realtime_notification.js" */
/** @import { Store } from "@rapport/live/elements/live_element.js" */
/** @import { Login } from "../common/config.js" */

await loadTexts("customers");

const PARTS = /** @type {const} */ (["jobs", "invoices", "points", "chat", "profile"]);
/** @typedef {typeof PARTS[number]} Part */
const ICONS = { jobs: icons.calendar, invoices: icons.invoice, points: icons.gift, chat: icons.chat, profile: icons.person };
/** What a customer may be told of on a device. */
const PUSHES = ["message", "appointment", "invoice", "points"];

/** What a customer sees: appointments, invoices, points, chats and the profile, as they change. */
export class PortalPage extends AppPage {
  /** @override */
  static properties = {
    ...AppPage.properties,
    shows: { state: true },
    talk: { state: true },
    outbox: { state: true },
    missed: { state: true },
    invitation: { state: true },
  };

  constructor() {
    super();
    /** @type {{ id: string, name: string | null, account_name: string, account_time_zone: string } | null} */
    this.customer = null;
    /** What the page was opened to accept. @type {{ account_name: string, email: string | null } | null} */
    this.invitation = null;
    /** @type {ProfileSubscription | null} */
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
    /** What is said of no booking. @type {Store<any> | null} */
    this.general = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** @type {{ customerId: string } | null} */
    this.chat = null;
    /** @type {Away | null} */
    this.away = null;
    /** What happened while the customer was away, in words. */
    this.missed = "";
    /** What a narrow screen shows. @type {Part} */
    this.shows = "jobs";
    /** The job whose chat is open; without one, the chat about everything. */
    this.talk = "";
  }

  /** @override */
  get app() {
    return "portal";
  }

  /** @override */
  get heading() {
    return this.invitation ? text("portal.invited", { business: this.invitation.account_name }) : text("portal.title");
  }

  /** @override */
  get lead() {
    return text(this.invitation ? "portal.invited.more" : "portal.sign");
  }

  /** @override */
  get knownEmail() {
    return this.invitation?.email ?? "";
  }

  /** @override */
  get prefersLink() {
    return !!this.invitation;
  }

  /** Says who has invited, to somebody who comes by the link of an invitation. @override */
  async greet() {
    const token = new URLSearchParams(location.search).get("invitation");
    if (!token || !this.supabase) return;
    const { data, error, status } = await this.supabase.rpc("portal_invitation", { token });
    if (!error) return void (this.invitation = data);
    const refused = refusal(error, status);
    // who has a login signs in without it
    if (refused instanceof NotFound) history.replaceState(null, "", location.pathname);
    this.refusal ||= reasonOf(refused);
  }

  /** @override */
  get place() {
    return this.customer ? ofCustomer(this.customer.id) : null;
  }

  /** @override */
  async isStillMine() {
    const { supabase, customer } = this;
    return !supabase || !customer || (await rowsOf(supabase.from("my_profile").select("id").eq("id", customer.id))).length > 0;
  }

  /** @override */
  get farewell() {
    return /** @type {[string, string]} */ ([text("portal.lost", { business: this.customer?.account_name || text("chat.business") }), text("portal.lost.more")]);
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
    const { error, status } = await this.supabase.rpc("claim_portal_invitation", { token });
    // it is good for once
    history.replaceState(null, "", location.pathname);
    if (error) throw new Error(reasonOf(refusal(error, status)));
  }

  /** A number as it is written in the country of the business. @param {string} phone */
  #readPhone = (phone) => (this.supabase ? readPhone(this.supabase, this.config?.functions_url, phone) : Promise.resolve(phone));

  /** @override */
  async enter() {
    const { supabase, live } = this;
    if (!supabase || !live) return;
    await this.#claim();
    const [customer] = await rowsOf(supabase.from("my_profile").select("id,name,account_name,account_time_zone").order("id").limit(1));
    if (!customer) {
      const accounts = await rowsOf(supabase.from("accounts").select("id").limit(1));
      if (accounts.length) throw new WrongPage(text("portal.staff"), "dashboard");
      await supabase.auth.signOut({ scope: "local" });
      throw new Error(text("portal.no-customer"));
    }
    this.customer = customer;
    this.chat = { customerId: customer.id };
    this.profile = live.profile(customer.id);
    this.jobs = live.jobs(customer.id, {
      onInsert: (job) => this.#note("job", text("toast.job.new"), this.#jobText(job), "jobs"),
      onUpdate: (job, old) => this.#jobChanged(job, old),
    });
    this.invoices = live.invoices(customer.id, {
      onInsert: (invoice) => this.#note("invoice", text("toast.invoice.new"), invoiceText(invoice), "invoices"),
      onUpdate: (invoice, old) => this.#invoiceChanged(invoice, old),
    });
    this.loyalty = live.loyalty(customer.id, {
      onPointsEarned: ({ points }) =>
        this.#note("loyalty", text("toast.points", { n: points }), text("toast.points.text", { n: this.loyalty?.getSnapshot().totalPoints ?? 0 }), "points"),
    });
    const messages = live.messages(customer.id, { onNewMessage: (message) => this.#messageCame(message) });
    this.messages = messages;
    this.marks = new ReadMarks((conversationId, seq) => messages.markRead(conversationId, seq));
    this.general = filtered(messages, (message) => !message.booking_id);
    this.away = new Away(customer.id, this.jobs, this.invoices, this.loyalty, messages);
    document.addEventListener("visibilitychange", () => this.#turned());
    navigator.serviceWorker?.addEventListener("message", ({ data }) => this.#show(PUSHED[data?.kind] ?? "jobs"));
    void this.#welcome();
    this.outbox = await live.openOutbox();
  }

  /** @override */
  content() {
    const messages = this.look("messages", this.messages);
    const profile = this.look("profile", this.profile)?.profile;
    const job = this.talk ? this.look("jobs", this.jobs)?.rows.find(({ id }) => id === this.talk) : null;
    const name = profile?.name ?? this.customer?.name;
    const business = this.customer?.account_name || text("chat.business");
    const unread = this.#unread(messages?.rows ?? []);
    return html`<div class="portal" data-part=${this.shows}>
      <header class="bar">
        <p class="brand">${business}</p>
        <connection-status variant="badge" .state=${this.state}></connection-status>
        ${languageChoice()}
        <button type="button" class="button" @click=${() => this.signOut()}>${text("sign.out")}</button>
      </header>
      ${connectionNote(this.state)}
      <main class="portal-main">
        <div class="portal-head">
          <h1 class="portal-hello"><bdi>${name ? text("portal.hello", { name }) : text("portal.hello.nobody")}</bdi></h1>
          ${this.missed
            ? html`<p class="portal-away" role="status">
                ${icons.clock}<span>${this.missed}</span>
                <button type="button" class="button-icon" aria-label=${text("notification.dismiss")} @click=${() => (this.missed = "")}>${icons.close}</button>
              </p>`
            : nothing}
        </div>
        <section class="part part-jobs" aria-labelledby="jobs-title">
          <h2 id="jobs-title">${text("jobs.title")}</h2>
          <job-list
            .source=${this.jobs}
            .zone=${this.#zone}
            .unread=${unread.byJob}
            @job-chat=${(/** @type {CustomEvent<Job>} */ event) => this.#show("chat", event.detail.id)}
          ></job-list>
        </section>
        <section class="part part-invoices" aria-labelledby="invoices-title">
          <h2 id="invoices-title">${text("invoices.title")}</h2>
          <invoice-list .source=${this.invoices}></invoice-list>
        </section>
        <section class="part part-points" aria-labelledby="points-title">
          <h2 id="points-title">${text("points.title")}</h2>
          <div class="card-plain"><points-total .source=${this.loyalty}></points-total></div>
        </section>
        <section class="part part-profile" aria-labelledby="profile-title">
          <h2 id="profile-title">${text("profile.title")}</h2>
          <div class="card-plain"><profile-form .source=${this.profile} .readPhone=${this.#readPhone}></profile-form></div>
          <div class="card-plain"><push-switch .supabase=${this.supabase} .kinds=${PUSHES}></push-switch></div>
        </section>
        <section class="part part-chat" aria-labelledby="chat-title" ?data-booking=${!!job}>
          <div class="chat-title">
            ${job
              ? html`<button type="button" class="button-icon" aria-label=${text("portal.chat.back")} @click=${() => (this.talk = "")}>${icons.back}</button>`
              : nothing}
            <h2 id="chat-title"><bdi>${job ? job.service_type : text("portal.chat")}</bdi></h2>
            ${job ? html`<p class="muted">${appointmentTime(job.starts_at, { zone: this.#zone })}</p>` : nothing}
          </div>
          ${this.#talking(job ?? null, business)}
        </section>
      </main>
      <nav class="tabs" aria-label=${text("portal.title")}>
        ${PARTS.map(
          (part) =>
            html`<button type="button" aria-current=${part === this.shows ? "page" : "false"} @click=${() => this.#show(part)}>
              ${ICONS[part]}<span>${part === "chat" ? text("portal.chat") : text(`${part}.title`)}</span>
              ${part === "chat" ? badge(unread.general) : part === "jobs" ? badge(unread.jobs) : nothing}
            </button>`,
        )}
      </nav>
      <notification-stack class="notes"></notification-stack>
    </div>`;
  }

  /** @override */
  updated() {
    if (!document.hidden) this.away?.note();
  }

  /**
   * The chat about a job, or about everything.
   *
   * @param {Job | null} job
   * @param {string} business
   */
  #talking(job, business) {
    const seen = (/** @type {CustomEvent<{ conversationId: string, seq: number }>} */ event) => this.marks?.note(event.detail);
    if (job) {
      return html`<booking-chat
        .source=${this.messages}
        .outbox=${this.outbox}
        .booking=${job.id}
        side="client"
        .label=${business}
        .files=${this.files}
        @messages-seen=${seen}
      ></booking-chat>`;
    }
    return html`<conversation-view
      .source=${this.general}
      .outbox=${this.outbox}
      .chat=${this.chat}
      side="client"
      .label=${business}
      .files=${this.files}
      @messages-seen=${seen}
    ></conversation-view>`;
  }

  /**
   * How much is unread in the chat about everything, in those of jobs, and in each of these.
   *
   * @param {readonly Message[]} rows
   */
  #unread(rows) {
    /** @type {Record<string, Message[]>} */
    const byJob = {};
    for (const row of rows) if (row.booking_id) (byJob[row.booking_id] ??= []).push(row);
    /** @param {readonly Message[]} some */
    const count = (some) => this.messages?.more(some.filter(({ sender_type }) => sender_type === "operator")).unreadCount ?? 0;
    const counts = Object.fromEntries(Object.entries(byJob).map(([id, some]) => [id, count(some)]));
    const jobs = Object.values(counts).reduce((sum, n) => sum + n, 0);
    return { general: count(rows.filter(({ booking_id }) => !booking_id)), jobs, byJob: counts };
  }

  /**
   * Shows a part, and of the chats the one of a job.
   *
   * @param {Part} part
   * @param {string} [job]
   */
  async #show(part, job = "") {
    this.shows = part;
    if (part === "chat") this.talk = job;
    await this.updateComplete;
    this.querySelector(`.part-${part}`)?.scrollIntoView({ block: "nearest" });
  }

  /** Says what has happened since the last visit. */
  async #welcome() {
    try {
      await Promise.all([this.jobs, this.invoices, this.loyalty, this.messages].map((one) => one?.ready()));
      this.missed = this.away?.words() ?? "";
    } catch {
      // each part says itself why it can't be shown
    }
  }

  /** Nobody sees notes while the page is hidden: they are told in one line after it. */
  #turned() {
    if (document.hidden) this.away?.leave();
    else this.missed = this.away?.words() || this.missed;
  }

  /** The time zone of the business, in which its appointments are. */
  get #zone() {
    return this.customer?.account_time_zone ?? "";
  }

  /** @param {Job} job */
  #jobText(job) {
    return text("toast.job.text", { service: job.service_type, time: appointmentTime(job.starts_at, { zone: this.#zone }) });
  }

  /**
   * @param {Job} job
   * @param {Job | null} old
   */
  #jobChanged(job, old) {
    // what changes nothing for the customer is no news
    if (job.status !== old?.status) this.#note("job", word("toast.job", job.status), this.#jobText(job), "jobs");
    else if (job.starts_at !== old.starts_at) this.#note("job", text("toast.job.moved"), this.#jobText(job), "jobs");
  }

  /**
   * @param {Invoice} invoice
   * @param {Invoice | null} old
   */
  #invoiceChanged(invoice, old) {
    if (invoice.status === old?.status || (invoice.status !== "paid" && invoice.status !== "overdue")) return;
    this.#note("invoice", text(`toast.invoice.${invoice.status}`), invoiceText(invoice), "invoices");
  }

  /** @param {Message} message */
  #messageCame(message) {
    const view = this.querySelector("conversation-view");
    const isInSight = (message.booking_id ?? "") === this.talk && view?.checkVisibility();
    if (message.sender_type !== "operator" || isInSight) return;
    this.#note("message", text("toast.message"), message.message, "chat", message.booking_id ?? "");
  }

  /**
   * @param {NotificationType} type
   * @param {string} heading
   * @param {string} message
   * @param {Part} part that shows it
   * @param {string} [job]
   */
  #note(type, heading, message, part, job) {
    if (document.hidden) return;
    const stack = /** @type {NotificationStack | null} */ (this.querySelector("notification-stack"));
    const isInSight = this.querySelector(`.part-${part}`)?.checkVisibility() && part !== "chat";
    stack?.show({ type, heading, message, action: isInSight ? "" : text("toast.show"), act: () => this.#show(part, job) });
  }
}

/** Which part shows what was pushed. @type {Record<string, Part>} */
const PUSHED = { message: "chat", appointment: "jobs", invoice: "invoices", points: "points" };

/** @param {number} unread */
function badge(unread) {
  if (!unread) return nothing;
  return html`<span class="badge"><span aria-hidden="true">${unread}</span><span class="hidden">${text("inbox.unread", { n: unread })}</span></span>`;
}

/** @param {Invoice} invoice */
function invoiceText(invoice) {
  return text("toast.invoice.text", { number: invoice.number, amount: amountOf(invoice.amount_minor, invoice.currency) });
}

customElements.define("portal-page", PortalPage);
