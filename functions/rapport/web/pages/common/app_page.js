import { createClient } from "@supabase/supabase-js";
import { html, nothing } from "lit";
import { createLive } from "@rapport/live";
import "@rapport/live/elements/connection_status.js";
import { icons } from "@rapport/live/elements/icons.js";
import { Files } from "@rapport/live/elements/media/files.js";
import { PageElement } from "@rapport/live/elements/live_element.js";
import { reasonOf, trouble } from "@rapport/live/elements/parts.js";
import { language, text, word } from "@rapport/live/elements/texts.js";
import { NotAllowed, refusal } from "../../live/errors.js";
import { readConfig } from "./config.js";
import { languageChoice } from "./language_choice.js";
import { briefly, deleteUnsent, endNotifications, isSure, leadOut, unsentOf, waitingNote } from "./left_behind.js";

export { languageChoice };

/** @import { SupabaseClient, User } from "@supabase/supabase-js" */
/** @import { Live, State } from "@rapport/live" */
/** @import { Scope } from "../../live/scope.js" */
/** @import { Config, Login } from "./config.js" */

// ms
const NEXT_ASK = 3000;

/** This login is another page's. */
export class WrongPage extends Error {
  /**
   * @param {string} message
   * @param {"portal" | "dashboard"} page
   */
  constructor(message, page) {
    super(message);
    this.page = page;
  }
}

/** A page that begins with signing in: its client, its session and its live client. */
export class AppPage extends PageElement {
  /** Who is signing in. @type {string | undefined} */
  #entering;
  /** Whether it is asked if the user still belongs here, or was a moment ago. */
  #isAsking = false;

  /** @override */
  static properties = {
    user: { state: true },
    isReady: { state: true },
    isLeaving: { state: true },
    isLost: { state: true },
    failure: { state: true },
    left: { state: true },
  };

  constructor() {
    super();
    /** @type {Config | null} */
    this.config = null;
    /** @type {SupabaseClient | null} */
    this.supabase = null;
    /** @type {Live | null} */
    this.live = null;
    /** @type {Files | null} */
    this.files = null;
    /** @type {User | null} */
    this.user = null;
    this.isReady = false;
    this.isLeaving = false;
    /** Whether the user has been shut out since. */
    this.isLost = false;
    this.failure = "";
    /** Whose login it is, where it is not this page's. @type {"portal" | "dashboard" | null} */
    this.elsewhere = null;
    /** Why a link in a mail has not signed anybody in. */
    this.refusal = "";
    /** What somebody has left here whose session has ended. @type {unknown} */
    this.left = nothing;
  }

  /** What keeps the sessions of pages apart, since a browser may be staff here and a customer there. */
  get app() {
    return "page";
  }

  get heading() {
    return "";
  }

  get lead() {
    return "";
  }

  /** Whether a link in a mail is offered before a password. */
  get prefersLink() {
    return false;
  }

  /**
   * Who may try this page.
   *
   * @param {Login} _login
   */
  mayTry(_login) {
    return true;
  }

  /** The address that is asked for a link, where a link to this page tells it. */
  get knownEmail() {
    return "";
  }

  /** Learns what there is to say to somebody who has not signed in. @returns {Promise<void>} */
  async greet() {}

  /** Begins with the user who has signed in. Throws what keeps it from that. @returns {Promise<void>} */
  async enter() {}

  /** What a user sees who is signed in. @returns {unknown} */
  content() {
    return nothing;
  }

  /** What the user has to be allowed to follow, or the page shows nothing new. @returns {Scope | null} */
  get place() {
    return null;
  }

  /** Whose the page is, asked of the database; nobody's where the user has lost it meanwhile. @returns {Promise<boolean>} */
  async isStillMine() {
    return true;
  }

  /** What somebody reads who has lost it. @returns {[what: string, more: string]} */
  get farewell() {
    return ["", ""];
  }

  /** How it goes: the browser knows at once that its network is away, the connection later. */
  get state() {
    return navigator.onLine ? (this.live?.state ?? "connecting") : "offline";
  }

