// A chat's page without anything to look at: what it has is asked of `window`.

import { createClient } from "https://esm.sh/@supabase/supabase-js@2";
import { createLive } from "./live/index.js";

const { url, key, token, customerId } = window.settings;
const client = createClient(url, key, { accessToken: async () => token });
const live = createLive(client, { timing: { hiddenPause: 50, firstBackoff: 50, longestBackoff: 200 } });
const messages = live.messages(customerId);

Object.assign(window, {
  live,
  messages,
  send: (message) => live.outbox.send({ customerId, message }),
  pending: () => live.outbox.getSnapshot().pending.map(({ message }) => message),
  texts: () => messages.getSnapshot().rows.map(({ message }) => message),
});
