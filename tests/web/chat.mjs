// A chat's page without anything to look at: what it has is asked of `window`.

import { createClient } from "https://esm.sh/@supabase/supabase-js@2";
import { createLive } from "./live/index.js";

const { url, key, token, customerId } = window.settings;
const client = createClient(url, key, { accessToken: async () => token });
const live = createLive(client, { timing: { hiddenPause: 50, firstBackoff: 50, longestBackoff: 200 } });
const messages = live.messages(customerId);

const outbox = await live.openOutbox();

Object.assign(window, {
  outbox,
  live,
  messages,
  send: (message) => outbox.send({ customerId, message }),
  pending: () => outbox.getSnapshot().pending.map(({ message }) => message),
  texts: () => messages.getSnapshot().rows.map(({ message }) => message),
});
