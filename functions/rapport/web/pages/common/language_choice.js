import { html } from "lit";
import { choose, language, languages } from "@rapport/live/elements/texts.js";

/** The choice of the language. */
export function languageChoice() {
  return html`<p class="languages">
    ${languages.map(
      ({ code, name }) =>
        html`<button type="button" class="link" lang=${code} aria-pressed=${code === language ? "true" : "false"} @click=${() => choose(code)}
          ><span class="language-name">${name}</span><span class="language-code" aria-hidden="true">${code.toUpperCase()}</span></button
        >`,
    )}
  </p>`;
}
