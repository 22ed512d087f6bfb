import { html, nothing } from "lit";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { text, word } from "./texts.js";

/** @typedef {"job" | "invoice" | "message" | "loyalty" | "info"} NotificationType */

const ICONS = { job: icons.calendar, invoice: icons.invoice, message: icons.chat, loyalty: icons.gift, info: icons.info };

/**
 * A note about something that has just changed. It rises `notification-action` and
 * `notification-dismiss`; the page takes it away.
 *
 *     <realtime-notification type="job" heading="New appointment" message="…" action="Show"></realtime-notification>
 */
export class RealtimeNotification extends PageElement {
  /** @override */
  static properties = { type: {}, heading: {}, message: {}, action: {} };

  constructor() {
    super();
    /** @type {NotificationType} */
    this.type = "info";
    this.heading = "";
    this.message = "";
    this.action = "";
  }

  /** @override */
  render() {
    return html`<div class="notification notification-${this.type}" role="status" aria-live="polite">
      <span class="notification-icon">${ICONS[this.type] ?? icons.info}</span>
      <div class="notification-words">
        <p class="notification-title"><span class="hidden">${word("notification", this.type)}: </span>${this.heading}</p>
        ${this.message ? html`<p class="muted">${this.message}</p>` : nothing}
        ${this.action
          ? html`<button type="button" class="link" @click=${() => this.tell("notification-action")}>${this.action}</button>`
          : nothing}
      </div>
      <button type="button" class="button-icon" aria-label=${text("notification.dismiss")} @click=${() => this.tell("notification-dismiss")}>
        ${icons.close}
      </button>
    </div>`;
  }
}

/** How long a note stays in sight, in ms; one that is pointed at or has the focus stays longer. */
const STAYS = 8000;
const AT_ONCE = 4;

/**
 * The latest notes, one above the other, each for some seconds.
 *
 *     notes.show({ type: "job", heading: "New appointment", message: "…" });
 */
export class NotificationStack extends PageElement {
  /** @override */
  static properties = { notes: { state: true } };

  #last = 0;

  constructor() {
    super();
    /** @type {readonly { id: number, type: NotificationType, heading: string, message: string, action: string, act?: () => void }[]} */
    this.notes = [];
  }

  /**
   * Shows a note, with a button for what may be done about it.
   *
   * @param {{ type: NotificationType, heading: string, message?: string, action?: string, act?: () => void }} note
   */
  show({ type, heading, message = "", action = "", act }) {
    const id = ++this.#last;
    this.notes = [...this.notes.slice(1 - AT_ONCE), { id, type, heading, message, action, act }];
    setTimeout(() => this.#end(id), STAYS);
  }

  /** @override */
  render() {
    return this.notes.map(
      ({ id, type, heading, message, action, act }) =>
        html`<realtime-notification
          data-note=${id}
          .type=${type}
          .heading=${heading}
          .message=${message}
          .action=${action}
          @notification-action=${() => {
            act?.();
            this.#drop(id);
          }}
          @notification-dismiss=${() => this.#drop(id)}
        ></realtime-notification>`,
    );
  }

  /** @param {number} id */
  #end(id) {
    const note = this.querySelector(`[data-note="${id}"]`);
    if (document.hidden || note?.matches(":hover, :focus-within")) setTimeout(() => this.#end(id), STAYS / 4);
    else this.#drop(id);
  }

  /** @param {number} id */
  #drop(id) {
    this.notes = this.notes.filter((note) => note.id !== id);
  }
}

customElements.define("realtime-notification", RealtimeNotification);
customElements.define("notification-stack", NotificationStack);
