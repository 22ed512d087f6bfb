import { html, nothing } from "lit";
import { durationOf } from "../format.js";
import { icons } from "../icons.js";
import { PageElement } from "../live_element.js";
import { text } from "../texts.js";

const SPEEDS = [1, 1.5, 2];

/** The one that plays: another that begins ends it. @type {HTMLAudioElement | null} */
let playing = null;

/** A sound or a voice message: play, a place to go to, how long it is, how fast. */
export class AudioPlayer extends PageElement {
  /** @override */
  static properties = {
    src: { attribute: false },
    label: { attribute: false },
    isVoice: { attribute: false },
    isPlaying: { state: true },
    at: { state: true },
    length: { state: true },
    speed: { state: true },
  };

  constructor() {
    super();
    this.src = "";
    this.label = "";
    this.isVoice = false;
    this.isPlaying = false;
    /** s */
    this.at = 0;
    this.length = 0;
    this.speed = 1;
  }

  /** @override */
  render() {
    const { at, length } = this;
    return html`<div class="player" role="group" aria-label=${this.label}>
      <button type="button" class="player-play" ?disabled=${!this.src} aria-label=${this.isPlaying ? text("media.pause") : text("media.play")} @click=${this.#toggle}>
        ${this.isPlaying ? icons.pause : icons.play}
      </button>
      <input
        type="range"
        class="player-place"
        min="0"
        max=${length || 1}
        step="0.1"
        aria-label=${text("media.place")}
        aria-valuetext=${durationOf(at)}
        ?disabled=${!length}
        .value=${String(at)}
        @input=${this.#seek}
      />
      <span class="player-time">${durationOf(at || !length ? at : length)}</span>
      ${this.isVoice
        ? html`<button type="button" class="player-speed" aria-label=${text("media.speed", { n: this.speed })} @click=${this.#faster}>${this.speed}×</button>`
        : html`<span class="player-kind">${icons.sound}</span>`}
      <audio
        preload="metadata"
        src=${this.src || nothing}
        @loadedmetadata=${this.#measure}
        @durationchange=${this.#measure}
        @timeupdate=${this.#moved}
        @play=${this.#begun}
        @pause=${this.#ended}
        @ended=${this.#ended}
        @error=${this.#broken}
      ></audio>
    </div>`;
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    this.#audio?.pause();
  }

  get #audio() {
    return this.querySelector("audio");
  }

  #toggle = () => {
    const audio = this.#audio;
    if (!audio) return;
    if (!audio.paused) return audio.pause();
    audio.playbackRate = this.speed;
    // why it does not begin is told by its error
    audio.play().catch(() => {});
  };

  #measure = () => {
    const audio = this.#audio;
    // one that was recorded as it came does not know its length
    if (audio && Number.isFinite(audio.duration)) this.length = audio.duration;
    // a new address of the same sound goes on where the old one ended
    if (audio && this.at && !audio.currentTime) audio.currentTime = this.at;
  };

  #moved = () => {
    this.at = this.#audio?.currentTime ?? 0;
  };

  #begun = () => {
    if (playing !== this.#audio) playing?.pause();
    playing = this.#audio;
    this.isPlaying = true;
  };

  #ended = () => {
    this.isPlaying = false;
    if (this.#audio?.ended) this.at = 0;
  };

  #broken = () => {
    if (this.src) this.tell("audio-broken");
  };

  /** @param {InputEvent} event */
  #seek = (event) => {
    const audio = this.#audio;
    if (!audio) return;
    this.at = Number(/** @type {HTMLInputElement} */ (event.target).value);
    audio.currentTime = this.at;
  };

  #faster = () => {
    this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
    if (this.#audio) this.#audio.playbackRate = this.speed;
  };
}

customElements.define("audio-player", AudioPlayer);
