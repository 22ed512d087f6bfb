"use client";

import type { Database } from "@rapport/live";
import { LiveProvider, useAllUpdates, useJobUpdates } from "@rapport/live/react";
import { createClient } from "@supabase/supabase-js";
import { useState } from "react";

interface Props {
  url: string;
  anonKey: string;
  token: string;
  customerId: string;
}

export function Appointments({ url, anonKey, token, customerId }: Props) {
  const [client] = useState(() => createClient<Database>(url, anonKey, { accessToken: async () => token }));
  return (
    <LiveProvider client={client}>
      <Rows customerId={customerId} />
    </LiveProvider>
  );
}

function Rows({ customerId }: { customerId: string }) {
  const { rows, state } = useJobUpdates(customerId);
  const { activeSubscriptions } = useAllUpdates(customerId);
  return (
    <p>
      {state} {activeSubscriptions}/5: {rows.map((job) => `${job.service_type} ${job.status}`).join(", ")}
    </p>
  );
}
