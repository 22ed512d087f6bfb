// The promises that both live clients keep, on the ledger of the one in JavaScript.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { CatchUp } from "../../functions/rapport/web/live/catch_up.js";
import { InboxSource } from "../../functions/rapport/web/live/desk/inbox.js";
import { FaceFeed } from "../../functions/rapport/web/live/face_feed.js";
import { FACES } from "../../functions/rapport/web/live/faces.js";
import { Ledger } from "../../functions/rapport/web/live/ledger.js";
import { FaceSource } from "../../functions/rapport/web/live/contacts.js";
import { MessageSubscription } from "../../functions/rapport/web/live/portal_subscriptions.js";
import { MessageSource, TableSource } from "../../functions/rapport/web/live/sources.js";
import { Subscription } from "../../functions/rapport/web/live/subscription.js";
import { TIMING } from "../../functions/rapport/web/live/timing.js";

const SCENARIOS = new URL("../scenarios/", import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, SCENARIOS), "utf8"));
const FILLING = read("_rows.json");
const uuid = (number) => `00000000-0000-0000-0000-${number.toString(16).padStart(12, "0")}`;
const numberOf = (id) => Number.parseInt(id.replaceAll("-", ""), 16);

/** A ledger, and what a scenario does to it. */
class Story {
  #marks = {};

  constructor({ of, is_whole }) {
    this.table = of;
    const place = of === "messages" ? (row) => [row.conversation_id, row.seq] : null;
    this.ledger = new Ledger(of, (row) => row.customer_id === uuid(1), place, is_whole);
  }

