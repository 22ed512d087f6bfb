import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { timeOf, weekdayOf } from "@rapport/live/elements/format.js";
import { text, word } from "@rapport/live/elements/texts.js";

/** @import { Desk } from "./desk.js" */

/**
 * A row of `conversation_notes`.
 *
 * @typedef {object} Note
 * @property {string} id
 * @property {number} seq
 * @property {"note" | "event"} kind
 * @property {string | null} author_id
 * @property {string | null} author_name
 * @property {string} note
 * @property {readonly string[]} mentions
 * @property {Record<string, string> | null} event
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string | null} deleted_at
 *
 * What stands among the messages and is none.
 *
 * @typedef {object} Aside
 * @property {string} id
 * @property {string} at
 * @property {"note" | "event"} kind
 * @property {string} name
 * @property {unknown} content
 *
 * @typedef {object} NoteEdits
 * @property {string} editing the note that is being changed
 * @property {(id: string) => void} edit
 * @property {(id: string, note: string, mentions: readonly string[]) => void} save
 * @property {(id: string) => void} remove
 */

/**
 * Notes and events as they stand among the messages.
 *
 * @param {readonly Note[]} notes
 * @param {Desk} desk
 * @param {NoteEdits} edits
 * @returns {Aside[]}
 */
export function asidesOf(notes, desk, edits) {
  return notes.map((note) => ({
    id: note.id,
    at: note.created_at,
    kind: note.kind,
    name: text(note.kind === "note" ? "desk.note" : "desk.event"),
    content: note.kind === "note" ? written(note, desk, edits) : happened(note),
  }));
}

/** @param {Note} note */
function happened(note) {
  return html`<p class="event">
    ${deskIcons.pulse}<span class="hidden">${text("desk.event")}: </span><span><bdi>${sentenceOf(note)}</bdi> <time datetime=${note.created_at}>${timeOf(note.created_at)}</time></span>
  </p>`;
}

/**
 * @param {Note} note
 * @param {Desk} desk
 * @param {NoteEdits} edits
 */
function written(note, desk, edits) {
  const isMine = note.author_id === desk.userId;
  const mayEdit = !note.deleted_at && desk.isWriter;
  return html`<div class="note">
    <p class="note-head">
      ${deskIcons.note}<strong>${text("desk.note")}</strong>
      <bdi>${isMine ? text("desk.you") : (note.author_name ?? "")}</bdi>
      <time datetime=${note.created_at}>${timeOf(note.created_at)}</time>
    </p>
    ${note.deleted_at
      ? html`<p class="muted">${text("desk.note.deleted")}</p>`
      : edits.editing === note.id
        ? html`<form class="inline" @submit=${(/** @type {SubmitEvent} */ event) => save(event, note, desk, edits)}>
            <label class="field"><span class="hidden">${text("desk.note.write")}</span><textarea name="note" rows="3" required maxlength="4096" .value=${note.note}></textarea></label>
            <div class="actions">
              <button type="submit" class="button button-main">${text("desk.save")}</button>
              <button type="button" class="button" @click=${() => edits.edit("")}>${text("desk.back")}</button>
            </div>
          </form>`
        : html`<p class="note-words" dir="auto">${withMentions(note, desk)}</p>`}
    ${mayEdit && edits.editing !== note.id && (isMine || desk.isAdmin)
      ? html`<p class="note-actions">
          ${isMine ? html`<button type="button" class="link" @click=${() => edits.edit(note.id)}>${text("desk.edit")}</button>` : nothing}
          <button type="button" class="link" @click=${() => edits.remove(note.id)}>${text("desk.delete")}</button>
        </p>`
      : nothing}
  </div>`;
}

/**
 * @param {SubmitEvent} event
 * @param {Note} note
 * @param {Desk} desk
 * @param {NoteEdits} edits
 */
function save(event, note, desk, edits) {
  event.preventDefault();
  const words = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("note")).trim();
  edits.save(note.id, words, desk.members.filter(({ display_name }) => words.includes(`@${display_name}`)).map(({ user_id }) => user_id));
}

/**
 * The words of a note, with the names of those whom it mentions set off.
 *
 * @param {Note} note
 * @param {Desk} desk
 */
function withMentions(note, desk) {
  const names = note.mentions.map((id) => desk.nameOf(id)).filter(Boolean);
  if (!names.length) return note.note;
  const any = new RegExp(`(@(?:${names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")}))`);
  return note.note.split(any).map((part, index) => (index % 2 ? html`<strong class="mention">${part}</strong>` : part));
}

/**
 * What happened, in the language of the page; in that of the account where the page has no words.
 *
 * @param {Note} note
 */
function sentenceOf(note) {
  const facts = note.event ?? {};
  const key = `${facts.event}`;
  const time = facts.snoozed_until ? weekdayOf(facts.snoozed_until) : "";
  const sentence = word("desk.did", key.replace("desk.", ""));
  if (sentence === key.replace("desk.", "")) return note.note;
  return text(/** @type {any} */ (`desk.did.${key.replace("desk.", "")}`), {
    actor: note.author_name ?? "",
    assignee: facts.assignee_name ?? "",
    label: facts.label ?? "",
    time,
  });
}
