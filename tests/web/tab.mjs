// A tab of a customer's portal, which notes what it is told; `window.settings` says whose.

import { createClient } from "https://esm.sh/@supabase/supabase-js@2";
import { createLive } from "./live/index.js";

const { url, key, token, customerId, timing } = window.settings;
const client = createClient(url, key, { accessToken: async () => token });
const live = createLive(client, { timing: { hiddenPause: 50, firstBackoff: 50, longestBackoff: 200, slowPoll: 600_000, ...timing } });
const told = [];
const jobs = live.jobs(customerId, { onChange: ({ eventType, new: now, old }) => told.push(`${eventType} ${(now ?? old).description}`) });
const messages = live.messages(customerId, { onInsert: ({ message }) => told.push(`said ${message}`) });
const outbox = await live.openOutbox();

async function churn(times) {
  for (let n = 0; n < times; n++) {
    const all = live.everything(customerId, { onNewMessage: () => {} });
    const end = all.subscribe(() => {});
    const presence = live.presence("desk", null, { onChange: () => {} });
    if (n % 50 === 0) await all.ready();
    if (n % 2) end();
    all.close();
    presence.close();
  }
  while (client.getChannels().length > 1) await new Promise((later) => setTimeout(later, 20));
}

Object.assign(window, { churn, client, live, jobs, messages, outbox, told, send: (message) => outbox.send({ customerId, message }) });
