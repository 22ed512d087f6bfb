import { html, nothing } from "lit";
import "./conversation_view.js";
import { filtered } from "./filtered.js";
import { PageElement } from "./live_element.js";

/** @import { Message, Outbox } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Files } from "./media/files.js" */
/** @import { Store } from "./live_element.js" */

/**
 * The chat of one booking: what its customer, the staff and the system say about the appointment.
 * `side` tells who writes here. It rises `messages-seen`, as `<conversation-view>` does.
 *
 *     <booking-chat booking=${jobId} .source=${live.messages(customerId)} .outbox=${outbox} side="client"></booking-chat>
 */
export class BookingChat extends PageElement {
  /** @override */
  static properties = {
    source: { attribute: false },
    outbox: { attribute: false },
    booking: {},
    side: {},
    label: {},
    closed: {},
    files: { attribute: false },
  };

  constructor() {
    super();
    /** Messages of the customer, or of the booking alone. @type {Store<Snapshot<Message>> | null} */
    this.source = null;
    /** @type {Outbox | null} */
    this.outbox = null;
    /** A job's id. */
    this.booking = "";
    /** @type {"operator" | "client"} */
    this.side = "client";
    /** Whose chat it is. */
    this.label = "";
    /** Why nothing may be written at the moment. */
    this.closed = "";
    /** @type {Files | null} */
    this.files = null;
    /** @type {Store<Snapshot<Message>> | null} */
    this.said = null;
    /** @type {{ bookingId: string }} */
    this.chat = { bookingId: "" };
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (!changed.has("source") && !changed.has("booking")) return;
    const { booking } = this;
    this.said = this.source && filtered(this.source, (message) => message.booking_id === booking);
    this.chat = { bookingId: booking };
  }

  /** @override */
  render() {
    if (!this.said || !this.booking) return nothing;
    return html`<conversation-view
      .source=${this.said}
      .outbox=${this.outbox}
      .chat=${this.chat}
      .side=${this.side}
      .label=${this.label}
      .closed=${this.closed}
      .files=${this.files}
    ></conversation-view>`;
  }
}

customElements.define("booking-chat", BookingChat);