  /** @override */
  firstUpdated() {
    document.documentElement.lang = language;
    document.title = `${this.heading} · Rapport`;
    for (const event of ["online", "offline"]) window.addEventListener(event, () => this.requestUpdate());
    // without a network the client says nothing of it to other tabs
    window.addEventListener("storage", () => this.user && this.#isLeft() && !localStorage.getItem(this.#kept) && void this.#leave(this.user.id));
    void this.#begin();
  }

  /** @override */
  render() {
    if (this.isLeaving) return html`<main class="whole"><p class="muted" role="status">${text("leave.busy")}</p></main>`;
    if (this.failure) {
      return html`<main class="whole">
        ${trouble(text(this.elsewhere ? "page.wrong" : "page.failed"), { message: this.failure })}
        <div class="actions">
          ${this.elsewhere
            ? html`<a class="button button-main" href="../${this.elsewhere}/" @click=${() => this.#moveSession()}>${text(`sign.to.${this.elsewhere}`)}</a>`
            : html`<button type="button" class="button" @click=${() => location.reload()}>${text("page.again")}</button>`}
          ${this.supabase ? html`<button type="button" class="button" @click=${() => this.signOut()}>${text("sign.other")}</button>` : nothing}
        </div>
        ${languageChoice()}
      </main>`;
    }
    if (this.isLost) {
      const [what, more] = this.farewell;
      return html`<main class="whole">
        <h1>${what}</h1>
        <p role="alert">${more}</p>
        <div class="actions">
          <button type="button" class="button" @click=${() => location.reload()}>${text("page.again")}</button>
          <button type="button" class="button" @click=${() => this.signOut()}>${text("sign.out")}</button>
        </div>
      </main>`;
    }
    if (!this.isReady) return html`<main class="whole"><p class="muted" role="status">${text("page.loading")}</p></main>`;
    if (!this.user) {
      const logins = (this.config?.logins ?? []).filter((login) => this.mayTry(login));
      return html`${this.left}<sign-in .supabase=${this.supabase} .logins=${logins} .heading=${this.heading} .lead=${this.lead} .email=${this.knownEmail} .prefersLink=${this.prefersLink} .refusal=${this.refusal}></sign-in>${languageChoice()}`;
    }
    return this.content();
  }

  /** Asks whether the user still belongs here where a topic is refused, which may only have another name. */
  #checkPlace() {
    const { live, place } = this;
    if (!place || this.#isAsking || this.isLost || !(live?.hub.link.refusal(place) instanceof NotAllowed)) return;
    this.#isAsking = true;
    void this.isStillMine()
      .catch(() => true)
      .then((isMine) => {
        this.isLost = !isMine;
        if (!isMine) return live.close();
        setTimeout(() => {
          this.#isAsking = false;
          this.#checkPlace();
        }, NEXT_ASK);
      });
  }

  /** Ends the session here; others of the user go on. Nothing of the user stays on the device. */
  async signOut() {
    // a page that could not be shown knows nobody
    const user = this.user?.id ?? localStorage.getItem(this.#keptUser);
    if (user) {
      // another tab may write one more while this one asks
      for (let asked = 0, n; (n = await unsentOf(user)) > asked; asked = n) if (!(await isSure(n))) return;
    }
    await this.#leave(user, true);
  }

  /**
   * Leaves the device: nothing more is told, written or kept.
   *
   * @param {string | null} user
   * @param {boolean} isFirst whether other tabs follow
   */
  async #leave(user, isFirst = false) {
    if (this.isLeaving) return;
    this.isLeaving = true;
    const { supabase } = this;
    // unless somebody has signed in since
    const forget = () => this.#isLeft() && localStorage.removeItem(this.#kept);
    try {
      if (isFirst && supabase) await briefly(endNotifications(supabase));
      await briefly(this.live?.close());
      if (user) await deleteUnsent(user);
      if (isFirst) {
        // by this the other tabs know that the session did not end by itself
        localStorage.setItem(this.#keptUser, "");
        await briefly(supabase?.auth.signOut({ scope: "local" }));
        // also without a server to tell
        forget();
        localStorage.removeItem(this.#keptUser);
      }
      // a session that was being renewed may have come back
      await leadOut(this, forget);
    } catch (error) {
      this.isLeaving = false;
      this.#fail(error);
    }
  }

  /** Where the browser keeps the session. */
  get #kept() {
    return `rapport-${this.app}`;
  }

  /** Where it keeps whose session that is, which stays when it ends by itself. */
  get #keptUser() {
    return `${this.#kept}-user`;
  }

  /**
   * Tidies up after somebody whose session ended without a sign-out. Messages that wait are kept for
   * that person until another one comes.
   *
   * @param {User | null} user who is here now
   */
  async #tidy(user) {
    const before = localStorage.getItem(this.#keptUser);
    if (!before || before === user?.id || !this.supabase) return;
    await endNotifications(this.supabase);
    const forget = async () => {
      await deleteUnsent(before);
      localStorage.removeItem(this.#keptUser);
      this.left = nothing;
    };
    const unsent = user ? 0 : await unsentOf(before);
    if (unsent) this.left = waitingNote(unsent, forget);
    else await forget();
  }

  async #begin() {
    try {
      this.config = await readConfig();
      this.supabase = createClient(this.config.url, this.config.publishable_key, {
        // a link in a mail brings the session, or why there is none
        auth: { storageKey: this.#kept, detectSessionInUrl: true },
      });
      const refused = new URLSearchParams(location.hash.slice(1)).has("error_code");
      const { data } = await this.supabase.auth.getSession();
      if (refused) {
        history.replaceState(null, "", location.pathname + location.search);
        this.refusal = text("sign.link");
      }
      if (data.session) await this.#enter(data.session.user);
      // most visitors are signed in already
      else {
        await Promise.all([import("./sign_in.js"), this.greet()]);
        // one that can't be renewed at the moment is kept
        if (!localStorage.getItem(this.#kept)) await this.#tidy(null);
      }
      this.isReady = true;
      // what it calls must not wait for the client, which waits for it
      this.supabase.auth.onAuthStateChange((_, session) => setTimeout(() => this.#changed(session?.user ?? null)));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Whether somebody has signed out here, in another tab. */
  #isLeft() {
    return !localStorage.getItem(this.#keptUser);
  }

  /** @param {User | null} user */
  async #changed(user) {
    if (user?.id === this.user?.id) return;
    if (this.user) return this.#isLeft() ? this.#leave(this.user.id) : location.replace(location.pathname);
    // the client says more than once who has signed in
    if (!user || user.id === this.#entering) return;
    try {
      await this.#enter(user);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @param {User} user */
  async #enter(user) {
    this.#entering = user.id;
    await this.#tidy(user);
    const supabase = /** @type {SupabaseClient} */ (this.supabase);
    this.live = createLive(supabase);
    this.live.hub.expect();
    this.files = this.config?.functions_url ? new Files(supabase, this.config.functions_url) : null;
    this.live.subscribe(() => {
      this.requestUpdate();
      this.#checkPlace();
    });
    await this.enter();
    this.user = user;
    localStorage.setItem(this.#keptUser, user.id);
    // in which mails to sign in are written from now on; nobody waits for it
    if ((user.user_metadata?.language ?? "en") !== language) void supabase.auth.updateUser({ data: { language } }).catch(() => {});
  }

  /** @param {unknown} error */
  #fail(error) {
    if (error instanceof WrongPage) this.elsewhere = error.page;
    this.failure = reasonOf(error);
  }

  /** Lets the other page go on with this session. */
  #moveSession() {
    const kept = localStorage.getItem(this.#kept);
    if (kept) localStorage.setItem(`rapport-${this.elsewhere}`, kept);
    localStorage.removeItem(this.#kept);
  }
}

/**
 * What a customer or member of staff has to know while nothing comes live; nothing in a moment of
 * connecting.
 *
 * @param {State} state
 */
export function connectionNote(state) {
  if (!["offline", "polling", "error", "needs-auth"].includes(state)) return nothing;
  return html`<p class="connection-note connection-note-${state}" role="status">
    ${icons.warning}<span>${word("connection", `${state}.more`)}</span>
    ${state === "needs-auth" ? html`<button type="button" class="link" @click=${() => location.reload()}>${text("sign.in")}</button>` : nothing}
  </p>`;
}

/**
 * The rows of an answer. Throws its error.
 *
 * @template T
 * @param {PromiseLike<{ data: T, error: { message: string } | null, status: number }>} asked
 * @returns {Promise<NonNullable<T>>}
 */
export async function rowsOf(asked) {
  const { data, error, status } = await asked;
  if (error) throw refusal(error, status);
  return /** @type {NonNullable<T>} */ (data);
}
