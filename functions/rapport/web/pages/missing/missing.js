import { html } from "lit";
import { icons } from "@rapport/live/elements/icons.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { language, text } from "@rapport/live/elements/texts.js";

// where the pages begin: its modules are in a folder beside the first one
const START = new URL("../", import.meta.url).href;

/** What an address shows that has no page, with the way to the first one. */
export class MissingPage extends PageElement {
  /** @override */
  firstUpdated() {
    document.documentElement.lang = language;
    document.title = `${text("missing.title")} · Rapport`;
  }

  /** @override */
  render() {
    return html`<main class="whole missing">
      ${icons.search}
      <h1>${text("missing.title")}</h1>
      <p class="muted">${text("missing.more")}</p>
      <a class="button button-main" href=${START}>${text("missing.start")}</a>
    </main>`;
  }
}

customElements.define("missing-page", MissingPage);
