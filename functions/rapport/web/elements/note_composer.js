import { html, nothing } from "lit";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { avatar } from "./parts.js";
import { text } from "./texts.js";

/** @typedef {{ user_id: string, display_name: string }} Mentionable */

const LONGEST = 4096;
const MOST = 6;
// an @ and the beginning of a name, just before the cursor
const BEGUN = /(^|\s)@([\p{L}\p{N}][\p{L}\p{N} .'-]{0,40})?$/u;

/**
 * Where staff write notes to each other; an at sign lets them choose a colleague. It rises
 * `note-write` with `{ note, mentions }`; the page empties it by `clear()` once it is kept.
 *
 *     <note-composer .members=${members}></note-composer>
 */
export class NoteComposer extends PageElement {
  /** @override */
  static properties = {
    members: { attribute: false },
    refusal: {},
    isBusy: { attribute: false },
    drafts: { attribute: false },
    about: { attribute: false },
    note: { state: true },
    found: { state: true },
    chosen: { state: true },
  };

  constructor() {
    super();
    /** Those who can be mentioned. @type {readonly Mentionable[]} */
    this.members = [];
    /** Why the last one was not kept. */
    this.refusal = "";
    this.isBusy = false;
    /** Where notes that were begun are kept, by what they are about. @type {Map<string, string> | null} */
    this.drafts = null;
    this.about = "";
    this.note = "";
    /** The members whose names begin so; null while no name is begun. @type {readonly Mentionable[] | null} */
    this.found = null;
    this.chosen = 0;
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (changed.has("about")) this.note = this.drafts?.get(this.about) ?? "";
    else if (changed.has("note")) this.drafts?.set(this.about, this.note);
  }

  /** @override */
  render() {
    const { found } = this;
    return html`${found?.length
        ? html`<ul class="suggestions" role="listbox" id="note-members" aria-label=${text("desk.note.members")}>
            ${found.map(
              (member, index) => html`<li
                id="note-member-${index}"
                role="option"
                aria-selected=${index === this.chosen ? "true" : "false"}
                @pointerdown=${(/** @type {Event} */ event) => event.preventDefault()}
                @click=${() => this.#mention(member)}
              >
                ${avatar(member.display_name, member.user_id)}<bdi>${member.display_name}</bdi>
              </li>`,
            )}
          </ul>`
        : nothing}
      ${this.refusal ? html`<p class="chat-note chat-note-bad" role="alert">${icons.warning}${this.refusal}</p>` : nothing}
      <form class="composer composer-note" @submit=${this.#submit}>
        <label class="hidden" for="note-words">${text("desk.note.write")}</label>
        <textarea
          id="note-words"
          rows="1"
          dir="auto"
          maxlength=${LONGEST}
          placeholder=${text("desk.note.write")}
          role="combobox"
          aria-autocomplete="list"
          aria-expanded=${found?.length ? "true" : "false"}
          aria-controls="note-members"
          aria-activedescendant=${found?.length ? `note-member-${this.chosen}` : nothing}
          aria-describedby="note-hint"
          .value=${this.note}
          @input=${this.#typed}
          @keydown=${this.#key}
          @blur=${() => (this.found = null)}
        ></textarea>
        <button type="submit" class="button button-main button-round" aria-label=${text("desk.note.save")} ?disabled=${this.isBusy}>${icons.send}</button>
        <p id="note-hint" class="composer-hint muted">${text("desk.note.hint")}</p>
      </form>`;
  }

  /** Empties it after the note was kept. */
  clear() {
    this.note = "";
    if (this.#field) this.#field.value = "";
  }

  /** @override */
  focus() {
    this.#field?.focus();
  }

  get #field() {
    return /** @type {HTMLTextAreaElement | null} */ (this.querySelector("textarea"));
  }

  #typed() {
    const field = this.#field;
    if (!field) return;
    this.note = field.value;
    const begun = BEGUN.exec(field.value.slice(0, field.selectionStart));
    const beginning = plain(begun?.[2] ?? "");
    this.found = begun ? this.members.filter(({ display_name }) => plain(display_name).startsWith(beginning)).slice(0, MOST) : null;
    this.chosen = 0;
  }

  /** @param {Mentionable} member */
  #mention(member) {
    const field = this.#field;
    if (!field) return;
    const before = field.value.slice(0, field.selectionStart).replace(BEGUN, `$1@${member.display_name.replaceAll("$", "$$$$")} `);
    field.value = before + field.value.slice(field.selectionStart);
    field.setSelectionRange(before.length, before.length);
    this.note = field.value;
    this.found = null;
    field.focus();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { found } = this;
    if (found?.length) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.chosen = (this.chosen + step + found.length) % found.length;
      else if (event.key === "Enter" || event.key === "Tab") this.#mention(found[this.chosen]);
      else if (event.key === "Escape") this.found = null;
      else return;
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#write();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    this.#write();
  }

  #write() {
    const note = this.note.trim();
    if (!note || this.isBusy) return;
    const mentions = this.members.filter(({ display_name }) => note.includes(`@${display_name}`)).map(({ user_id }) => user_id);
    this.tell("note-write", { note, mentions });
  }
}

/**
 * A name without case and accents.
 *
 * @param {string} name
 */
function plain(name) {
  return name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

customElements.define("note-composer", NoteComposer);
