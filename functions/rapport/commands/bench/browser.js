/*
  A customer's appointments in a page, followed by the live client or by the official one alone.
  bench/browser.py serves it, and calls what it leaves on the window.
*/

import { createLive } from "./live/index.js";
import { createClient } from "./supabase.js";

const PAUSE = 1; // ms

const { url, key, staff, customer } = JSON.parse(document.querySelector("#settings").textContent);
const client = createClient(url, key, { accessToken: async () => customer.token });
const desk = createClient(url, key, { accessToken: async () => staff });
const live = createLive(client);
/** When the appointment was heard with this description. @type {Map<string, number>} */
const heard = new Map();

const until = async (holds) => {
  while (!holds()) await new Promise((next) => setTimeout(next, PAUSE));
};

const hear = (job) => void heard.set(job.description, performance.now());

const follow = {
  live: async () => {
    const jobs = live.jobs(customer.id, { onUpdate: hear });
    await until(() => jobs.getSnapshot().isConnected);
    return jobs.close;
  },
  official: async () => {
    const channel = client.channel("appointments");
    const binding = { event: "UPDATE", schema: "public", table: "jobs", filter: `customer_id=eq.${customer.id}` };
    let isFollowed = false;
    channel
      .on("postgres_changes", binding, ({ new: job }) => hear(job))
      .on("system", {}, ({ status }) => (isFollowed ||= status === "ok"))
      .subscribe();
    await until(() => isFollowed);
    return () => client.removeChannel(channel);
  },
};

/** Milliseconds from each change to its callback, one change after the other. */
window.measure = async (who, times) => {
  const stop = await follow[who]();
  const taken = [];
  for (let n = 0; n < times; n++) {
    const description = `${who} ${n}`;
    const begun = performance.now();
    const { error } = await desk.from("jobs").update({ description }).eq("id", customer.job);
    if (error) throw new Error(error.message);
    await until(() => heard.has(description));
    taken.push(heard.get(description) - begun);
  }
  await stop();
  return taken;
};

let missing = { messages: new Set(), rows: new Map() };
let toldAt = 0;
const tellRow = ({ id, description }) => {
  if (missing.rows.get(id) === description) missing.rows.delete(id);
  toldAt = performance.now();
};

/** Follows the whole portal, and goes away. */
window.leave = async () => {
  window.portal ??= live.everything(customer.id, {
    onNewMessage: ({ message }) => {
      missing.messages.delete(message);
      toldAt = performance.now();
    },
    onJobUpdate: tellRow,
    onInvoiceUpdate: tellRow,
  });
  await until(() => window.portal.getSnapshot().isConnected);
  await live.pause();
};

/** Comes back; milliseconds until all is told. */
window.comeBack = async ({ messages, rows }) => {
  missing = { messages: new Set(messages), rows: new Map(Object.entries(rows)) };
  const begun = performance.now();
  live.resume();
  await until(() => !missing.messages.size && !missing.rows.size);
  return toldAt - begun;
};
