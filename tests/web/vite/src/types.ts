// What a compiler knows of rows and answers; nothing of this runs.

import { type Change, type Database, type Job, createLive } from "@rapport/live";
import type { Tables } from "@rapport/live/database.types";
import type { useAllUpdates, useSyncContacts } from "@rapport/live/react";
import { createClient } from "@supabase/supabase-js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <_ extends true>() => {};

const client = createClient<Database>("http://localhost", "key");
const live = createLive(client);
const [job] = live.jobs().getSnapshot().rows;

// words, what may be null, and rows of subscriptions
type Statuses = "scheduled" | "rescheduled" | "in_progress" | "completed" | "cancelled";
holds<Same<NonNullable<typeof job>["status"], Statuses>>();
holds<Same<Job["status"], Statuses>>();
holds<Same<Job["address"], string | null>>();
holds<Same<ReturnType<typeof useAllUpdates>["invoices"]["rows"][number]["amount_minor"], number>>();
holds<Same<ReturnType<typeof useSyncContacts<"live_chat">>["rows"][number]["conversation_status"], "Open" | "Pending" | "Closed">>();
holds<Same<ReturnType<typeof useSyncContacts<"v2">>["rows"][number]["conversation_status"], "open" | "pending" | "closed">>();
// @ts-expect-error a word that there is not
export const wrong: Job["status"] = "canceled";

// of views: what the schema knows is there, and what an outer join may lack
holds<Same<Tables<"inbox">["unread_count"], number>>();
holds<Same<Tables<"inbox">["last_message"], string | null>>();
holds<Same<Tables<"inbox">["last_sender_type"], "client" | "operator" | "system" | null>>();
holds<Same<Tables<"contacts_v2">["version"], number>>();

// JSON of columns and answers
holds<Same<NonNullable<Tables<"messages">["invoice_data"]>["status"], "draft" | "sent" | "paid" | "overdue" | "void">>();

export async function answers() {
  const { data: window } = await client.rpc("reply_window", { conversation_id: "…" });
  holds<Same<typeof window, { open: boolean; closes_at: string | null } | null>>();
  const { data: page } = await client.rpc("changes_since", { cursor: null });
  const operation = page?.changes[0]?.operation;
  holds<Same<typeof operation, "INSERT" | "UPDATE" | "DELETE" | undefined>>();
  const { data: merged } = await client.rpc("merge_contacts", { keep: "…", drop: "…" });
  holds<Same<typeof merged, { merge_id: string; contact: Tables<"contacts_v2"> } | null>>();
  // @ts-expect-error a direction that there is not
  await client.rpc("request_sync", { direction: "sideways" });
  const { data: jobs } = await client.from("jobs").select("status, starts_at").throwOnError();
  holds<Same<typeof jobs, { status: Statuses; starts_at: string }[]>>();
  // @ts-expect-error a status that there is not
  await client.from("jobs").update({ status: "canceled" }).eq("id", "…");
}

/** A change is told by its `eventType`. */
export function describe(change: Change<Job>): string {
  if (change.eventType === "DELETE") return change.old.service_type;
  return change.eventType === "INSERT" ? change.new.service_type : `${change.old?.status} → ${change.new.status}`;
}
