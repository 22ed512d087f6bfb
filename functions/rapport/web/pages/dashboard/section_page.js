import { html, nothing } from "lit";
import { deskIcons } from "@rapport/live/elements/desk_icons.js";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { reasonOf } from "@rapport/live/elements/parts.js";
import { loadTexts } from "@rapport/live/elements/texts.js";

/** @import { Desk } from "./desk.js" */

await loadTexts("sections");

/** What the sections of the desk have in common: what is being done, and what was refused. */
export class SectionPage extends PageElement {
  /** @override */
  static properties = {
    desk: { attribute: false },
    path: {},
    refusal: { state: true },
    notice: { state: true },
    isBusy: { state: true },
  };

  constructor() {
    super();
    /** @type {Desk | null} */
    this.desk = null;
    this.path = "";
    this.refusal = "";
    this.notice = "";
    this.isBusy = false;
  }

  /** What was refused, or done. */
  told() {
    if (this.refusal) return html`<p class="refusal" role="alert">${icons.warning}<span>${this.refusal}</span></p>`;
    return this.notice ? html`<p class="done" role="status">${deskIcons.check}<span>${this.notice}</span></p>` : nothing;
  }

  /**
   * Does something; what is refused is told in words.
   *
   * @param {() => unknown} work
   * @param {string} [notice] what is told once it is done
   * @returns {Promise<boolean>} whether it was done
   */
  async try(work, notice = "") {
    this.refusal = this.notice = "";
    this.isBusy = true;
    try {
      await work();
      // unless the work has more to tell
      this.notice ||= notice;
      return true;
    } catch (error) {
      this.refusal = reasonOf(error);
      return false;
    } finally {
      this.isBusy = false;
    }
  }
}

/**
 * The fields of a form that was sent, which stays where it is.
 *
 * @param {SubmitEvent} event
 * @returns {(name: string) => string}
 */
export function fieldsOf(event) {
  event.preventDefault();
  return fieldsIn(/** @type {HTMLFormElement} */ (event.target));
}

/**
 * The fields of a form.
 *
 * @param {HTMLFormElement} form
 * @returns {(name: string) => string}
 */
export function fieldsIn(form) {
  const fields = new FormData(form);
  return (name) => String(fields.get(name) ?? "").trim();
}
