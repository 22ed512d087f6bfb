// What a desk's pages do with the hooks, for staff.

import { type Job, type LiveChatContact, LiveError } from "@rapport/live";
import { useConversation, useJobUpdates, useLive, useSyncContacts } from "@rapport/live/react";
import { useState } from "react";
import type { Ids } from "./main";
import { toast } from "./toast";

/** Shown at once; the server's word counts, and a refusal takes it back. */
export function Optimistic({ customerId }: Ids) {
  const live = useLive();
  const { rows } = useJobUpdates(customerId);
  const change = async (job: Job, changes: { status?: Job["status"]; address?: string }) => {
    try {
      await live.updateJob(job.id, changes);
    } catch (error) {
      toast(error instanceof LiveError ? error.message : "It could not be saved.");
    }
  };
  return (
    <ul>
      {rows.map((job) => (
        <li key={job.id}>
          {job.status} {job.address}
          <button onClick={() => void change(job, { address: "Bled 1" })}>move</button>
          <button onClick={() => void change(job, { status: "scheduled" })}>back</button>
        </li>
      ))}
    </ul>
  );
}

/** Both faces of the same contacts, and the conversation of the one that is picked. */
export function Contacts() {
  const [picked, setPicked] = useState<LiveChatContact | null>(null);
  const chat = useSyncContacts();
  const page = useSyncContacts("v2", { onInsert: (contact) => toast(`New: ${contact.name}`) });
  const { rows: messages } = useConversation(picked?.conversation_id, {
    onNewMessage: (message) => {
      if (message.conversation_id === picked?.conversation_id) toast(message.message);
    },
  });
  return (
    <>
      <p id="chat">
        {chat.rows
          .filter(({ conversation_status }) => conversation_status === "Open")
          .map((contact) => (
            <button key={contact.id} onClick={() => setPicked(contact)}>
              {contact.name}
            </button>
          ))}
      </p>
      <p id="page">{page.rows.map(({ name, conversation_status }) => `${name} ${conversation_status}`).join(", ")}</p>
      <p id="messages">{messages.map(({ message }) => message).join(", ")}</p>
    </>
  );
}
