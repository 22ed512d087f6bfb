import { kindOf } from "./parts.js";
import { loadTexts, text } from "./texts.js";

/** @import { TemplateField } from "./template_words.js" */

await loadTexts("seldom");

/**
 * What the field of a variable is called: by the words around it, since WhatsApp's name of it is
 * mostly a number.
 *
 * @param {TemplateField} field
 */
export function labelOf({ kind, part, label, variable, around }) {
  if (kind === "link") return text("template.field.link", { kind: kindOf(label) });
  if (kind === "latitude" || kind === "longitude" || kind === "place") return text(`template.field.${kind}`);
  if (part === "header") return around ? text("template.field.header.around", { around }) : text("template.field.header", { name: label });
  if (part === "body") return around ? text("template.field.body.around", { around }) : text("template.field.body", { name: label });
  const [, index] = variable.split(".");
  return label === "code" ? text("template.field.code") : text("template.field.button", { n: Number(index) + 1 });
}
