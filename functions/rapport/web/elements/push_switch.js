import { html, nothing } from "lit";
import { PageElement } from "./live_element.js";
import { reasonOf } from "./parts.js";
import { endPushes, subscription } from "./pushes.js";
import { loadTexts, text, word } from "./texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */

await loadTexts("seldom");

/** The page's policy for its worker, made once. @type {any} */
let policy;

/**
 * Notifications on this device: a switch, and of what its user wants to be told.
 *
 *     <push-switch .supabase=${supabase} .kinds=${["message", "appointment"]} worker="worker.js"></push-switch>
 */
export class PushSwitch extends PageElement {
  /** @override */
  static properties = {
    supabase: { attribute: false },
    kinds: { attribute: false },
    worker: {},
    state: { state: true },
    choices: { state: true },
    refusal: { state: true },
  };

  constructor() {
    super();
    /** @type {SupabaseClient | null} */
    this.supabase = null;
    /** Of what may be told. @type {readonly string[]} */
    this.kinds = [];
    /** The address of the worker that shows notifications. */
    this.worker = "worker.js";
    /** @type {"loading" | "absent" | "denied" | "off" | "on" | "busy"} */
    this.state = "loading";
    /** @type {Readonly<Record<string, boolean>>} */
    this.choices = {};
    this.refusal = "";
  }

  /** @override */
  firstUpdated() {
    void this.#begin();
  }

  /** @override */
  render() {
    if (this.state === "loading") return nothing;
    if (this.state === "absent" || this.state === "denied") return html`<p class="muted push-note">${text(`push.${this.state}`)}</p>`;
    const isOn = this.state === "on";
    return html`<div class="push">
      <button type="button" class="switch" role="switch" aria-checked=${isOn ? "true" : "false"} ?disabled=${this.state === "busy"} @click=${this.#turn}>
        <span class="switch-track" aria-hidden="true"></span><span>${text("push.switch")}</span>
      </button>
      ${isOn
        ? html`<fieldset class="push-kinds">
            <legend class="hidden">${text("push.kinds")}</legend>
            ${this.kinds.map(
              (kind) =>
                html`<label class="check"
                  ><input type="checkbox" .checked=${this.choices[kind] ?? true} @change=${(/** @type {Event} */ event) => this.#choose(kind, event)} /><span
                    >${word("push.kind", kind)}</span
                  ></label
                >`,
            )}
          </fieldset>`
        : nothing}
      ${this.refusal ? html`<p class="refusal" role="alert">${this.refusal}</p>` : nothing}
    </div>`;
  }

  async #begin() {
    // pages that come by plain http, and some browsers, have none
    if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) return void (this.state = "absent");
    const { data: key } = await /** @type {any} */ (this.supabase).rpc("push_key");
    if (!key) return void (this.state = "absent");
    if (Notification.permission === "denied") return void (this.state = "denied");
    const { data } = await /** @type {any} */ (this.supabase).from("notification_choices").select("kind,is_wanted");
    this.choices = Object.fromEntries((data ?? []).map((/** @type {any} */ { kind, is_wanted }) => [kind, is_wanted]));
    this.state = (await subscription()) ? "on" : "off";
  }

  async #turn() {
    const before = this.state;
    this.refusal = "";
    this.state = "busy";
    try {
      if (before === "on") await endPushes(/** @type {SupabaseClient} */ (this.supabase));
      else await this.#subscribe();
      this.state = before === "on" ? "off" : "on";
    } catch (error) {
      this.state = Notification.permission === "denied" ? "denied" : (await subscription()) ? "on" : "off";
      if (this.state !== "denied") this.refusal = text("push.failed", { reason: reasonOf(error) });
    }
  }

  async #subscribe() {
    if ((await Notification.requestPermission()) !== "granted") throw new Error(text("push.denied"));
    const supabase = /** @type {any} */ (this.supabase);
    const { data: key, error } = await supabase.rpc("push_key");
    if (error) throw error;
    await navigator.serviceWorker.register(trusted(this.worker));
    const { pushManager } = await navigator.serviceWorker.ready;
    const made = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    const { endpoint, keys } = made.toJSON();
    const { error: refusal } = await supabase.rpc("save_push_subscription", { endpoint, ...keys });
    if (!refusal) return;
    // what the server does not know is no subscription
    await made.unsubscribe();
    throw refusal;
  }

  /**
   * @param {string} kind
   * @param {Event} event
   */
  async #choose(kind, event) {
    const isWanted = /** @type {HTMLInputElement} */ (event.target).checked;
    const before = this.choices;
    this.choices = { ...before, [kind]: isWanted };
    this.refusal = "";
    const { error } = await /** @type {any} */ (this.supabase).rpc("choose_notifications", { kind, is_wanted: isWanted });
    if (!error) return;
    this.choices = before;
    this.refusal = reasonOf(error);
  }
}

/**
 * An address of ours, as the page's policy lets it be run.
 *
 * @param {string} url
 */
function trusted(url) {
  policy ??= /** @type {any} */ (globalThis).trustedTypes?.createPolicy("rapport", {
    createScriptURL: (/** @type {string} */ wanted) => {
      if (new URL(wanted, location.href).origin !== location.origin) throw new TypeError(wanted);
      return wanted;
    },
  });
  return policy?.createScriptURL(url) ?? url;
}

customElements.define("push-switch", PushSwitch);