  /** Takes a step; what the ledger answers where it tells something. */
  take(step) {
    if (step.load) return this.ledger.load(step.load.map(this.#full));
    if (step.reach) return this.ledger.reach(uuid(step.reach[0]), step.reach[1]);
    if (step.mark) return void (this.#marks[step.mark] = this.ledger.mark());
    if (step.hear) {
      const event = this.#event(step.hear, true);
      const inDoubt = !this.ledger.isSure([event]);
      return { changes: inDoubt ? [] : this.ledger.hear(event), inDoubt };
    }
    const mark = this.#marks[step.at];
    if (step.settle) return { changes: this.ledger.settle(step.settle.map((event) => this.#event(event))), inDoubt: false };
    assert.ok(step.reread, `there is no such step: ${JSON.stringify(step)}`);
    return { changes: this.ledger.reread(step.reread.map(this.#full), mark, step.of?.map(uuid)), inDoubt: false };
  }

  #full = (row) => full(this.table, row);
  #event = (event, isBroadcast = false) => eventOf(this.table, event, isBroadcast);
}

function full(table, row) {
  const all = { ...FILLING[table], ...row };
  for (const [column, value] of Object.entries(all)) {
    if (column.endsWith("id") && typeof value === "number") all[column] = uuid(value);
  }
  return all;
}

function eventOf(table, event, isBroadcast) {
  const row = full(table, event.row);
  const isGone = event.operation === "DELETE";
  const old = isGone ? row : event.old && full(table, event.old);
  const version = event.version ?? row.version;
  return {
    table,
    id: row.id,
    version: typeof version === "number" ? version : 1,
    operation: event.operation,
    record: isGone || event.is_bare ? null : row,
    old_record: (isBroadcast && !event.is_bare && old) || null,
  };
}

/** Changes by what they have an order in: a conversation or a row. */
function inOrder(table, changes) {
  const ordered = {};
  for (const change of changes) (ordered[table === "messages" ? Math.floor(change[1] / 100) : change[1]] ??= []).push(change);
  // what is gone and what has changed may be told before or after what is new
  for (const some of Object.values(ordered)) some.sort(([a], [b]) => (a < b ? -1 : Number(a > b)));
  return ordered;
}

for (const name of readdirSync(SCENARIOS).filter((name) => /^[^_].*\.json$/.test(name))) {
  test(name.replace(".json", ""), () => {
    const scenario = read(name);
    const story = new Story(scenario);
    for (const step of scenario.steps) {
      const heard = story.take(step);
      if (!heard) continue;
      const told = heard.changes.map(({ eventType, new: now, old }) => [eventType, numberOf((now ?? old).id), now?.version ?? null, old?.version ?? null]);
      assert.deepEqual(inOrder(scenario.of, told), inOrder(scenario.of, step.tell), JSON.stringify(step));
      assert.equal(heard.inDoubt, step.in_doubt, JSON.stringify(step));
    }
    const shown = story.ledger.rows.map(({ id, version }) => [numberOf(id), version]).sort(([a], [b]) => a - b);
    assert.deepEqual(shown, scenario.rows, scenario.promise);
  });
}

const TRANSACTIONS = new URL("transactions/", SCENARIOS);
const PLACES = { messages: (row) => [row.conversation_id, row.seq] };

for (const name of readdirSync(TRANSACTIONS)) {
  test(`transactions/${name.replace(".json", "")}`, async () => {
    const { promise, load, steps, rows } = JSON.parse(readFileSync(new URL(name, TRANSACTIONS), "utf8"));
    const gather = 20;
    const server = { timing: { ...TIMING, gather }, all: async (table) => (load[table] ?? []).map((row) => full(table, row)) };
    const hub = new CatchUp(server);
    // what is heard comes from here, and the log is not read
    hub.isPaused = true;
    let isAsked = false;
    hub.request = () => (isAsked = true);
    const followed = {};
    for (const table of Object.keys(rows)) {
      const source = () => new TableSource(table, { kind: "customer", id: uuid(1) }, { place: PLACES[table] });
      followed[table] = new Subscription(hub, { kind: "all", id: null }, source, (rows) => rows);
      await followed[table].load(server);
    }
    hub.isPaused = false;
    hub.isRunning = true;
    let told = [];
    hub.checkpoints.add((changes) => {
      assert.deepEqual(told, [], "told apart");
      told = changes.map(({ table, eventType, new: now, old }) => [table, eventType, numberOf((now ?? old).id), now?.version ?? null, old?.version ?? null]);
    });
    for (const { broadcast, tell, in_doubt, unreadable } of steps) {
      [told, isAsked] = [[], false];
      if (broadcast) {
        const { transaction, count, table } = broadcast;
        hub.link.hear("any", { ...eventOf(table, broadcast, true), transaction, count }, "customer:1");
      } else await new Promise((done) => setTimeout(done, 2 * gather));
      assert.deepEqual(told.sort(), tell.sort(), promise);
      assert.equal(isAsked, in_doubt, promise);
      if (!unreadable) continue;
      const wrong = Object.keys(rows).filter((table) => followed[table].getSnapshot().error?.name === "Unreadable");
      assert.deepEqual(wrong, unreadable, promise);
    }
    for (const [table, shown] of Object.entries(rows)) {
      assert.deepEqual(followed[table].getSnapshot().rows.map(({ id, version }) => [numberOf(id), version]).sort(([a], [b]) => a - b), shown, promise);
    }
  });
}

const OF_FACES = new URL("faces/", SCENARIOS);

for (const name of readdirSync(OF_FACES)) {
  test(`faces/${name.replace(".json", "")}`, () => {
    const { promise, steps, rows } = JSON.parse(readFileSync(new URL(name, OF_FACES), "utf8"));
    const feed = new FaceFeed(FACES.v2);
    for (const { load, replace, hear, tell } of steps) {
      const told = [];
      for (const [table, some] of Object.entries(load ?? {})) feed.load(table, some.map((row) => full(table, row)));
      for (const [table, some] of Object.entries(replace ?? {})) told.push(...feed.replace(table, some.map((row) => full(table, row))));
      if (hear) told.push(...feed.apply(hear.map((event) => eventOf(event.table, event, true))));
      if (!tell) continue;
      const shown = told.map(({ eventType, new: now, old }) => [eventType, numberOf((now ?? old).id), now?.version ?? null, old?.version ?? null]);
      assert.deepEqual(shown, tell, promise);
    }
    assert.deepEqual(feed.rows.map(({ id, version }) => [numberOf(id), version]).sort(([a], [b]) => a - b), rows, promise);
  });
}

const OF_SOURCES = new URL("sources/", SCENARIOS);

/** A server that has these rows. */
class Server {
  constructor(rows) {
    this.has = rows;
  }

  async owners() {
    return this.has.owners.map((owner) => full("owners", owner));
  }

  async all(table, equals, key = "id", after = null) {
    const rows = (this.has[table] ?? []).map((row) => full(table, row));
    const asked = Object.entries(equals).filter(([column]) => column in (rows[0] ?? {}));
    return rows.filter((row) => asked.every(([column, value]) => row[column] === value) && (after === null || row[key] > after));
  }

  async rows(table, ids) {
    return (await this.all(table, {})).filter(({ id }) => ids.includes(id));
  }
}

for (const name of readdirSync(OF_SOURCES)) {
  test(`sources/${name.replace(".json", "")}`, async () => {
    const { promise, of, customer, steps, rows, shown } = JSON.parse(readFileSync(new URL(name, OF_SOURCES), "utf8"));
    const scope = customer ? { kind: "customer", id: uuid(customer) } : { kind: "all", id: null };
    const source = of === "contacts" ? new FaceSource("v2") : new MessageSource(scope);
    for (const { server, do: what, tell } of steps) {
      const told = (await source[what](new Server(server))) ?? [];
      const changes = told.map(({ eventType, new: now, old }) => [eventType, numberOf((now ?? old).id), now?.version ?? null, old?.version ?? null]);
      assert.deepEqual(inOrder(of, changes), inOrder(of, tell), promise);
    }
    if (rows) assert.deepEqual(source.rows.map(({ id, version }) => [numberOf(id), version]).sort(([a], [b]) => a - b), rows, promise);
    if (!shown) return;
    const hub = new CatchUp({ timing: TIMING });
    hub.isPaused = true;
    const messages = new MessageSubscription(hub, scope);
    await messages.load(new Server(steps.at(-1).server));
    assert.deepEqual(messages.getSnapshot().rows.map(({ id }) => numberOf(id)), shown, promise);
  });
}

const OF_THE_INBOX = new URL("inbox/", SCENARIOS);
const minute = (at) => `2026-11-21T08:${String(at).padStart(2, "0")}:00+00:00`;
const inboxRow = ({ at, ...row }) => full("inbox", { ...row, last_message_at: minute(at) });
const placeOf = ({ last_message_at, id }) => [-Date.parse(last_message_at), numberOf(id)];
const later = (a, b) => placeOf(a)[0] - placeOf(b)[0] || placeOf(a)[1] - placeOf(b)[1];

/** A server with conversations, which notes what it is asked. */
class Inbox {
  timing = { slowPoll: 0 };
  asked = [];
  has = {};
  // what the official client builds of a question is of no interest here
  supabase = new Proxy(() => {}, { get: () => () => this.supabase });

  async owners() {
    return [{ account_id: uuid(1) }];
  }

  async ask() {
    return (this.has.markers ?? []).map(([id, seq]) => ({ conversation_id: uuid(id), last_read_seq: seq }));
  }

  async rpc(name, { ids, before, before_id, page_size, is_free }) {
    if (name !== "inbox_page") return {};
    this.asked.push(ids ? { ids: ids.map(numberOf).sort() } : { after: before_id ? numberOf(before_id) : null, size: page_size });
    const { inbox = [], others = [] } = this.has;
    const rows = [...inbox, ...(is_free === undefined ? others : [])].map(inboxRow).sort(later);
    const last = before && { last_message_at: before, id: before_id };
    return rows.filter((row) => (!ids || ids.includes(row.id)) && (!last || later(row, last) > 0)).slice(0, page_size);
  }
}

/** A filter as a page gives it. */
function given({ assignee_id, label_id, is_free, ...more } = {}) {
  return { ...more, assigneeId: assignee_id && uuid(assignee_id), labelId: label_id && uuid(label_id), isFree: is_free };
}

for (const name of readdirSync(OF_THE_INBOX)) {
  test(`inbox/${name.replace(".json", "")}`, async () => {
    const { promise, page_size, filter, steps } = JSON.parse(readFileSync(new URL(name, OF_THE_INBOX), "utf8"));
    const server = new Inbox();
    const wanted = { pageSize: page_size, filter: given(filter) };
    const source = new InboxSource(wanted);
    for (const { server: has = server.has, do: what, filter, id, hear, settle, in_doubt = false, asked, tell, shown, has_more, pinned } of steps) {
      [server.has, server.asked] = [has, []];
      const events = (hear ?? settle ?? []).map((event) => eventOf(event.table, event, !!hear));
      assert.equal(!!hear && !source.isSure(events), in_doubt, promise);
      if (hear && !in_doubt) source.hear(events);
      else if (settle) source.settle(events);
      if (what === "load") await source.load(server);
      else if (what === "reread") await source.reread(server);
      else if (what === "more") source.more();
      else if (what === "filter") {
        wanted.filter = given(filter);
        source.renew();
      } else if (what === "pin") {
        wanted.pinnedId = uuid(id);
        source.pin();
      }
      if (what !== "load") await source.ask(server);
      assert.deepEqual(server.asked, asked, promise);
      const told = source.changes.splice(0).map(({ eventType, new: now, old }) => [eventType, numberOf((now ?? old).id)]);
      assert.deepEqual(told.sort(), tell.sort(), promise);
      assert.deepEqual(source.rows.sort(later).map((row) => numberOf(row.id)), shown, promise);
      assert.equal(source.hasMore, has_more, promise);
      const open = source.pinned && [numberOf(source.pinned.id), source.pinned.last_message_at];
      assert.deepEqual(open, pinned ? [pinned[0], minute(pinned[1])] : null, promise);
    }
  });
}
