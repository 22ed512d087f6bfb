// Times of appointments where the viewer's clock shows another time than that of the business.

import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "America/New_York";
Object.defineProperty(globalThis, "localStorage", { value: { getItem: () => "sl" } });
const { appointmentTime, zoneName } = await import("../../functions/rapport/web/elements/format.js");

const NOON = "2026-12-01T11:00:00Z";

test("a language without letters for a zone writes its name", () => {
  assert.equal(zoneName(NOON, "Europe/Ljubljana"), "Srednjeevropski čas");
  assert.match(appointmentTime(NOON, { zone: "Europe/Ljubljana" }), /12:00 \(Srednjeevropski čas\)$/);
});

test("the viewer's own zone is not named", () => {
  assert.equal(zoneName(NOON, "America/New_York"), "");
  assert.match(appointmentTime(NOON, { zone: "America/New_York" }), /6:00$/);
});
