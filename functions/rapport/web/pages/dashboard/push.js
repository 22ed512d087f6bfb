/** Notifications on this device, while no page is open. */

/** @import { Desk } from "./desk.js" */

/** @typedef {"on" | "off" | "denied" | "unsupported"} PushState */

// beside the page, which is all that it works for
const WORKER = new URL("worker.js", location.href.split("#")[0]).href;

/** How it is on this device. @returns {Promise<PushState>} */
export async function pushState() {
  if (!("serviceWorker" in navigator) || !("PushManager" in globalThis)) return "unsupported";
  if (Notification.permission === "denied") return "denied";
  return (await subscriptionHere()) ? "on" : "off";
}

/**
 * Has this device be told; the browser asks the user. Throws where it can't be.
 *
 * @param {Desk} desk
 */
export async function beginPush(desk) {
  const key = await desk.call("push_key", {});
  if (!key) throw new PushError("unset");
  if ((await Notification.requestPermission()) !== "granted") throw new PushError("denied");
  /** @type {PushSubscription} */
  let made;
  try {
    const worker = await navigator.serviceWorker.register(/** @type {any} */ (trusted(WORKER)));
    await navigator.serviceWorker.ready;
    made = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  } catch (cause) {
    throw new PushError("unreachable", { cause });
  }
  const { endpoint, keys } = made.toJSON();
  try {
    await desk.call("save_push_subscription", { endpoint, ...keys });
  } catch (error) {
    await made.unsubscribe();
    throw error;
  }
}

/**
 * Ends that.
 *
 * @param {Desk} desk
 */
export async function endPush(desk) {
  if (!("serviceWorker" in navigator)) return;
  const subscription = await subscriptionHere();
  if (!subscription) return;
  await desk.call("delete_push_subscription", { endpoint: subscription.endpoint });
  await subscription.unsubscribe();
}

/** Why a device can't be told. */
export class PushError extends Error {
  /**
   * @param {"unset" | "denied" | "unreachable"} reason
   * @param {ErrorOptions} [options]
   */
  constructor(reason, options) {
    super(reason, options);
    this.reason = reason;
  }
}

/**
 * Calls a function with the conversation of a notification that was touched; returns what ends that.
 *
 * @param {(id: string) => void} open
 */
export function followTouches(open) {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return () => {};
  const hear = (/** @type {MessageEvent} */ event) => open(String(event.data?.id ?? ""));
  serviceWorker.addEventListener("message", hear);
  serviceWorker.startMessages();
  return () => serviceWorker.removeEventListener("message", hear);
}

async function subscriptionHere() {
  const worker = await navigator.serviceWorker.getRegistration(WORKER);
  return (await worker?.pushManager.getSubscription()) ?? null;
}

/** An address that the page's policy lets be run: that of the worker alone. @param {string} address */
function trusted(address) {
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (!trustedTypes) return address;
  policy ??= trustedTypes.createPolicy("rapport", {
    createScriptURL(/** @type {string} */ wanted) {
      if (wanted !== WORKER) throw new TypeError("Only the worker of notifications is run.");
      return wanted;
    },
  });
  return policy.createScriptURL(address);
}

/** Made once: a policy has its name for itself. @type {any} */
let policy;
