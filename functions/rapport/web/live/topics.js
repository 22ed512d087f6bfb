import { Bell } from "./bell.js";
import { NotAllowed, NotSignedIn, asLiveError } from "./errors.js";
import { personId } from "./presence.js";
import { keyOf } from "./scope.js";
import { about, backoff, wait, pause } from "./timing.js";
import { SharedTopic, Tabs } from "./tabs.js";
import { Topic } from "./topic.js";

/** @import { LiveError } from "./errors.js" */
/** @import { Room } from "./presence.js" */
/** @import { Scope } from "./scope.js" */
/** @import { Server, Topic as Named } from "./server.js" */
/** @typedef {Named[]} NamedTopics */

// no token is asked for more often
const SOON = 500;

/**
 * Keeps the topics joined that subscriptions want, through all troubles of the connection, which is
 * the app's own. Each trouble ends the topics that it meets, and they are built anew.
 */
export class Topics {
  /** @type {LiveError | null} */
  error = null;
  /** What is wanted, and by how many. @type {Map<string, { scope: Scope, count: number, room?: Room<any> }>} */
  #scopes = new Map();
  /** The names of each scope's topics. @type {Map<string, Set<string>>} */
  #names = new Map();
  /**
   * The user's own topics. What is told of a conversation is told there as well, together with what
   * its transaction has changed elsewhere, and that topics have other names is told there alone.
   *
   * @type {Set<string>}
   */
  #news = new Set();
  /** @type {Map<string, Topic | SharedTopic>} */
  #topics = new Map();
  #tabs = new Tabs({
    receive: (name, event, payload) => this.#receive(name, event, payload),
    news: () => ({
      joined: [...this.#topics.keys()].filter((name) => this.#topics.get(name)?.isJoined),
      refused: [...this.#refused.keys()],
      error: this.error?.message ?? null,
    }),
    wake: () => {
      this.#bell.ring();
      this.#hurried.ring();
    },
  });
  /** @type {Map<string, LiveError>} */
  #refused = new Map();
  #doubted = new Set();
  #bell = new Bell();
  #hurried = new Bell();
  /** @type {LiveError | null} */
  #trouble = null;
  // names are asked for again
  #isStale = true;
  #renewAt = Infinity;
  // each run ends when there is another, or none
  #run = 0;
  #done = Promise.resolve();
  #askedAt = 0;
  #user = "";
  #key = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;

  /**
   * `hear(event, payload, topic)` gets broadcasts. `changed()` is called when topics were joined or lost,
   * which is when to catch up.
   *
   * @param {Server} server
   * @param {(event: string, payload: unknown, topic: string) => void} hear
   * @param {() => void} changed
   */
  constructor(server, hear, changed) {
    this.server = server;
    this.hear = hear;
    this.changed = changed;
  }

