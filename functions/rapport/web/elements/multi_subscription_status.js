import { html } from "lit";
import { PageElement } from "./live_element.js";
import { text } from "./texts.js";

/** How several connections go, as 4/5; the names of those that fail are told. */
export class MultiSubscriptionStatus extends PageElement {
  /** @override */
  static properties = { subscriptions: { attribute: false } };

  constructor() {
    super();
    /** @type {readonly { name: string, isConnected: boolean }[]} */
    this.subscriptions = [];
  }

  /** @override */
  render() {
    const missing = this.subscriptions.filter(({ isConnected }) => !isConnected);
    const count = this.subscriptions.length;
    const names = missing.map(({ name }) => name).join(", ");
    return html`<div class="connection connection-badge connection-is-${missing.length ? "connecting" : "connected"}" role="status">
      <span class="dot" aria-hidden="true"></span>
      <span class="connection-label">${count - missing.length}/${count}</span>
      <span class="connection-more muted">${names || text("connection.connected")}</span>
    </div>`;
  }
}

customElements.define("multi-subscription-status", MultiSubscriptionStatus);
