import { html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { fieldOf, weekdayOf } from "@rapport/live/elements/format.js";
import { icons } from "@rapport/live/elements/icons.js";
import { text } from "@rapport/live/elements/texts.js";

/** @import { Desk } from "./desk.js" */

/**
 * A row of `scheduled_messages`.
 *
 * @typedef {object} Scheduled
 * @property {string} id
 * @property {string} author_id
 * @property {string} author_name
 * @property {string} message
 * @property {string} wanted_at
 * @property {string} send_at
 * @property {"waiting" | "sent" | "cancelled" | "failed"} status
 * @property {string | null} error_message
 * @property {string} updated_at
 */

/**
 * What is sent later in a conversation, and what could not be: to be changed, and not to be sent.
 *
 * @param {object} list
 * @param {Desk} list.desk
 * @param {readonly Scheduled[]} list.rows
 * @param {boolean} list.isOpen whether it is unfolded
 * @param {(isOpen: boolean) => unknown} list.unfold
 * @param {string} list.editing the one that is being changed
 * @param {(row: Scheduled | null) => unknown} list.edit
 * @param {(row: Scheduled, patch: Record<string, unknown>) => unknown} list.change writes columns
 */
export function laterList({ desk, rows, isOpen, unfold, editing, edit, change }) {
  return html`<details class="later" ?open=${isOpen || rows.some(({ status }) => status === "failed")}
    @toggle=${(/** @type {Event} */ event) => unfold(/** @type {HTMLDetailsElement} */ (event.target).open)}>
    <summary>${icons.clock}${text("desk.later.count", { n: rows.length })}<span class="muted">${weekdayOf(rows[0].send_at)}</span></summary>
    <ul>
      ${repeat(rows, ({ id }) => id,
        (row) => html`<li class="later-row">
          ${editing === row.id
            ? html`<form class="inline" @submit=${(/** @type {SubmitEvent} */ event) => change(row, changesOf(row, event))}>
                <label class="field"><span>${text("desk.at")}</span><input type="datetime-local" name="at" required value=${fieldOf(row.send_at)} /></label>
                <label class="field"><span>${text("desk.later.words")}</span><textarea name="message" rows="2" required maxlength="4096" .value=${row.message}></textarea></label>
                <div class="actions">
                  <button type="submit" class="button button-main">${text("desk.save")}</button>
                  <button type="button" class="button" @click=${() => edit(null)}>${text("desk.back")}</button>
                </div>
              </form>`
            : html`<p>
                  <time datetime=${row.send_at}><strong>${weekdayOf(row.send_at)}</strong></time>
                  ${row.author_id === desk.userId ? nothing : html`<bdi class="muted">${row.author_name}</bdi>`}
                  ${row.send_at !== row.wanted_at && row.status === "waiting" ? html`<span class="muted">${text("desk.later.quiet")}</span>` : nothing}
                </p>
                <p class="later-words" dir="auto">${row.message}</p>
                ${row.status === "failed"
                  ? html`<p class="bubble-trouble" role="alert">${text("chat.not-sent", { reason: row.error_message ?? "" })}</p>`
                  : desk.isWriter
                    ? html`<p class="actions">
                        <button type="button" class="link" @click=${() => edit(row)}>${text("desk.change")}</button>
                        <button type="button" class="link" @click=${() => change(row, { status: "cancelled" })}>
                          ${text("desk.later.cancel")}
                        </button>
                      </p>`
                    : nothing}`}
        </li>`,
      )}
    </ul>
  </details>`;
}

/**
 * The columns that were changed in the form.
 *
 * @param {Scheduled} row
 * @param {SubmitEvent} event
 */
function changesOf(row, event) {
  event.preventDefault();
  const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
  const message = String(fields.get("message")).trim();
  const at = String(fields.get("at"));
  return {
    ...(message === row.message ? {} : { message }),
    // to the minute: what is not touched stays as it was
    ...(at === fieldOf(row.send_at) ? {} : { send_at: new Date(at).toISOString() }),
  };
}
