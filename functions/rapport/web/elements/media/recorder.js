import { html, nothing, svg } from "lit";
import { durationOf } from "../format.js";
import { icons } from "../icons.js";
import { PageElement } from "../live_element.js";
import { loadTexts, text } from "../texts.js";
import { oggOf } from "./ogg.js";

await loadTexts("seldom");

// ms: WhatsApp takes 16 MB, which is some hours of speech; nobody listens that long
const LONGEST = 15 * 60_000;
const SHORTEST = 500;
const TICK = 100;
// each 4 wide in the drawing
const BARS = 24;
// bits a second: speech is as good with them
const RATE = 32_000;

/** What browsers record of what WhatsApp takes, or of what can be put into Ogg. */
const KINDS = ["audio/ogg;codecs=opus", "audio/webm;codecs=opus"];

/** Whether this browser records what WhatsApp takes. */
export const canRecord = typeof MediaRecorder === "function" && KINDS.some((kind) => MediaRecorder.isTypeSupported(kind));

/**
 * Records a voice message: rises `voice-recorded` with it, as Opus in Ogg, or `voice-cancelled`.
 */
export class VoiceRecorder extends PageElement {
  /** @override */
  static properties = { length: { state: true }, levels: { state: true }, state: { state: true }, reason: { state: true } };

  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {MediaRecorder | null} */
  #recorder = null;
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AnalyserNode | null} */
  #analyser = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;
  /** @type {Blob[]} */
  #parts = [];
  #began = 0;

  constructor() {
    super();
    /** ms */
    this.length = 0;
    /** From 0 to 1, the latest at the end. @type {readonly number[]} */
    this.levels = [];
    /** @type {"asking" | "recording" | "finishing" | "failed"} */
    this.state = "asking";
    this.reason = "";
  }

  /** @override */
  firstUpdated() {
    void this.#begin();
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#end();
  }

  /** @override */
  render() {
    return html`<div class="recorder" role="group" aria-label=${text("media.recording")} @keydown=${this.#key}>
      <button type="button" class="button-icon" aria-label=${text("media.record.cancel")} @click=${this.#cancel}>${icons.bin}</button>
      ${this.state === "failed"
        ? html`<p class="recorder-words recorder-bad" role="alert">${this.reason}</p>`
        : html`<span class="recorder-dot" aria-hidden="true"></span>
            <time class="recorder-time" role="timer" aria-label=${text("media.recorded", { time: durationOf(this.length / 1000) })}>${durationOf(this.length / 1000)}</time>
            ${this.state === "asking"
              ? html`<p class="recorder-words muted" role="status">${text("media.record.ask")}</p>`
              : html`<svg class="recorder-levels" viewBox="0 0 96 24" preserveAspectRatio="none" aria-hidden="true">
                  ${this.levels.length ? levelBars(this.levels) : nothing}
                </svg>`}`}
      <button type="button" class="button button-main button-round" aria-label=${text("media.record.send")} ?disabled=${this.state !== "recording"} @click=${this.#finish}>
        ${icons.send}
      </button>
    </div>`;
  }

  async #begin() {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
    } catch (error) {
      return this.#fail(error instanceof DOMException && error.name === "NotFoundError" ? text("media.record.none") : text("media.record.forbidden"));
    }
    if (!this.isConnected) return this.#end();
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    this.#recorder = new MediaRecorder(this.#stream, { mimeType, audioBitsPerSecond: RATE });
    this.#recorder.ondataavailable = ({ data }) => this.#parts.push(data);
    this.#recorder.onerror = () => this.#fail(text("media.record.failed"));
    this.#context = new AudioContext();
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 512;
    this.#context.createMediaStreamSource(this.#stream).connect(this.#analyser);
    this.#recorder.start(1000);
    this.#began = performance.now();
    this.state = "recording";
    this.#ticking = setInterval(() => this.#tick(), TICK);
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(".button-main"))?.focus();
  }

  #tick() {
    this.length = performance.now() - this.#began;
    const samples = new Uint8Array(this.#analyser?.fftSize ?? 0);
    this.#analyser?.getByteTimeDomainData(samples);
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample - 128)), 0) / 128;
    this.levels = [...this.levels.slice(1 - BARS), Math.min(1, loudest * 1.6)];
    if (this.length >= LONGEST) void this.#finish();
  }

  #finish = async () => {
    const recorder = this.#recorder;
    if (!recorder || this.state !== "recording") return;
    this.state = "finishing";
    const isTooShort = this.length < SHORTEST;
    await new Promise((resolve) => {
      recorder.onstop = resolve;
      recorder.stop();
    });
    this.#end();
    if (isTooShort) return this.#fail(text("media.record.short"));
    try {
      const whole = new Blob(this.#parts);
      const isOgg = recorder.mimeType.startsWith("audio/ogg");
      const ogg = isOgg ? whole : new Blob([oggOf(new Uint8Array(await whole.arrayBuffer()))]);
      this.tell("voice-recorded", ogg.slice(0, ogg.size, "audio/ogg"));
    } catch {
      this.#fail(text("media.record.failed"));
    }
  };

  #cancel = () => {
    this.#end();
    this.tell("voice-cancelled");
  };

  /** @param {KeyboardEvent} event */
  #key = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    this.#cancel();
  };

  /** @param {string} reason */
  #fail(reason) {
    this.#end();
    this.reason = reason;
    this.state = "failed";
  }

  /** Gives the microphone back. */
  #end() {
    clearInterval(this.#ticking);
    if (this.#recorder?.state === "recording") this.#recorder.stop();
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    void this.#context?.close().catch(() => {});
    this.#context = null;
    this.#stream = null;
  }
}

/** @param {readonly number[]} levels */
function levelBars(levels) {
  const path = levels.map((level, index) => `M${(BARS - levels.length + index) * 4 + 2} ${12 - 1 - level * 10}v${2 + level * 20}`).join("");
  return svg`<path d=${path} />`;
}

customElements.define("voice-recorder", VoiceRecorder);
