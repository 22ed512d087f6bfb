// Each example of the hooks on a page of its own, as `window.settings` says: for whom and which.

import type { Database } from "@rapport/live";
import { LiveProvider } from "@rapport/live/react";
import { createClient } from "@supabase/supabase-js";
import { type ComponentType, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import * as desk from "./desk";
import * as portal from "./portal";
import { Toasts } from "./toast";

export interface Ids {
  customerId: string;
  userId: string;
}

declare global {
  interface Window {
    settings: Ids & { url: string; key: string; token: string; example: string };
    client: ReturnType<typeof createClient<Database>>;
  }
}

const { url, key, token, example, ...ids } = window.settings;
const examples: Record<string, ComponentType<Ids>> = { ...portal, ...desk };
window.client = createClient<Database>(url, key, { accessToken: async () => token });

function Page() {
  const [name, setName] = useState(example);
  const Example = examples[name];
  return (
    <>
      <nav>
        {["nothing", ...Object.keys(examples)].map((each) => (
          <button key={each} onClick={() => setName(each)}>
            {each}
          </button>
        ))}
      </nav>
      <section>{Example && <Example {...ids} />}</section>
      <Toasts />
    </>
  );
}

createRoot(document.querySelector("main")!).render(
  <StrictMode>
    <LiveProvider client={window.client}>
      <Page />
    </LiveProvider>
  </StrictMode>,
);
