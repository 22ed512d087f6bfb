import { html, nothing } from "lit";
import { dateOf, signedOf } from "./format.js";
import { PageElement } from "./live_element.js";
import { skeleton, trouble } from "./parts.js";
import { locale, text, word } from "./texts.js";

/** @import { LoyaltyTransaction } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

const LATEST = 5;

/**
 * A customer's points: the total, and the latest that were earned and redeemed.
 *
 *     <points-total .source=${live.loyalty(customerId)}></points-total>
 */
export class PointsTotal extends PageElement {
  /** @override */
  static properties = { source: { attribute: false } };

  constructor() {
    super();
    /** @type {Store<Snapshot<LoyaltyTransaction> & { totalPoints: number }> | null} */
    this.source = null;
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const { rows, totalPoints } = shown;
    if (shown.error && !rows.length) return trouble(text("points.failed"), shown.error);
    if (!rows.length && shown.state === "connecting") return skeleton(1);
    return html`<p class="points">
        <strong>${totalPoints.toLocaleString(locale)}</strong> <span class="muted">${text("points.total", { n: totalPoints })}</span>
      </p>
      ${rows.length ? nothing : html`<p class="muted">${text("points.empty")}</p>`}
      <ul class="ledger">
        ${rows
          .slice(-LATEST)
          .reverse()
          .map(
            (one) =>
              html`<li>
                <span class="ledger-words"><bdi>${one.description || word("points", one.type)}</bdi></span>
                <time class="muted" datetime=${one.created_at}>${dateOf(one.created_at)}</time>
                <span class="amount ${one.points < 0 ? "" : "amount-good"}">${signedOf(one.points)}</span>
              </li>`,
          )}
      </ul>`;
  }
}

customElements.define("points-total", PointsTotal);
