// What the server refuses, in words for people, with a state for what is shown.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Server } from "../../functions/rapport/web/live/server.js";
import { TIMING } from "../../functions/rapport/web/live/timing.js";
import { refusal } from "../../functions/rapport/web/live/errors.js";
import { stateOf } from "../../functions/rapport/web/live/catch_up.js";

const SECRET = "Key (email)=(somebody@else.example) already exists.";

for (const [code, status, name, state] of [
  ["PGRST301", 401, "NotSignedIn", "needs-auth"],
  ["PGRST303", 401, "NotSignedIn", "needs-auth"],
  ["", 0, "Unavailable", "offline"],
  ["57014", 500, "Unavailable", "offline"],
  ["", 503, "Unavailable", "offline"],
  ["", 429, "Unavailable", "offline"],
  ["PT429", 429, "Unavailable", "offline"],
  // a database without the function: of another version than the client
  ["PGRST202", 404, "LiveError", "error"],
  // a table that is not there, to PostgREST 12 and to its successors
  ["42P01", 404, "LiveError", "error"],
  ["PGRST205", 404, "LiveError", "error"],
  ["42501", 403, "NotAllowed", "error"],
  ["PT404", 404, "NotFound", "error"],
  ["23505", 409, "Conflict", "error"],
  ["PT409", 409, "Conflict", "error"],
  ["PT422", 422, "Unprocessable", "error"],
  ["22007", 400, "Unprocessable", "error"],
  ["XX000", 500, "LiveError", "error"],
]) {
  test(`${code || status} is ${name}`, () => {
    const error = refusal({ code, message: SECRET, details: "field: email", hint: "Write another." }, status);
    assert.equal(error.name, name);
    assert.equal(stateOf(error), state);
    // only the database's own functions have words that are meant for the caller
    const isOurs = code.startsWith("PT") || code === "42501";
    assert.equal(error.message === SECRET, isOurs);
    assert.ok(error.message.length > 10);
    if (isOurs && name !== "Unavailable") assert.deepEqual([error.field, error.hint], ["email", "Write another."]);
  });
}

test("how long the server wants to be left alone", () => {
  const error = refusal({ code: "PT429", message: "Too many requests.", details: "retry after: 7 s" }, 429);
  assert.equal(error.retryAfter, 7000);
  assert.equal(refusal({ code: "" }, 503).retryAfter, 0);
});

test("what a newer database logs is read as rows", async () => {
  const known = { table: "jobs", id: "1", version: 1, operation: "INSERT", record: { id: "1" } };
  const page = (...changes) => ({ data: { cursor: "c", changes, more: false, resync: false } });
  let answer;
  const query = { retry: () => query, abortSignal: async () => answer };
  const token = `x.${btoa(JSON.stringify({ sub: "cilka", exp: 9e9 }))}.x`;
  const server = new Server({ schema: () => ({ rpc: () => query }), realtime: { accessToken: async () => token } }, TIMING);
  answer = page(known);
  assert.equal((await server.changesSince("c")).resync, false);
  answer = page({ ...known, operation: "ARCHIVE" }, known);
  const { changes, resync } = await server.changesSince("c");
  assert.deepEqual([changes.length, resync], [1, true]);
});
