/**
 * What a login leaves on a device: messages that are not sent yet, in the browser's database, and
 * notifications. It comes with the page, since people also sign out without a network.
 */

import { html, render } from "lit";
import { endPushes } from "@rapport/live/elements/pushes.js";
import { text } from "@rapport/live/elements/texts.js";

/** @import { SupabaseClient } from "@supabase/supabase-js" */

// ms
const PATIENCE = 4000;

/**
 * How many messages of a user wait on this device, or were refused.
 *
 * @param {string} user
 */
export function unsentOf(user) {
  return messagesOf(user, "readonly");
}

/**
 * Deletes the messages of a user that were not sent.
 *
 * @param {string} user
 */
export function deleteUnsent(user) {
  return messagesOf(user, "readwrite");
}

/**
 * Has the device tell nothing more to whom it was told.
 *
 * @param {SupabaseClient} supabase
 */
export async function endNotifications(supabase) {
  // where the server can't be told, the push service tells it that the device is gone
  await endPushes(supabase).catch(() => {});
}

/**
 * Asks whether somebody signs out although messages would be lost.
 *
 * @param {number} n
 * @returns {Promise<boolean>}
 */
export function isSure(n) {
  return new Promise((answer) => {
    const dialog = document.createElement("dialog");
    dialog.className = "ask";
    dialog.setAttribute("aria-labelledby", "ask-title");
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    render(
      html`<h2 id="ask-title">${text("leave.title", { n })}</h2>
        <p>${text("leave.more", { n })}</p>
        <div class="actions">
          <button type="button" class="button button-main" autofocus @click=${() => dialog.close()}>${text("leave.stay")}</button>
          <button type="button" class="button button-bad" @click=${() => dialog.close("yes")}>${text("leave.do")}</button>
        </div>`,
      dialog,
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Says above the sign-in that messages of an earlier session wait, without their words.
 *
 * @param {number} n
 * @param {() => void} forget
 */
export function waitingNote(n, forget) {
  return html`<p class="connection-note left-behind" role="status">
    <span>${text("leave.waiting", { n })}</span>
    <button type="button" class="link" @click=${forget}>${text("leave.delete", { n })}</button>
  </p>`;
}

/**
 * Waits for what the server is told, but not for ever: without a network it may not answer.
 *
 * @param {Promise<unknown> | undefined} telling
 */
export function briefly(telling) {
  return Promise.race([Promise.resolve(telling).catch(() => {}), new Promise((end) => setTimeout(end, PATIENCE))]);
}

/**
 * Leads somebody who has signed out to the sign-in, where nothing of before is in memory; without a
 * network it takes the page's place and says so.
 *
 * @param {HTMLElement} page
 * @param {() => void} tidy what is done once more before the page is loaded again
 */
export async function leadOut(page, tidy) {
  const again = () => {
    tidy();
    location.replace(location.pathname);
  };
  const asked = () => fetch(location.pathname, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (navigator.onLine && (await asked().catch(() => null))) return again();
  const main = document.createElement("main");
  main.className = "whole";
  render(
    html`<h1>${text("leave.done")}</h1>
      <p role="status">${text("leave.done.more")}</p>
      <div class="actions"><button type="button" class="button" @click=${again}>${text("page.again")}</button></div>`,
    main,
  );
  page.replaceWith(main);
  window.addEventListener("online", again);
}

/**
 * Counts the messages of a user in the outbox of `live/drawer.js`; with "readwrite" it deletes them.
 *
 * @param {string} user
 * @param {"readonly" | "readwrite"} mode
 * @returns {Promise<number>}
 */
function messagesOf(user, mode) {
  return new Promise((answer, refuse) => {
    const opening = indexedDB.open("rapport-outbox");
    // where there is none, none is made
    opening.onupgradeneeded = () => opening.transaction?.abort();
    opening.onerror = () => answer(0);
    opening.onsuccess = () => {
      const database = opening.result;
      if (!database.objectStoreNames.contains("messages")) {
        database.close();
        return answer(0);
      }
      const transaction = database.transaction("messages", mode, { durability: "strict" });
      const messages = transaction.objectStore("messages");
      const keys = messages.index("user").getAllKeys(user);
      keys.onsuccess = () => {
        if (mode === "readwrite") for (const key of keys.result) messages.delete(key);
      };
      transaction.oncomplete = () => {
        database.close();
        answer(keys.result.length);
      };
      // what could not be deleted is not taken for deleted
      transaction.onabort = () => {
        database.close();
        refuse(transaction.error);
      };
    };
  });
}
