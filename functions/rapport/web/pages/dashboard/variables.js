import { html } from "lit";
import { text } from "@rapport/live/elements/texts.js";

/** The field of each form in which was written last. @type {WeakMap<Element, HTMLInputElement | HTMLTextAreaElement>} */
const written = new WeakMap();

/**
 * Buttons that put a variable where the cursor was in the form: into the text, or into the field of a
 * template in which was written last. The form tells it by `@focusin=${noteField}`.
 *
 * @param {readonly string[]} names
 */
export function variableButtons(names) {
  return html`<p class="variables" role="group" aria-label=${text("desk.replies.variables")}>
    <span class="muted" aria-hidden="true">${text("desk.replies.variables")}</span>
    ${names.map((name) => html`<button type="button" class="tag variable" @click=${insert}>{{${name}}}</button>`)}
  </p>`;
}

/**
 * Remembers which field variables go into.
 *
 * @param {FocusEvent} event
 */
export function noteField(event) {
  const field = /** @type {HTMLElement} */ (event.target);
  const form = field.closest("form");
  if (form && field.matches("textarea, template-field input")) written.set(form, /** @type {HTMLTextAreaElement} */ (field));
}

/** @param {Event} event */
function insert(event) {
  const button = /** @type {HTMLElement} */ (event.target);
  const form = button.closest("form");
  const last = form && written.get(form);
  /** @type {HTMLInputElement | HTMLTextAreaElement | null | undefined} */
  const field = last?.isConnected ? last : form?.querySelector("textarea");
  if (!field) return;
  field.setRangeText(button.textContent?.trim() ?? "", field.selectionStart ?? 0, field.selectionEnd ?? 0, "end");
  // as if it had been typed
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  field.focus();
}
