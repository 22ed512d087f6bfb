/*
  A customer's messages, followed by the live client and, unless `settings.alone`, by what an app
  would write with the official client alone. Both note what they have shown, in `told`.
*/

import { createClient } from "https://esm.sh/@supabase/supabase-js@2";
import { createLive } from "./live/index.js";

const { url, key, user, customerId, timing, alone } = window.settings;

// as a provider of tokens does: the same one while it is good
function tokens() {
  let token = null;
  let newAt = 0;
  return async () => {
    if (Date.now() < newAt) return token;
    token = await window.mint(user);
    const { exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    newAt = Date.now() + (exp * 1000 - Date.now()) / 2;
    return token;
  };
}

const realtime = { heartbeatIntervalMs: 500 };
const live = createLive(createClient(url, key, { accessToken: tokens(), realtime }), { timing });
const told = { live: [], plain: [] };
// ms from a change to when it is shown
const late = { live: [], plain: [] };
const at = { live: new Map(), plain: new Map() };
const note = (who, eventType, row, old) => {
  at[who].set(row.message, performance.now());
  late[who].push(Date.now() - Date.parse(row.updated_at));
  told[who].push({ eventType, row, old: old ?? null });
};
const messages = live.messages(customerId, { onChange: ({ eventType, new: now, old }) => note("live", eventType, now ?? old, old) });

const plain = new Map();
const official = createClient(url, key, { accessToken: tokens(), realtime });
if (!alone) follow();

function follow() {
  const show = (row) => {
    const before = plain.get(row.id);
    plain.set(row.id, row);
    note("plain", before ? "UPDATE" : "INSERT", row, before);
  };
  const refetch = async () => {
    const rows = [];
    for (let from = 0; ; from += 1000) {
      const query = official.from("messages").select("*").eq("customer_id", customerId).order("id");
      const { data, error } = await query.range(from, from + 999);
      if (error) return;
      rows.push(...data);
      if (data.length < 1000) break;
    }
    const isFirst = !plain.size;
    for (const row of rows) {
      if (isFirst) plain.set(row.id, row);
      else if (plain.get(row.id)?.version !== row.version) show(row);
    }
  };
  official
    .channel("messages of a customer")
    .on("postgres_changes", { event: "*", schema: "public", table: "messages", filter: `customer_id=eq.${customerId}` }, ({ new: now }) => show(now))
    .subscribe((status) => void (status === "SUBSCRIBED" && refetch()));
}

/** How long it takes from a write to each one's callback, one after the other, in ms. */
async function measure(conversation, times) {
  const took = { live: [], plain: [] };
  for (let n = 0; n < times; n++) {
    const message = `measured ${n}`;
    const begun = performance.now();
    const { error } = await official.rpc("post_message", { conversation_id: conversation, message });
    if (error) throw new Error(error.message);
    for (const who of ["live", "plain"]) {
      while (!at[who].has(message)) await new Promise((later) => setTimeout(later, 1));
      took[who].push(at[who].get(message) - begun);
    }
  }
  return took;
}

/** What is shown otherwise than the database has it, and what was told twice or of the past. */
function flaws(who, versions) {
  const shown = who === "live" ? new Map(messages.getSnapshot().rows.map((row) => [row.id, row])) : plain;
  const wrong = Object.entries(versions).filter(([id, version]) => shown.get(id)?.version !== version).length;
  const last = new Map();
  let twice = 0;
  for (const { row } of told[who]) {
    if ((last.get(row.id) ?? 0) >= row.version) twice++;
    last.set(row.id, row.version);
  }
  return { wrong, twice, late: late[who].filter((ms) => ms > 5000).length, longest: Math.max(...late[who]) / 1000 };
}

Object.assign(window, { live, messages, told, plain, measure, flaws, hearsPlain: () => official.getChannels()[0]?.state === "joined" });
