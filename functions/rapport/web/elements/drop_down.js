import { html, nothing } from "lit";
import { PageElement } from "./live_element.js";

/**
 * A button that shows a panel beneath itself, or above with `up`, until something else has the
 * focus. `content` makes the panel while it is open. It rises `drop-open`.
 *
 *     <drop-down label="Snooze" .face=${icon} .content=${() => html`…`}></drop-down>
 */
export class DropDown extends PageElement {
  /** @override */
  static properties = {
    label: {},
    face: { attribute: false },
    content: { attribute: false },
    buttonClass: { attribute: "button-class" },
    up: { type: Boolean },
    hasWords: { attribute: false },
    isOpen: { state: true },
  };

  constructor() {
    super();
    /** What the button is called; with `face` it is not shown. */
    this.label = "";
    /** What the button shows. @type {unknown} */
    this.face = null;
    /** @type {(() => unknown) | null} */
    this.content = null;
    /** The classes of the button. */
    this.buttonClass = "button";
    this.up = false;
    /** Whether what the button shows has words, which are its name then. */
    this.hasWords = false;
    this.isOpen = false;
    /** How often it was opened: who closes it later can tell whether it is still the same time. */
    this.openings = 0;
  }

  /** @override */
  render() {
    return html`<button
        type="button"
        class="drop-button ${this.buttonClass}"
        aria-label=${this.face && !this.hasWords ? this.label : nothing}
        title=${this.face ? this.label : nothing}
        aria-expanded=${this.isOpen ? "true" : "false"}
        @click=${() => (this.isOpen ? this.close() : this.open())}
      >
        ${this.face ?? this.label}
      </button>
      ${this.isOpen ? html`<div class="drop ${this.up ? "drop-up" : ""}" role="group" aria-label=${this.label}>${this.content?.()}</div>` : nothing}`;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    this.addEventListener("keydown", this.#key);
    this.addEventListener("focusout", this.#left);
    document.addEventListener("pointerdown", this.#pressed);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.removeEventListener("keydown", this.#key);
    this.removeEventListener("focusout", this.#left);
    document.removeEventListener("pointerdown", this.#pressed);
  }

  /** Shows the panel, with the focus on what is first in it. */
  async open() {
    this.openings += 1;
    this.isOpen = true;
    this.tell("drop-open");
    await this.enter();
  }

  /** Gives the focus to what is first in the panel, if it is open. */
  async enter() {
    this.requestUpdate();
    await this.updateComplete;
    const panel = /** @type {HTMLElement | null} */ (this.querySelector(".drop"));
    /** @type {HTMLElement | null} */ (panel?.querySelector("[autofocus], button:not(:disabled), input, select, textarea, a"))?.focus();
    panel?.scrollIntoView({ block: "nearest" });
  }

  /** Takes it away; the focus, if it was in it, goes to the button. */
  close() {
    if (!this.isOpen) return;
    const hadFocus = this.contains(document.activeElement);
    this.isOpen = false;
    if (hadFocus) /** @type {HTMLElement | null} */ (this.querySelector(".drop-button"))?.focus();
  }

  /** @param {KeyboardEvent} event */
  #key = (event) => {
    if (event.key === "Escape" && this.isOpen) {
      event.stopPropagation();
      this.close();
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const items = [.../** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll(".drop-item:not(:disabled)"))];
    const now = items.indexOf(/** @type {HTMLElement} */ (event.target));
    if (!step || now < 0) return;
    event.preventDefault();
    items[(now + step + items.length) % items.length].focus();
  };

  /** @param {FocusEvent} event */
  #left = (event) => {
    const next = /** @type {Node | null} */ (event.relatedTarget);
    if (next && !this.contains(next)) this.isOpen = false;
  };

  /** @param {PointerEvent} event */
  #pressed = (event) => {
    if (!this.contains(/** @type {Node} */ (event.target))) this.isOpen = false;
  };
}

customElements.define("drop-down", DropDown);
