/**
 * Takes sound out of one container and puts it into another: browsers record Opus in WebM, WhatsApp
 * takes Opus in Ogg. The sound itself stays as it is. (Sources: RFC 8794 and the Matroska
 * specification, RFC 9559; RFC 3533, Ogg; RFC 7845, Opus in Ogg; RFC 6716, Opus.)
 */

// elements of Matroska
const SEGMENT = 0x18538067;
const TRACKS = 0x1654ae6b;
const TRACK = 0xae;
const CODEC = 0x86;
const CODEC_PRIVATE = 0x63a2;
const CLUSTER = 0x1f43b675;
const BLOCK_GROUP = 0xa0;
const BLOCK = 0xa1;
const SIMPLE_BLOCK = 0xa3;
const PARENTS = new Set([SEGMENT, TRACKS, TRACK, CLUSTER, BLOCK_GROUP]);

// samples a second by which Ogg counts Opus, however it was recorded
const RATE = 48_000;
// packets to a page: half a second of them
const TO_A_PAGE = 25;
const LACES = 255;

/** The recording is not what it should be. */
export class NotOpus extends Error {}

/**
 * Opus in Ogg, of Opus in WebM. Throws NotOpus.
 *
 * @param {Uint8Array} webm
 * @param {number} [serial] of the stream
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function oggOf(webm, serial = crypto.getRandomValues(new Uint32Array(1))[0]) {
  const { head, packets } = opusOf(webm);
  const pages = [page([head], { kind: 2, granule: 0, serial, number: 0 }), page([tags()], { kind: 0, granule: 0, serial, number: 1 })];
  // of all samples, also those at the beginning that the head has players leave out
  let granule = 0;
  for (let start = 0; start < packets.length; start += TO_A_PAGE) {
    const some = packets.slice(start, start + TO_A_PAGE);
    granule += some.reduce((sum, packet) => sum + samplesOf(packet), 0);
    const kind = start + TO_A_PAGE >= packets.length ? 4 : 0;
    pages.push(page(some, { kind, granule, serial, number: pages.length }));
  }
  return joined(pages);
}

/**
 * The head and the packets of an Opus track.
 *
 * @param {Uint8Array} webm
 */
function opusOf(webm) {
  /** @type {Uint8Array | null} */
  let head = null;
  let isOpus = false;
  /** @type {Uint8Array[]} */
  const packets = [];
  for (const { id, content } of elementsOf(webm)) {
    if (id === CODEC) isOpus = new TextDecoder().decode(content) === "A_OPUS";
    else if (id === CODEC_PRIVATE) head = content;
    else if (id === SIMPLE_BLOCK || id === BLOCK) packets.push(packetOf(content));
  }
  if (!isOpus || !head || head.length < 19 || !packets.length) throw new NotOpus();
  return { head, packets };
}

/**
 * The elements that hold something else than elements. One whose size is not known, as in a
 * recording, lasts until its parent's end.
 *
 * @param {Uint8Array} bytes
 * @returns {Generator<{ id: number, content: Uint8Array }>}
 */
function* elementsOf(bytes) {
  for (let place = 0; place < bytes.length; ) {
    const id = numberAt(bytes, place, true);
    const size = numberAt(bytes, place + id.length, false);
    const start = place + id.length + size.length;
    // what is cut off at the end is left out
    if (!id.length || !size.length) return;
    if (PARENTS.has(id.value)) {
      // its elements follow, and are read as those of its parent
      place = start;
      continue;
    }
    if (start + size.value > bytes.length) return;
    yield { id: id.value, content: bytes.subarray(start, start + size.value) };
    place = start + size.value;
  }
}

/**
 * A number whose first byte says how long it is.
 *
 * @param {Uint8Array} bytes
 * @param {number} place
 * @param {boolean} isId which keeps the bit that says so
 */
function numberAt(bytes, place, isId) {
  const first = bytes[place];
  const length = first ? Math.clz32(first) - 23 : 0;
  if (!length || place + length > bytes.length) return { value: 0, length: 0 };
  let value = isId ? first : first & (0xff >> length);
  for (const byte of bytes.subarray(place + 1, place + length)) value = value * 256 + byte;
  return { value, length };
}

/** @param {Uint8Array} block without lacing, as one packet is in each */
function packetOf(block) {
  const track = numberAt(block, 0, false);
  const flags = block[track.length + 2];
  if (flags & 0x06) throw new NotOpus();
  return block.subarray(track.length + 3);
}

/**
 * How long a packet is, in samples.
 *
 * @param {Uint8Array} packet
 */
function samplesOf(packet) {
  const [first, second = 0] = packet;
  const kind = first >> 3;
  const frame =
    kind < 12 ? [480, 960, 1920, 2880][kind % 4] : kind < 16 ? [480, 960][kind % 2] : [120, 240, 480, 960][kind % 4];
  const count = [1, 2, 2, second & 0x3f][first & 3];
  return Math.min(frame * count, RATE * 0.12);
}

/** Who made it, and nothing about it. */
function tags() {
  const vendor = new TextEncoder().encode("rapport");
  const bytes = new Uint8Array(16 + vendor.length);
  bytes.set(new TextEncoder().encode("OpusTags"));
  new DataView(bytes.buffer).setUint32(8, vendor.length, true);
  bytes.set(vendor, 12);
  return bytes;
}

/**
 * @param {Uint8Array[]} packets
 * @param {{ kind: number, granule: number, serial: number, number: number }} what `kind` 2 begins the stream, 4 ends it
 */
function page(packets, { kind, granule, serial, number }) {
  const laces = packets.flatMap(({ length }) => [...Array(Math.floor(length / LACES)).fill(LACES), length % LACES]);
  if (laces.length > LACES) throw new NotOpus();
  const head = new Uint8Array(27 + laces.length);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode("OggS"));
  head[5] = kind;
  view.setBigUint64(6, BigInt(granule), true);
  view.setUint32(14, serial, true);
  view.setUint32(18, number, true);
  head[26] = laces.length;
  head.set(laces, 27);
  const whole = joined([head, ...packets]);
  new DataView(whole.buffer).setUint32(22, checksumOf(whole), true);
  return whole;
}

const TABLE = Array.from({ length: 256 }, (_, index) => {
  let value = index << 24;
  for (let bit = 0; bit < 8; bit += 1) value = value & 0x8000_0000 ? (value << 1) ^ 0x04c1_1db7 : value << 1;
  return value >>> 0;
});

/** @param {Uint8Array} bytes */
function checksumOf(bytes) {
  let sum = 0;
  for (const byte of bytes) sum = ((sum << 8) ^ TABLE[((sum >>> 24) ^ byte) & 0xff]) >>> 0;
  return sum;
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
