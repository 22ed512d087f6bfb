/*
  What supabase-js and the live client do with a project's keys, as one line of JSON.

  Settings: url, publishable, secret, email, password.
*/

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createLive } from "../../functions/rapport/web/live/index.js";
import { Server } from "../../functions/rapport/web/live/server.js";
import { TIMING } from "../../functions/rapport/web/live/timing.js";

const { createClient } = createRequire(new URL("../../functions/rapport/web/package.json", import.meta.url))("@supabase/supabase-js");
const { url, publishable, secret, email, password } = JSON.parse(process.argv[2]);

/** What was asked since the last look. */
let asked = [];
const look = () => asked.splice(0);
const recorded = (input, init) => {
  const headers = new Headers(init?.headers);
  asked.push({ path: new URL(input).pathname, apikey: headers.get("apikey"), bearer: headers.get("authorization")?.replace("Bearer ", "") });
  return fetch(input, init);
};
const clientOf = (key) => createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false }, global: { fetch: recorded } });
const joins = (supabase, topic, config) =>
  new Promise((resolve) => supabase.channel(topic, { config }).subscribe((status) => resolve(status)));

const nobody = clientOf(publishable);
const anonymous = await nobody.rpc("my_topics");
look();
const live = await new Server(nobody, TIMING).myTopics().catch((error) => error.name);
const liveAsked = look().length;
const publicTopic = await joins(nobody, "lobby", { private: false });
const privateTopic = await joins(nobody, "secret", { private: true });

const admin = clientOf(secret);
const listed = await admin.auth.admin.listUsers();
const backend = await admin.schema("backend").rpc("account_country", { account: "nobody" });

const user = clientOf(publishable);
const signedIn = await user.auth.signInWithPassword({ email, password });
assert.equal(signedIn.error, null);
const topics = await user.rpc("my_topics");
const theirTopic = await joins(user, topics.data[0].topic, { private: true });
look();
const claims = await user.auth.getClaims();
const firstAsked = look().map(({ path }) => path);
const again = await user.auth.getClaims();
const forged = await user.auth.getClaims(signedIn.data.session.access_token.replace(/.{6}$/, "AAAAAA"));
const laterAsked = look().map(({ path }) => path);

const following = createLive(user).jobs();
await following.ready();
const liveBearers = look().map(({ bearer }) => bearer === signedIn.data.session.access_token);
await createLive(user).close();
for (const supabase of [nobody, admin, user]) await supabase.removeAllChannels();

console.log(
  JSON.stringify({
    anonymous: anonymous.error?.code,
    live,
    liveAsked,
    publicTopic,
    privateTopic,
    listed: listed.error?.message ?? listed.data.users.length,
    backend: backend.error?.code,
    topics: topics.error?.message ?? topics.data.length > 0,
    theirTopic,
    claims: claims.error?.message ?? [claims.data.claims.email, claims.data.header.alg],
    firstAsked,
    again: again.error?.message ?? again.data.claims.email,
    forged: forged.error?.name,
    laterAsked,
    liveBearers,
  }),
);
