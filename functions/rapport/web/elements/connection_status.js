import { html, nothing } from "lit";
import { PageElement } from "./live_element.js";
import { word } from "./texts.js";

/** @import { State } from "../live/index.js" */

/**
 * How the connection goes, told politely; that it fails, at once.
 *
 *     <connection-status .state=${live.state} variant="compact" show-label></connection-status>
 *
 * `connected` alone is enough for a page that knows no more: it is live, or connecting.
 */
export class ConnectionStatus extends PageElement {
  /** @override */
  static properties = {
    state: {},
    connected: { type: Boolean },
    showLabel: { type: Boolean, attribute: "show-label" },
    variant: {},
  };

  constructor() {
    super();
    /** @type {State | ""} */
    this.state = "";
    this.connected = false;
    this.showLabel = false;
    /** @type {"default" | "compact" | "badge"} */
    this.variant = "default";
  }

  /** @override */
  render() {
    /** @type {State} */
    const state = this.state || (this.connected ? "connected" : "connecting");
    const isWrong = state === "error" || state === "needs-auth";
    const isShort = this.variant === "compact" && !this.showLabel;
    const more = this.variant === "default" ? word("connection", `${state}.more`) : "";
    return html`<div class="connection connection-${this.variant} connection-is-${state}" role=${isWrong ? "alert" : "status"}>
      <span class="dot" aria-hidden="true"></span>
      <span class=${isShort ? "hidden" : "connection-label"}>${word("connection", state)}</span>
      ${more ? html`<span class="connection-more muted">${more}</span>` : nothing}
    </div>`;
  }
}

customElements.define("connection-status", ConnectionStatus);
