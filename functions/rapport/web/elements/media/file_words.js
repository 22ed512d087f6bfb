/** What messages say of their files; nothing of it is trusted. */

/** Files that are in a bubble. */
export const FILE_TYPES = new Set(["image", "video", "audio", "document", "sticker"]);

/**
 * What a message says of its file: as WhatsApp tells it, or as we sent it.
 *
 * @param {{ type: string, content: unknown } | null} message
 * @returns {Record<string, unknown>}
 */
export function fileOf(message) {
  const content = /** @type {any} */ (message?.content);
  const inside = content?.[message?.type ?? ""];
  const found = inside && typeof inside === "object" ? inside : content;
  return found && typeof found === "object" ? found : {};
}

/**
 * What was written beneath a file.
 *
 * @param {{ type: string, content: unknown }} message
 */
export function captionOf(message) {
  const { caption } = fileOf(message);
  return typeof caption === "string" ? caption : "";
}
