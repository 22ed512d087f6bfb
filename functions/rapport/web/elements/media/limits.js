/** What WhatsApp takes of files, so that a file that it would refuse is refused before it is uploaded. */

/** Bytes, by the type of the message and the media type; the database has the same list. */
export const LIMITS = /** @type {const} */ ({
  audio: { "audio/aac": 16777216, "audio/amr": 16777216, "audio/mpeg": 16777216, "audio/mp4": 16777216, "audio/ogg": 16777216, "audio/opus": 16777216 },
  document: {
    "text/plain": 104857600,
    "application/pdf": 104857600,
    "application/msword": 104857600,
    "application/vnd.ms-excel": 104857600,
    "application/vnd.ms-powerpoint": 104857600,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": 104857600,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": 104857600,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": 104857600,
  },
  image: { "image/jpeg": 5242880, "image/png": 5242880 },
  sticker: { "image/webp": 512000 },
  video: { "video/3gpp": 16777216, "video/mp4": 16777216 },
});

/** @typedef {keyof typeof LIMITS} FileType */

/** Types of files that a system has no media type for, by the end of their names. */
const BY_NAME = /** @type {Record<string, string>} */ ({
  "3gp": "video/3gpp",
  aac: "audio/aac",
  amr: "audio/amr",
  doc: "application/msword",
  docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  m4a: "audio/mp4",
  mp3: "audio/mpeg",
  mp4: "video/mp4",
  oga: "audio/ogg",
  ogg: "audio/ogg",
  opus: "audio/ogg",
  pdf: "application/pdf",
  png: "image/png",
  ppt: "application/vnd.ms-powerpoint",
  pptx: "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  txt: "text/plain",
  webp: "image/webp",
  xls: "application/vnd.ms-excel",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
});

/** Names of one type that systems have for another. */
const SAME = /** @type {Record<string, string>} */ ({
  "audio/mp3": "audio/mpeg",
  "audio/x-m4a": "audio/mp4",
  "audio/m4a": "audio/mp4",
  "application/ogg": "audio/ogg",
  "video/3gp": "video/3gpp",
});

/**
 * As what a file can be sent; null where WhatsApp doesn't take it.
 *
 * @param {{ name: string, type: string }} file
 * @returns {{ type: FileType, mimeType: string, limit: number } | null} the limit is in bytes
 */
export function kindOfFile({ name, type }) {
  const bare = type.split(";", 1)[0].trim().toLowerCase();
  const ending = /\.([a-z0-9]+)$/i.exec(name)?.[1].toLowerCase() ?? "";
  for (const mimeType of [SAME[bare] ?? bare, BY_NAME[ending]]) {
    for (const [kind, limits] of Object.entries(LIMITS)) {
      const limit = /** @type {Record<string, number>} */ (limits)[mimeType];
      if (limit) return { type: /** @type {FileType} */ (kind), mimeType, limit };
    }
  }
  return null;
}

/** What a choice of files offers. */
export const ACCEPTED = [...new Set(Object.values(LIMITS).flatMap((limits) => Object.keys(limits)))].join();
