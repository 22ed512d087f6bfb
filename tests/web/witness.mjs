/*
  A live client that says what it is told, as lines of JSON, and answers what it is asked.

  Settings: url, key, signing_key (of the tokens), user (an id), lifetime ([shortest, longest] of a
  token, in seconds), timing, follow: { name: [subscription, ...arguments] }.
*/

import { createPrivateKey, sign } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { followDesk, followInbox, followReminders, followSyncQuestions, markUnread, stayAtConversation, stayAtDesk } from "../../functions/rapport/web/live/desk.js";
import { createLive } from "../../functions/rapport/web/live/index.js";

const { createClient } = createRequire(new URL("../../functions/rapport/web/package.json", import.meta.url))("@supabase/supabase-js");
const settings = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const { kid, ...coordinates } = settings.signing_key;
const privateKey = createPrivateKey({ key: { kty: "EC", crv: "P-256", ...coordinates }, format: "jwk" });

// the machine's clock, which may be wrong by `clock` ms; tokens come from elsewhere
const rightNow = Date.now;
Date.now = () => rightNow() + (settings.clock ?? 0);

function mint() {
  const [shortest, longest] = settings.lifetime ?? [3600, 3600];
  const now = rightNow() / 1000;
  const claims = { sub: settings.user, role: "authenticated", aud: "authenticated", iat: now, exp: now + shortest + Math.random() * (longest - shortest) };
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "ES256", kid, typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

// as a provider of tokens does: the same one while it is good
let token = null;
let newAt = 0;
async function accessToken() {
  if (settings.user === null) return null;
  if (rightNow() >= newAt) {
    token = mint();
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    newAt = rightNow() + (exp * 1000 - rightNow()) / 2;
  }
  return token;
}

// as browsers do, and unlike Node, a websocket takes no connection over that requests have used
const apart = (url, init) => fetch(url, { ...init, headers: new Headers([...new Headers(init.headers), ["connection", "close"]]) });
const supabase = createClient(settings.url, settings.key, { accessToken, realtime: settings.realtime, global: { fetch: apart } });
const live = createLive(supabase, { timing: settings.timing });
const subscriptions = {};
// what a team's desk makes of several tables; `id` is the account
const desk = {
  inbox: (accountId, wanted) => followInbox(live, { accountId, ...wanted }),
  reminders: (accountId, wanted) => followReminders(live, accountId, wanted),
  questions: (_, wanted) => followSyncQuestions(live, wanted),
};

for (const [name, [kind, id, options = {}]] of Object.entries(settings.follow ?? {})) {
  if (kind === "presence" || kind === "typing") {
    // `id` is where, or whose side
    subscriptions[name] = live[kind](id, options);
    subscriptions[name].subscribe(() => say({ of: name, signs: subscriptions[name].getSnapshot() }));
    continue;
  }
  const tell = (eventType) => (row, old) => say({ of: name, eventType, row, old: old ?? null });
  const told =
    kind === "everything"
      ? Object.fromEntries(
          ["JobInsert", "JobUpdate", "InvoiceInsert", "InvoiceUpdate", "PointsEarned", "ProfileUpdate"].map((event) => [`on${event}`, tell(event)]),
        )
      : { onInsert: tell("INSERT"), onUpdate: tell("UPDATE"), onDelete: tell("DELETE") };
  if (kind === "everything") told.onNewMessage = tell("NewMessage");
  if (kind === "desk") {
    // `id` is the table
    subscriptions[name] = followDesk(live, id, told, options.conversation);
    continue;
  }
  subscriptions[name] = desk[kind] ? desk[kind](id, { ...told, ...options }) : live[kind](id, { ...told, ...options });
  if (kind === "everything") {
    subscriptions[name].subscribe(() => {
      const { jobs, invoices, messages } = subscriptions[name].getSnapshot();
      say({ of: name, shown: [jobs.rows.length, invoices.rows.length, messages.rows.length] });
    });
  }
}
live.onCheckpoint((changes) => say({ checkpoint: changes.map(({ table, eventType }) => [table, eventType]) }));

const errorOf = (error) => error && { name: error.name, message: error.message };
const answers = {
  ready: async () => {
    for (const subscription of Object.values(subscriptions)) await subscription.ready?.();
  },
  state: () => ({ state: live.state, error: errorOf(live.error) }),
  snapshot: ({ of }) => {
    const snapshot = subscriptions[of].getSnapshot();
    return { ...snapshot, error: errorOf(snapshot.error), isSame: snapshot === subscriptions[of].getSnapshot() };
  },
  be: ({ user }) => {
    settings.user = user;
    newAt = 0;
  },
  // what is shown before the server has answered, what it refuses, and what is shown then
  write: async ({ of, how, given }) => {
    const written = subscriptions[of][how](...given);
    const shown = subscriptions[of].getSnapshot().rows;
    const thrown = await written.catch(errorOf);
    return { shown, thrown: thrown ?? null, after: subscriptions[of].getSnapshot().rows };
  },
  do: ({ of, how, given }) => void subscriptions[of][how](...given),
  show: ({ of, shown }) => subscriptions[of].showMe(shown),
  hide: ({ of }) => subscriptions[of].hideMe(),
  say: ({ of }) => subscriptions[of].say(),
  unread: ({ of, conversation }) => markUnread(subscriptions[of], conversation),
  stay: ({ account, conversation }) => void (account ? stayAtDesk(live, account) : stayAtConversation(live, conversation)),
  pause: () => live.pause(),
  resume: () => live.resume(),
  close: () => live.close(),
  left: () => ({ channels: supabase.getChannels().length, timers: process.getActiveResourcesInfo() }),
  churn: async ({ times }) => {
    for (let n = 0; n < times; n++) {
      const jobs = live.jobs();
      if (n % 10 === 0) await jobs.ready();
      jobs.close();
    }
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...more } = JSON.parse(line);
  try {
    say({ answer: (await answers[ask](more)) ?? null });
  } catch (error) {
    say({ answer: { thrown: errorOf(error) } });
  }
}
process.exit();
