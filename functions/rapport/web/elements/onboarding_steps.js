import { html, nothing } from "lit";
import { icons } from "./icons.js";
import { PageElement } from "./live_element.js";
import { text } from "./texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */
/** @import { Live } from "../live/index.js" */

const STEPS = /** @type {const} */ (["number", "message", "contact", "invitation", "colleague"]);
/** Who works alone needs no colleague. */
const OPTIONAL = "colleague";
const NEEDED = STEPS.length - 1;
/** @typedef {typeof STEPS[number]} Step */

// ms: a number comes without a broadcast, and changes come in bursts
const LOOKS = 15_000;
const GATHER = 300;
// ms: a broadcast may come a moment before others can see what it tells of
const AGAIN = 1500;

/**
 * What an owner does next, from a WhatsApp number to the first customer in the portal; what is done
 * is ticked as it happens. Inviting a colleague is shown with it, and may be left out. Once the rest
 * is done it shows nothing, and rises `onboarding-done`.
 *
 * `ways` leads from a step to the place where it is done, by an address of the page.
 *
 *     <onboarding-steps .supabase=${supabase} .live=${live} account=${accountId} .ways=${{ contact: "#/contacts/new" }}></onboarding-steps>
 */
export class OnboardingSteps extends PageElement {
  /** @override */
  static properties = {
    supabase: { attribute: false },
    live: { attribute: false },
    account: {},
    ways: { attribute: false },
    done: { state: true },
  };

  /** The account's number, to which a test message goes. */
  #number = "";

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  /** How often it has looked: the last answer counts. */
  #looks = 0;
  #end = () => {};

  constructor() {
    super();
    /** @type {SupabaseClient | null} */
    this.supabase = null;
    /** @type {Live | null} */
    this.live = null;
    this.account = "";
    /** @type {Partial<Record<Step, string>>} */
    this.ways = {};
    /** @type {ReadonlySet<Step> | null} */
    this.done = null;
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    this.#soon(0);
  }

  /**
   * @override
   * @param {Map<string, unknown>} changed
   */
  willUpdate(changed) {
    if (changed.has("live")) {
      this.#end();
      this.#end = this.live?.onCheckpoint(() => this.#soon(GATHER, AGAIN)) ?? (() => {});
    }
    if (changed.has("account")) this.#soon(0);
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this.#next);
    this.#end();
  }

  /** @override */
  render() {
    const { done } = this;
    if (!done || countOf(done) === NEEDED) return nothing;
    const next = STEPS.find((step) => !done.has(step));
    return html`<section class="steps" aria-labelledby="steps-title">
      <h2 id="steps-title">${text("steps.title")}</h2>
      <p class="muted" role="status">${text("steps.count", { n: countOf(done), of: NEEDED })}</p>
      <ol>
        ${STEPS.map(
          (step) => html`<li class="step ${done.has(step) ? "step-done" : ""}" aria-current=${step === next ? "step" : "false"}>
            <span class="step-mark">${done.has(step) ? icons.sent : nothing}</span>
            <div>
              <p class="step-title">${text(`steps.${step}`)}${step === OPTIONAL ? html` <span class="muted">(${text("steps.optional")})</span>` : nothing}${done.has(step) ? html`<span class="hidden">: ${text("steps.done")}</span>` : nothing}</p>
              ${step === next ? html`<p class="muted">${text(`steps.${step}.how`)}</p>` : nothing} ${done.has(step) ? nothing : this.#way(step)}
            </div>
          </li>`,
        )}
      </ol>
    </section>`;
  }

  /** What leads to a step. @param {Step} step */
  #way(step) {
    const digits = this.#number.replace(/\D/g, "");
    if (step === "message") {
      if (!digits) return nothing;
      return html`<a class="link step-way" href="https://wa.me/${digits}" target="_blank" rel="noopener noreferrer">${text("steps.message.go", { number: this.#number })}</a>`;
    }
    const way = this.ways[step];
    return way ? html`<a class="link step-way" href=${way}>${text(`steps.${step}.go`)}</a>` : nothing;
  }

  /**
   * @param {number} wait ms
   * @param {number} [then] ms until it looks again
   */
  #soon(wait, then = LOOKS) {
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.#look(then), wait);
  }

  /** @param {number} then ms */
  async #look(then) {
    const { supabase, account } = this;
    if (!supabase || !account || !this.isConnected) return;
    /** @param {string} table @param {(asked: any) => any} [which] @param {string} [column] */
    const has = async (table, which = (asked) => asked, column = "account_id") => {
      const { data } = await which(supabase.from(table).select(column).eq("account_id", account)).limit(1);
      return data?.[0]?.[column];
    };
    const look = ++this.#looks;
    const found = await Promise.all([
      has("whatsapp_channels", undefined, "display_phone_number"),
      has("messages", (asked) => asked.eq("sender_type", "operator").in("status", ["sent", "delivered", "read"])),
      has("contacts"),
      has("customers", (asked) => asked.not("portal_user_id", "is", null)).then((isThere) => isThere || has("portal_invitations")),
      this.#hasColleague(supabase, account),
    ]);
    if (look !== this.#looks) return;
    const before = this.done;
    this.#number = found[0] ?? "";
    this.done = new Set(STEPS.filter((_, index) => found[index]));
    if (countOf(this.done) < NEEDED) this.#soon(then);
    else if (!before || countOf(before) < NEEDED) this.tell("onboarding-done");
  }

  /**
   * Whether a second person works for the account, or is invited.
   *
   * @param {SupabaseClient<any, any, any>} supabase
   * @param {string} account
   */
  async #hasColleague(supabase, account) {
    const { data } = await supabase.from("account_members").select("user_id").eq("account_id", account).limit(2);
    if (data?.length !== 1) return !!data?.length;
    // who is alone owns the account, and may ask
    const { data: open } = await supabase.rpc("open_member_invitations", { account_id: account });
    return open?.some((/** @type {{ expires_at: string }} */ { expires_at }) => Date.parse(expires_at) > Date.now());
  }
}

/** How many of the needed steps are done. @param {ReadonlySet<Step>} done */
function countOf(done) {
  return done.size - (done.has(OPTIONAL) ? 1 : 0);
}

customElements.define("onboarding-steps", OnboardingSteps);
