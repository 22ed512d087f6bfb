import { NotAllowed, NotSignedIn, Unavailable } from "./errors.js";

/** @import { LiveError } from "./errors.js" */
/** @import { Room } from "./presence.js" */
/** @import { RealtimeChannel, SupabaseClient } from "@supabase/supabase-js" */

const GOODBYE = 1000;
const TOKEN = /^(InvalidJWTToken|MalformedJWT|JwtSignatureError|ExpiredToken)/;

/**
 * One private topic, joined once. At the first trouble it is of no more use and `broke(error)` is
 * called: the official client would rejoin with a stale token, and give up after a while.
 */
export class Topic {
  isShared = false;
  isJoined = false;
  #isOver = false;
  /** @type {Promise<void> | null} */
  #left = null;
  #channel;
  #broke;
  /** Ends a join that nobody waits for any more. */
  #giveUp = () => {};

  /**
   * @param {SupabaseClient<any, any, any>} supabase
   * @param {string} name
   * @param {(event: string, payload: unknown) => void} hear
   * @param {(error: LiveError) => void} broke
   * @param {{ room: Room<any>, key: string }} [place] where clients show themselves, and by which key
   */
  constructor(supabase, name, hear, broke, place) {
    this.#broke = broke;
    this.room = place?.room;
    /** @type {RealtimeChannel} */
    this.#channel = supabase.channel(name, {
      config: { private: true, presence: place && { key: place.key, enabled: true } },
    });
    if (place) {
      this.#channel.on("presence", { event: "sync" }, () => {
        if (!this.#isOver) place.room.show(this.#channel.presenceState());
      });
    }
    this.#channel.on("broadcast", { event: "*" }, ({ event, payload }) => {
      if (!this.#isOver) hear(event, payload);
    });
  }

  /**
   * Joins. Throws NotAllowed when the user may not follow it, NotSignedIn when the token is not
   * good, and Unavailable for anything else.
   *
   * @param {number} timeout
   * @returns {Promise<void>}
   */
  join(timeout) {
    return new Promise((resolve, reject) => {
      this.#giveUp = () => reject(new Unavailable("The topic was left."));
      this.#channel.subscribe((status, error) => {
        if (this.#isOver) return;
        if (status === "SUBSCRIBED") {
          this.isJoined = true;
          if (this.room?.tracked) void this.track();
          return resolve();
        }
        const reason = refusalOf(status, error);
        if (this.isJoined) this.#broke(reason);
        else reject(reason);
        void this.leave();
      }, timeout);
    });
  }

  /** Shows the user as present in a joined room, or no more, as the room has it. */
  async track() {
    const room = /** @type {Room<any>} */ (this.room);
    const answer = await (room.tracked ? this.#channel.track(room.tracked) : this.#channel.untrack());
    if (answer === "error" && !this.#isOver) room.turnAway(new NotAllowed("You may not show yourself here, or not like this."));
  }

  /**
   * Broadcasts to the clients that have joined; without permission to write nobody hears it.
   *
   * @param {string} event
   * @param {object} payload
   */
  async send(event, payload) {
    await this.#channel.send({ type: "broadcast", event, payload });
  }

  /**
   * Leaves for good, and returns when the name can be joined again.
   *
   * @returns {Promise<void>}
   */
  leave() {
    this.isJoined = false;
    this.#isOver = true;
    this.#giveUp();
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave() {
    // a server that does not answer keeps nobody waiting
    await this.#channel.unsubscribe(GOODBYE);
    this.#channel.teardown();
  }
}

/**
 * @param {string} status
 * @param {Error} [error]
 */
function refusalOf(status, error) {
  const reason = /** @type {any} */ (error?.cause)?.reason ?? error?.message ?? status;
  if (reason.startsWith("Unauthorized")) return new NotAllowed("You may not follow this, or not any more.");
  if (TOKEN.test(reason)) return new NotSignedIn("Sign in again: the session has ended.");
  return new Unavailable(`Live updates are away (${reason}). Changes are asked for meanwhile.`);
}
