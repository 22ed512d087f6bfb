/** The notifications of this device, as a page may end them without the switch for them. */

/** @import { SupabaseClient } from "@supabase/supabase-js" */

/**
 * Ends the notifications of this device, as at sign-out.
 *
 * @param {SupabaseClient<any, any, any>} supabase
 */
export async function endPushes(supabase) {
  const made = await subscription();
  if (!made) return;
  const { error } = await supabase.rpc("delete_push_subscription", { endpoint: made.endpoint });
  // also where our server can't be told: then the push service tells it that the device is gone
  await made.unsubscribe();
  if (error) throw error;
}

/** What the browser has subscribed to for this page, if anything. */
export async function subscription() {
  const registration = await navigator.serviceWorker?.getRegistration();
  return (await registration?.pushManager?.getSubscription()) ?? null;
}