  /** Whether everything that is wanted, and may be had, is heard. */
  get isLive() {
    return [...this.#scopes.values()].every(({ scope }) => this.hears(scope) || this.refusal(scope) instanceof NotAllowed);
  }

  /**
   * Whether broadcasts of a scope arrive.
   *
   * @param {Scope} scope
   */
  hears(scope) {
    const names = this.#names.get(keyOf(scope));
    return !!names?.size && [...names].every((name) => this.#topics.get(name)?.isJoined);
  }

  /**
   * Why broadcasts of a scope do not arrive.
   *
   * @param {Scope} scope
   * @returns {LiveError | null}
   */
  refusal(scope) {
    if (this.hears(scope)) return null;
    const names = this.#names.get(keyOf(scope));
    if (names && !names.size) return new NotAllowed("You may not follow this, or not any more.");
    for (const name of names ?? []) {
      const refused = this.#refused.get(name);
      if (refused) return refused;
    }
    return this.error;
  }

  /**
   * Joins the topics of a scope, once for however many want it.
   *
   * @param {Scope} scope
   * @param {Room<any>} [room] what is told of it where clients show themselves
   */
  want(scope, room) {
    const wanted = this.#scopes.get(keyOf(scope)) ?? { scope, count: 0, room };
    wanted.count++;
    this.#scopes.set(keyOf(scope), wanted);
    this.#bell.ring();
  }

  /**
   * Leaves the topics of a scope when nobody wants it any more.
   *
   * @param {Scope} scope
   */
  unwant(scope) {
    const wanted = this.#scopes.get(keyOf(scope));
    if (wanted && !--wanted.count) {
      this.#scopes.delete(keyOf(scope));
      this.#names.delete(keyOf(scope));
    }
    this.#bell.ring();
  }

  /**
   * The joined topics of a scope, to say something there.
   *
   * @param {Scope} scope
   */
  joined(scope) {
    return [...(this.#names.get(keyOf(scope)) ?? [])].flatMap((name) => {
      const topic = this.#topics.get(name);
      return topic instanceof Topic && topic.isJoined ? [topic] : [];
    });
  }

  /** Asks for the names of topics again, since somebody has left, or somebody else is signed in. */
  refresh() {
    this.#isStale = true;
    this.#bell.ring();
  }

  /** As `refresh`, and once more: what tells of it may come a moment before others can see it. */
  rename() {
    this.refresh();
    this.#refreshSoon();
  }

  /** Connects at once, since the server or the network is back. */
  hurry() {
    this.#hurried.ring();
  }

  start() {
    const run = ++this.#run;
    this.#done = this.#done.then(() => this.#loop(run));
  }

  /** Leaves everything, and returns when that is done. */
  async stop() {
    this.#run++;
    this.#bell.ring();
    this.#hurried.ring();
    clearTimeout(this.#soon);
    const left = Promise.all([...this.#topics.keys()].map((name) => this.#leave(name)));
    this.#tabs.leave();
    await left;
  }

  /** @param {number} run */
  async #loop(run) {
    for (let attempt = 0; run === this.#run; ) {
      this.#bell.clear();
      try {
        if (this.#scopes.size || this.#tabs.asked.size) await this.#sync(run);
        else {
          await this.#leaveAllBut(new Set());
          this.#tabs.leave();
        }
        if (this.#trouble) throw this.#trouble;
        attempt = 0;
        this.error = null;
        this.#tabs.announce();
        const poll = about(this.server.timing.slowPoll);
        await this.#bell.wait(this.#scopes.size ? Math.min(this.#renewAt - Date.now(), poll) : Infinity);
        // a name whose change was not heard is found by asking
        this.#isStale ||= Date.now() - this.#askedAt > 0.9 * poll;
      } catch (error) {
        if (run !== this.#run) return;
        this.error = asLiveError(error);
        this.#trouble = null;
        this.#tabs.announce();
        this.changed();
        this.#hurried.clear();
        if (error instanceof NotSignedIn) await this.server.renew();
        await this.#hangUp();
        await wait(this.#hurried, backoff(this.server.timing, attempt++), this.error.retryAfter);
      }
    }
  }

  /**
   * Joins what is wanted and leaves the rest.
   *
   * @param {number} run
   */
  async #sync(run) {
    const { timing, supabase } = this.server;
    const { user, issuedAt, expiresAt } = await this.server.session();
    if (user !== this.#user) [this.#user, this.#key] = [user, await personId(user)];
    await this.#tabs.enter(`rapport-live ${supabase.realtime.endPoint} ${user}`);
    const now = Date.now();
    // by a clock that is wrong it is not issued yet, or has ended: then it counts as just issued
    const left = expiresAt - (now < issuedAt || now > expiresAt ? issuedAt : now);
    this.#renewAt = now + Math.max(left - timing.refreshMargin, left / 2, SOON);
    // joins with the token of the moment, and hands it to what is joined
    await supabase.realtime.setAuth();
    if (this.#isStale || this.#names.size !== this.#scopes.size) {
      this.#isStale = false;
      this.#askedAt = Date.now();
      this.#refused.clear();
      this.#names = await this.#named();
    }
    const wanted = new Set([...this.#news, ...this.#tabs.asked]);
    for (const names of this.#names.values()) for (const name of names) wanted.add(name);
    const lost = await this.#leaveAllBut(wanted);
    const missing = [...wanted].filter((name) => {
      const topic = this.#topics.get(name);
      // a room that was closed and opened again is entered again
      const room = this.#room(name);
      const isRight = topic?.isJoined && topic.room === room && topic.isShared === this.#isShared(room);
      return !this.#refused.has(name) && !isRight;
    });
    if (run !== this.#run || !(missing.length + lost.length)) return;
    // side by side, since each waits for the server
    const joins = await Promise.allSettled(missing.map((name) => this.#join(name, run)));
    this.changed();
    for (const join of joins) if (join.status === "rejected") throw join.reason;
  }

  /**
   * @param {string} name
   * @param {number} run
   */
  async #join(name, run) {
    await this.#topics.get(name)?.leave();
    if (run !== this.#run) return;
    const room = this.#room(name);
    room?.enter();
    const topic = this.#isShared(room) ? new SharedTopic(this.#tabs, name) : this.#topic(name, room);
    this.#topics.set(name, topic);
    try {
      await topic.join(this.server.timing.joinTimeout);
    } catch (error) {
      if (!(error instanceof NotAllowed)) throw error;
      this.#refused.set(name, error);
      this.#tabs.asked.delete(name);
      // the name may have changed since it was asked for: once more, then it is meant
      if (!this.#doubted.has(name)) {
        this.#doubted.add(name);
        this.#refreshSoon();
      }
    }
  }

  /**
   * @param {string} name
   * @param {Room<any>} [room]
   */
  #topic(name, room) {
    return new Topic(
      this.server.supabase,
      name,
      (event, payload) => this.#receive(name, event, payload),
      (error) => {
        this.#trouble ??= error;
        this.#bell.ring();
      },
      room && { room, key: this.#key },
    );
  }

  /**
   * Whether another tab joins it; where clients show themselves each has its own socket.
   *
   * @param {Room<any>} [room]
   */
  #isShared(room) {
    return !room && !this.#tabs.isLeader;
  }

  /** @param {Set<string>} wanted */
  async #leaveAllBut(wanted) {
    return Promise.all([...this.#topics.keys()].filter((name) => !wanted.has(name)).map((name) => this.#leave(name)));
  }

  /** @param {string} name */
  async #leave(name) {
    const topic = this.#topics.get(name);
    await topic?.leave();
    if (this.#topics.get(name) === topic) this.#topics.delete(name);
  }

  /** Throws a socket away that does not come to be open, since the official client waits for it. */
  async #hangUp() {
    const { realtime } = this.server.supabase;
    if (!realtime.isConnected()) {
      // at most a moment: it may be the network that is gone
      await Promise.race([realtime.disconnect(), pause(500)]);
    }
  }

  /** As `refresh`, at random within a moment: all who look at a desk hear it at once. */
  #refreshSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.refresh(), backoff(this.server.timing, 2));
  }

  /**
   * The topics of each scope by their present names; none where the user may not.
   *
   * @returns {Promise<Map<string, Set<string>>>}
   */
  async #named() {
    const mine = await this.server.myTopics();
    const own = mine.filter(({ kind }) => kind === "account" || kind === "customer");
    /** @type {Map<string | null, NamedTopics>} */
    const asked = new Map();
    const named = new Map();
    for (const [key, { scope }] of [...this.#scopes]) {
      let topics = own;
      if (scope.kind === "customer") {
        const hers = own.filter(({ kind, id }) => kind === "customer" && id === scope.id);
        topics = hers.length ? hers : own.filter(({ kind }) => kind === "account");
      } else if (scope.kind !== "all") {
        // the chat, who is there and who writes are named in one answer; desks in every one
        const answer = scope.kind === "presence_desk" ? mine : await this.#asked(asked, scope.id);
        const named = answer.filter(({ kind, id }) => kind === scope.kind && (id === scope.id || !scope.id));
        topics = scope.kind === "conversation" && named.length ? own : named;
      }
      named.set(key, new Set(topics.map(({ topic }) => topic)));
    }
    this.#news = new Set(own.map(({ topic }) => topic));
    return named;
  }

  /**
   * @param {Map<string | null, NamedTopics>} answers
   * @param {string | null} conversation
   */
  async #asked(answers, conversation) {
    const answer = answers.get(conversation) ?? (await this.server.myTopics(conversation));
    answers.set(conversation, answer);
    return answer;
  }

  /** @param {string} name */
  #room(name) {
    for (const [key, { room }] of this.#scopes) if (room && this.#names.get(key)?.has(name)) return room;
    return undefined;
  }

  /**
   * @param {string} name
   * @param {string} event
   * @param {unknown} payload
   */
  #receive(name, event, payload) {
    const room = this.#room(name);
    if (room) {
      // clients broadcast nothing where they show that they are there
      if (event === "topics.changed" && name.startsWith("presence:")) this.#refreshSoon();
      else room.hear(event);
      return;
    }
    this.#tabs.pass(name, event, payload);
    // what still comes on a topic that nobody wants any more is late, and found by catching up
    if (event === "topics.changed" || [...this.#names.values()].some((names) => names.has(name))) {
      this.hear(event, payload, name);
    }
  }
}
