import { followDesk, stayAtConversation } from "@rapport/live/desk";
import { ReadMarks } from "@rapport/live/elements/read_marks.js";
import { followContact } from "./follow.js";
import { readTemplates } from "./templates.js";

/** @import { Live } from "@rapport/live" */
/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */
/** @import { Desk } from "./desk.js" */

// ms: a message may be told of a moment before others can see it
const AGAIN = 1000;

/** What belongs to the conversation that is open. */
export class Opened {
  #isClosed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #closing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #again;
  /** Ends that the user looks at it, while the page is in sight. @type {(() => void) | null} */
  #leave = null;
  /** Up to where it is marked as read, and up to where WhatsApp shows the customer so. */
  #read = 0;
  #shown = 0;
  #isOnWhatsApp = false;
  #changed;
  #gone;
  #hasRow = false;

  /**
   * @param {Desk} desk
   * @param {string} id
   * @param {() => void} changed
   * @param {() => void} gone called when the inbox has it no more, as after its contact was erased
   */
  constructor(desk, id, changed, gone) {
    const { live } = desk;
    this.id = id;
    this.desk = desk;
    this.#changed = changed;
    this.#gone = gone;
    /** The same object as long as it is open, since elements compare by identity. */
    this.chat = { conversationId: id };
    /** @type {{ open: boolean, closes_at: string | null } | null} */
    this.window = null;
    this.messages = live.conversation(id, { onNewMessage: (message) => message.sender_type === "client" && this.#answered() });
    // what was seen is marked even if another is opened meanwhile
    this.marks = new ReadMarks(async (conversationId, seq) => {
      const reached = await this.messages.markRead(conversationId, seq);
      this.#read = Math.max(this.#read, reached);
      this.#showRead();
      return reached;
    });
    this.customerTypes = live.typing("customer", id);
    this.staffTypes = live.typing("staff", id);
    this.presence = live.presence("staff", id);
    void this.presence.showMe();
    this.notes = followDesk(live, "conversation_notes", {}, id);
    this.scheduled = followDesk(live, "scheduled_messages", {}, id);
    /** Those of a conversation with one customer. */
    this.customer = /** @type {ReturnType<typeof ofCustomer> | null} */ (null);
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
    void this.readWindow();
  }

  /** Until when free text may be sent. */
  async readWindow() {
    const data = await this.desk.call("reply_window", { conversation_id: this.id }).catch(() => null);
    if (!data || this.#isClosed) return;
    this.window = data;
    clearTimeout(this.#closing);
    const left = data.closes_at ? Date.parse(data.closes_at) - Date.now() : 0;
    if (data.open && left > 0) this.#closing = setTimeout(() => this.readWindow(), Math.min(left + 1000, 2 ** 31 - 1));
    this.#changed();
  }

  /** The customer has written, which opens it. */
  #answered() {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.readWindow(), AGAIN);
    return this.readWindow();
  }

  /** The templates that may be sent in it. */
  readTemplates = () => readTemplates(this.desk, this.id);

  /** @param {InboxRow | null} row */
  take(row) {
    if (this.#hasRow && !row) this.#gone();
    this.#hasRow = !!row;
    if (!row?.customer_id || this.customer) return;
    this.customer = ofCustomer(this.desk.live, row.customer_id);
    this.#isOnWhatsApp = row.channel === "whatsapp";
    this.#showRead();
  }

  /** Shows the customer that staff have read, once for each message of theirs. */
  #showRead() {
    if (!this.#isOnWhatsApp) return;
    const seen = this.messages.getSnapshot().rows.filter(({ sender_type, seq }) => sender_type === "client" && seq <= this.#read);
    const last = Math.max(0, ...seen.map(({ seq }) => seq));
    if (last <= this.#shown) return;
    this.#shown = last;
    void this.desk.showRead(this.id, last);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#closing);
    clearTimeout(this.#again);
    document.removeEventListener("visibilitychange", this.#look);
    this.#leave?.();
    for (const one of [this.messages, this.customerTypes, this.staffTypes, this.presence, this.notes, this.scheduled]) one.close();
    this.customer?.jobs.close();
    this.customer?.contact.close();
  }

  #look = () => {
    this.#leave?.();
    this.#leave = document.hidden ? null : stayAtConversation(this.desk.live, this.id);
  };
}

/**
 * @param {Live} live
 * @param {string} id
 */
function ofCustomer(live, id) {
  return { id, jobs: live.jobs(id), contact: followContact(live, id) };
}
