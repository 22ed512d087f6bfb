/* What bench/web.py asks of a page; each is on the window from the page's beginning. */

const tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });

const frame = () => new Promise(requestAnimationFrame);
/** Milliseconds since 1970, the same in all pages of a browser. */
const now = () => performance.timeOrigin + performance.now();

/** The lengths of the tasks of more than 50 ms since it was asked last. */
window.takeTasks = async () => {
  // they are told a moment later
  await new Promise((next) => setTimeout(next, 200));
  return tasks.splice(0);
};

/** Waits until something holds, as often as the page changes, and then for the frame that shows it. */
const seen = (holds) =>
  new Promise((resolve) => {
    const look = () => {
      if (!holds()) return false;
      changes.disconnect();
      requestAnimationFrame(() => resolve(now()));
      return true;
    };
    const changes = new MutationObserver(look);
    changes.observe(document, { subtree: true, childList: true, characterData: true });
    look();
  });

/** Signs in by the form; milliseconds until the first conversation is in sight. */
window.signIn = async ({ email, password }) => {
  document.querySelector("[name=email]").value = email;
  document.querySelector("[name=password]").value = password;
  const begun = now();
  document.querySelector("sign-in form").requestSubmit();
  return (await seen(() => document.querySelector(".inbox-row"))) - begun;
};

const holds = (words) => [...document.querySelectorAll(".inbox-words, .bubble-words")].some(({ textContent }) => textContent.includes(words));

/** When words are in sight, in the list or in a bubble. */
window.whenSeen = (words) => seen(() => holds(words));

/** Until words have come; it looks seldom, so that it takes no time from the page. */
window.untilSeen = async (words) => {
  while (!holds(words)) await new Promise((next) => setTimeout(next, 250));
};

/** Has the phone's server bring a message; when it was written. */
window.bring = async (order) => {
  const begun = now();
  const answer = await fetch("messages", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(order) });
  if (!answer.ok) throw new Error(await answer.text());
  return begun;
};

/** Scrolls a conversation to its beginning and back; the most bubbles at a time. */
window.scrollUp = async () => {
  const log = document.querySelector(".chat");
  let bubbles = 0;
  for (const step of [-600, 600]) {
    for (let still = 0; still < 10; ) {
      const before = log.querySelector("[data-key]")?.dataset.key + log.scrollTop;
      log.scrollTop += step;
      await frame();
      await frame();
      bubbles = Math.max(bubbles, log.querySelectorAll("[data-key]").length);
      const isStill = before === log.querySelector("[data-key]")?.dataset.key + log.scrollTop;
      still = isStill ? still + 1 : 0;
    }
  }
  return bubbles;
};

/** The JavaScript that the page has asked for, as it came: compressed (bytes). */
window.scriptSize = () => {
  const scripts = performance.getEntriesByType("resource").filter(({ name }) => new URL(name).pathname.endsWith(".js"));
  // one that was asked for early is told twice
  const sizes = new Map(scripts.map(({ name, encodedBodySize }) => [name, encodedBodySize]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
};
