/** What the buttons at a conversation's head open: who answers, until when it waits, its labels. */

import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { fieldOf, weekdayOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { avatar, pill } from "@rapport/live/elements/parts.js";
import { text } from "@rapport/live/elements/texts.js";
import { laterToday, nextWeek, tomorrow } from "./times.js";

/** @import { InboxRow } from "@rapport/live/elements/inbox_list.js" */
/** @import { Desk, Label } from "./desk.js" */

/**
 * What a menu shows, and what is done by it.
 *
 * @typedef {object} Menu
 * @property {Desk} desk
 * @property {InboxRow} row
 * @property {Readonly<Record<string, unknown>>} online
 * @property {readonly Label[]} all the account's labels
 * @property {boolean} isLabelling whether the fields of a new label are shown
 * @property {(userId: string) => unknown} handOver
 * @property {() => unknown} release
 * @property {(until: Date | null) => unknown} snooze
 * @property {(labelId: string, isLabelled: boolean) => unknown} label
 * @property {(event: Event) => unknown} beginLabel
 * @property {(event: SubmitEvent) => unknown} makeLabel
 */

const COLOURS = ["#1f77b4", "#2ca02c", "#d9822b", "#c23030", "#7157d9", "#0a6b6b"];

/** @param {Menu} menu */
export function assignees({ desk, row, online, handOver, release }) {
  const others = desk.writers.filter(({ user_id }) => user_id !== row.assignee_id);
  return html`<p class="drop-title">${text("desk.hand-over")}</p>
    ${repeat(others, ({ user_id }) => user_id,
      (member) => html`<button type="button" class="drop-item" @click=${() => handOver(member.user_id)}>
        ${avatar(member.display_name, member.user_id)}
        <span><bdi>${member.display_name}</bdi>${member.user_id === desk.userId ? html` <span class="muted">(${text("desk.you")})</span>` : nothing}</span>
        ${member.person_id in online || member.user_id === desk.userId ? pill(text("desk.present"), "good") : nothing}
      </button>`,
    )}
    ${row.assignee_id
      ? html`<button type="button" class="drop-item" @click=${() => release()}>
          ${icons.close}<span>${text("desk.release")}</span>
        </button>`
      : nothing}`;
}

/** @param {Menu} menu */
export function snoozes({ row, snooze }) {
  const later = laterToday();
  /** @type {[string, Date][]} */
  const quick = [...(later ? [/** @type {[string, Date]} */ ([text("desk.later-today"), later])] : []), [text("desk.tomorrow"), tomorrow()], [text("desk.next-week"), nextWeek()]];
  return html`<form class="drop-form" @submit=${(/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    snooze(new Date(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("at"))));
  }}>
    <p class="drop-title">${text("desk.snooze")}</p>
    ${quick.map(
      ([label, at]) => html`<button type="button" class="drop-item" @click=${() => snooze(at)}>
        <span>${label}</span><span class="muted">${weekdayOf(at.getTime())}</span>
      </button>`,
    )}
    ${row.snoozed_until ? html`<button type="button" class="drop-item" @click=${() => snooze(null)}>${icons.close}<span>${text("desk.wake")}</span></button>` : nothing}
    <label class="field"><span>${text("desk.at")}</span><input type="datetime-local" name="at" required value=${fieldOf(tomorrow().getTime())} /></label>
    <button type="submit" class="button">${text("desk.snooze.until")}</button>
  </form>`;
}

/** @param {Menu} menu */
export function labels({ row, all, isLabelling, label: mark, beginLabel, makeLabel }) {
  return html`<p class="drop-title">${text("desk.labels")}</p>
    <div class="drop-list">
      ${repeat(all, ({ id }) => id,
        (label) => html`<label class="drop-item"
          ><input
            type="checkbox"
            .checked=${!!row.label_ids?.includes(label.id)}
            @change=${(/** @type {Event} */ event) => mark(label.id, /** @type {HTMLInputElement} */ (event.target).checked)}
          /><span class="label-dot" .style=${`--label: ${label.colour}`}></span><bdi>${label.name}</bdi></label
        >`,
      )}
      ${all.length ? nothing : html`<p class="muted drop-note">${text("desk.labels.none")}</p>`}
    </div>
    ${isLabelling
      ? html`<form class="drop-form" @submit=${(/** @type {SubmitEvent} */ event) => makeLabel(event)}>
          <label class="field"><span>${text("desk.label.name")}</span><input name="name" required maxlength="64" autocomplete="off" /></label>
          <fieldset class="colours"><legend>${text("desk.label.colour")}</legend>
            ${COLOURS.map(
              (colour, index) => html`<label class="colour" .style=${`--label: ${colour}`}
                ><input type="radio" name="colour" value=${colour} ?checked=${index === 0} /><span class="hidden">${text("desk.colour", { n: index + 1 })}</span></label
              >`,
            )}
          </fieldset>
          <button type="submit" class="button button-main">${text("desk.label.make")}</button>
        </form>`
      : html`<button type="button" class="drop-item" @click=${beginLabel}>${icons.plus}<span>${text("desk.label.new")}</span></button>`}`;
}
