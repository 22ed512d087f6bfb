import { html, nothing } from "lit";
import { dateOf, daysFromNow, daysUntil, plainDayOf, signedOf } from "./format.js";
import { PageElement } from "./live_element.js";
import { skeleton, trouble } from "./parts.js";
import { locale, text, word } from "./texts.js";

/** @import { LoyaltyTransaction } from "../live/index.js" */
/** @import { Snapshot } from "../live/subscription.js" */
/** @import { Store } from "./live_element.js" */

const LATEST = 5;
// days: what expires within them is told louder
const SOON = 31;
const NEVER = "9999";

/**
 * A customer's points: the total, those that expire next, and what was earned and redeemed.
 *
 *     <points-total .source=${live.loyalty(customerId)}></points-total>
 */
export class PointsTotal extends PageElement {
  /** @override */
  static properties = { source: { attribute: false }, empty: {} };

  constructor() {
    super();
    /** @type {Store<Snapshot<LoyaltyTransaction> & { totalPoints: number }> | null} */
    this.source = null;
    /** What is said where there are no points yet; without it, what a customer reads. */
    this.empty = "";
  }

  /** @override */
  render() {
    const shown = this.look("source", this.source);
    if (!shown) return nothing;
    const { rows, totalPoints } = shown;
    const next = expiringOf(rows);
    if (shown.error && !rows.length) return trouble(text("points.failed"), shown.error);
    if (!shown.isLoaded) return skeleton(1);
    return html`<p class="points">
        <strong>${totalPoints.toLocaleString(locale)}</strong> <span class="muted">${text("points.total", { n: totalPoints })}</span>
      </p>
      ${next
        ? html`<p class="points-next ${daysUntil(next.day) < SOON ? "points-soon" : "muted"}">
            ${text("points.next", { n: next.points, day: plainDayOf(next.day), when: daysFromNow(next.day) })}
          </p>`
        : nothing}
      ${rows.length ? nothing : html`<p class="muted">${this.empty || text("points.empty")}</p>`}
      ${ledger(rows.slice(-LATEST))}
      ${rows.length > LATEST
        ? html`<details class="past">
            <summary>${text("points.earlier", { n: rows.length - LATEST })}</summary>
            ${ledger(rows.slice(0, -LATEST))}
          </details>`
        : nothing}`;
  }
}

/** @param {readonly LoyaltyTransaction[]} rows the oldest first */
function ledger(rows) {
  return html`<ul class="ledger">
    ${[...rows].reverse().map(
      (one) =>
        html`<li>
          <span class="ledger-words"><bdi>${one.description || word("points", one.type)}</bdi></span>
          <time class="muted" datetime=${one.created_at}>${dateOf(one.created_at)}</time>
          <span class="amount ${one.points < 0 ? "" : "amount-good"}">${signedOf(one.points)}</span>
        </li>`,
    )}
  </ul>`;
}

/**
 * The points that expire next. As the database does it, those are used first that expire first.
 *
 * @param {readonly LoyaltyTransaction[]} rows the oldest first
 */
export function expiringOf(rows) {
  /** @type {{ points: number, day: string }[]} those that expire, the soonest first; at the end the others */
  const lots = [];
  for (const { points, expires_on, created_at, type } of rows) {
    if (points > 0) {
      lots.push({ points, day: expires_on ?? NEVER });
      lots.sort((a, b) => (a.day < b.day ? -1 : Number(a.day > b.day)));
      continue;
    }
    let wanted = -points;
    for (const lot of lots) {
      // what had expired by then could not be used; it is written off
      if (type === "redeemed" && lot.day < created_at.slice(0, 10)) continue;
      const taken = Math.min(wanted, lot.points);
      lot.points -= taken;
      wanted -= taken;
    }
  }
  const left = lots.filter(({ points, day }) => points && day !== NEVER && daysUntil(day) >= 0);
  if (!left.length) return null;
  const { day } = left[0];
  return { day, points: left.reduce((sum, lot) => sum + (lot.day === day ? lot.points : 0), 0) };
}

customElements.define("points-total", PointsTotal);
