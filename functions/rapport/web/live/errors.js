/**
 * What can go wrong, by kind; `message` is for people, `field` and `hint` come with what the
 * database refuses.
 *
 *     LiveError
 *     ├ NotSignedIn · NotAllowed · NotFound · Conflict · Unprocessable
 *     ├ Unavailable    (asking again may help)
 *     └ Unreadable
 */
export class LiveError extends Error {
  /** A word of its own, since bundlers give classes other names. @override @type {string} */
  name = "LiveError";

  /**
   * @param {string} message
   * @param {{ code?: string, field?: string, hint?: string, facts?: Readonly<Record<string, string>>, retryAfter?: number, cause?: unknown }} [more]
   */
  constructor(message, more = {}) {
    super(message, { cause: more.cause });
    this.code = more.code;
    this.field = more.field;
    this.hint = more.hint;
    /** What the sentence is about, such as `{ points: "50", wanted: "100" }`. */
    this.facts = more.facts;
    /** For so many milliseconds the server wants to be asked nothing. */
    this.retryAfter = more.retryAfter ?? 0;
  }

  /** Whether the same call may succeed later. */
  get retryable() {
    return false;
  }
}

/** Nobody is signed in, or the token is not good any more. */
export class NotSignedIn extends LiveError {
  /** @override */
  name = "NotSignedIn";
}
/** The user may not do this, or not see this. */
export class NotAllowed extends LiveError {
  /** @override */
  name = "NotAllowed";
}
/** There is no such thing, as far as the user may see. */
export class NotFound extends LiveError {
  /** @override */
  name = "NotFound";
}
/** Somebody else was faster, or it is there already. */
export class Conflict extends LiveError {
  /** @override */
  name = "Conflict";
}
/** The values can't be taken. */
export class Unprocessable extends LiveError {
  /** @override */
  name = "Unprocessable";
}
/** An answer or a row is not what this client expects. */
export class Unreadable extends LiveError {
  /** @override */
  name = "Unreadable";
}
/** The server can't be reached, or is too busy. */
export class Unavailable extends LiveError {
  /** @override */
  name = "Unavailable";

  /** @override */
  get retryable() {
    return true;
  }
}

// Five letters are Postgres' SQLSTATE, PTxyz is how the database's functions choose a status,
// PGRSTnnn is PostgREST's own.
const TOKEN = /^PGRST30[0-3]$/;
const AWAY = /^(08...|53...|40001|40P01|55P03|57014|57P0[123]|PT503|PGRST00[0-3])$/;
// a function, table or column that the database does not have
const OLDER = /^(PGRST20[0-5]|42P01|42703|42883)$/;
/** @type {[RegExp, typeof LiveError][]} */
const REFUSALS = [
  [/^(PT40[13]|42501)$/, NotAllowed],
  [/^PT404$/, NotFound],
  [/^(PT409|23505|23P01)$/, Conflict],
  [/^(PT4..|22...|23...)$/, Unprocessable],
];

/**
 * The error for a call that the database has refused.
 *
 * @param {{ code?: string, message?: string, details?: string | null, hint?: string | null }} error
 * @param {number} status of HTTP; 0 where nothing came back
 * @returns {LiveError}
 */
export function refusal(error, status) {
  const code = error.code ?? "";
  if (status === 401 || TOKEN.test(code)) return new NotSignedIn("Sign in again: the session has ended.", { code });
  // the words of errors that the database's functions did not write may hold what is not the caller's
  const isOurs = code.startsWith("PT") || code === "42501";
  const facts = isOurs ? Object.fromEntries([...(error.details ?? "").matchAll(/(\w+): ([^;]*)/g)].map((found) => found.slice(1))) : {};
  if (status === 0 || status === 429 || status >= 502 || AWAY.test(code)) {
    return new Unavailable((isOurs && error.message) || "The server can't be reached, or is too busy. It is asked again.", {
      code,
      // retry after: 2 s
      retryAfter: (parseInt(facts.after) || 0) * 1000,
    });
  }
  if (OLDER.test(code)) {
    return new LiveError("The database is of another version than this client. Load the page again.", { code });
  }
  const kind = REFUSALS.find(([codes]) => codes.test(code))?.[1] ?? LiveError;
  return new kind(isOurs && error.message ? error.message : `The server refused this (code ${code || status}).`, {
    code,
    field: facts.field,
    hint: isOurs ? (error.hint ?? undefined) : undefined,
    facts,
  });
}

/**
 * Anything that was thrown, as an error of this client.
 *
 * @param {unknown} thrown
 * @returns {LiveError}
 */
export function asLiveError(thrown) {
  if (thrown instanceof LiveError) return thrown;
  report(thrown);
  return new LiveError("Something unforeseen went wrong. It is asked again.", { cause: thrown });
}

/**
 * Tells the page of an error without stopping anything else.
 *
 * @param {unknown} error
 */
export function report(error) {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}

/**
 * Makes a call that is not ours; what it throws is reported.
 *
 * @template {unknown[]} Arguments
 * @param {((...given: Arguments) => unknown) | null | undefined} callback
 * @param {Arguments} given
 */
export function call(callback, ...given) {
  if (!callback) return;
  try {
    const answer = callback(...given);
    if (answer instanceof Promise) answer.catch(report);
  } catch (error) {
    report(error);
  }
}
