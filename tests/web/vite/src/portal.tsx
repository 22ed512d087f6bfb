// What a portal's pages do with the hooks, for a customer.

import { type Job, type Message, subscribeToJobUpdates } from "@rapport/live";
import {
  useAllUpdates,
  useInvoiceUpdates,
  useJobUpdates,
  useLive,
  useLiveState,
  useLoyaltyUpdates,
  useMessageUpdates,
  usePresence,
} from "@rapport/live/react";
import { useEffect, useState } from "react";
import type { Ids } from "./main";
import { toast } from "./toast";

/** Toasts for what is new, and for a status that is another. */
export function Quick({ customerId }: Ids) {
  useJobUpdates(customerId, {
    onInsert: (job) => {
      toast(`New: ${job.service_type}`);
    },
    onUpdate: (job, old) => {
      if (old.status !== job.status) toast(`Now ${job.status}`);
    },
  });
  return <p>Your appointments</p>;
}

/** One subscription for each kind of row. */
export function Individual({ customerId }: Ids) {
  const [told, setTold] = useState<string[]>([]);
  const tell = (what: string) => setTold((before) => [...before, what]);
  const jobs = useJobUpdates(customerId, {
    onInsert: (job) => tell(`job ${job.status}`),
    onUpdate: (job) => tell(`job ${job.status}`),
    onDelete: (job) => tell(`no job ${job.service_type}`),
  });
  const invoices = useInvoiceUpdates(customerId, {
    onInsert: (invoice) => tell(`invoice ${invoice.number}`),
    onUpdate: (invoice, old) => tell(`invoice ${old.status} ${invoice.status}`),
    onDelete: (invoice) => tell(`no invoice ${invoice.number}`),
  });
  const messages = useMessageUpdates(customerId, {
    onNewMessage: (message) => tell(message.message),
    onMessageRead: (message) => tell(`read ${message.message}`),
    onMessageDeleted: (message) => tell(`deleted ${message.seq}`),
  });
  const loyalty = useLoyaltyUpdates(customerId, {
    onPointsEarned: (transaction) => tell(`+${transaction.points}`),
    onPointsRedeemed: (transaction) => tell(`${transaction.points}`),
  });
  const parts = { jobs, invoices, messages, loyalty };
  return (
    <>
      {Object.entries(parts).map(([name, { isConnected }]) => isConnected && <b key={name}>{name} </b>)}
      <p id="latest">{jobs.latestUpdate?.eventType}</p>
      <p id="totals">
        {messages.unreadCount} unread, {loyalty.totalPoints} points
      </p>
      <p id="told">{told.join(", ")}</p>
    </>
  );
}

/** All that a portal shows by one hook. */
export function Combined({ customerId }: Ids) {
  const { isConnected, error, activeSubscriptions, jobs, invoices } = useAllUpdates(customerId, {
    onJobInsert: (job) => toast(`New: ${job.service_type}`),
    onJobUpdate: (job, old) => {
      if (old.status !== job.status) toast(`Now ${job.status}`);
    },
    onInvoiceInsert: (invoice) => toast(`Invoice ${invoice.number}`),
    onInvoiceUpdate: (invoice, old) => {
      if (old.status !== "paid" && invoice.status === "paid") toast("Paid, thank you");
    },
    onNewMessage: (message) => {
      if (message.sender_type === "operator") toast(message.message);
    },
    onPointsEarned: (transaction) => toast(`${transaction.points} points for you`),
    onPointsRedeemed: (transaction) => toast(`${transaction.points} points`),
  });
  return (
    <p>
      {error ? error.message : String(isConnected)} {activeSubscriptions}/5: {jobs.rows.length} jobs, {invoices.rows.length} invoices
    </p>
  );
}

/** A state of the page's own that follows; `rows` has the same without it. */
export function WithState({ customerId }: Ids) {
  const [appointments, setAppointments] = useState<Job[]>([]);
  const { rows } = useJobUpdates(customerId, {
    onInsert: (added) => setAppointments((before) => [added, ...before]),
    onUpdate: (changed) => setAppointments((before) => before.map((job) => (job.id === changed.id ? changed : job))),
    onDelete: (gone) => setAppointments((before) => before.filter((job) => job.id !== gone.id)),
  });
  return (
    <>
      <ul id="own">
        {appointments.map((job) => (
          <li key={job.id}>{job.service_type}</li>
        ))}
      </ul>
      <ul id="rows">
        {rows.map((job) => (
          <li key={job.id}>{job.service_type}</li>
        ))}
      </ul>
    </>
  );
}

/** What is wrong in words: here the customer of another business. */
export function WithError() {
  const { isConnected, error, state } = useJobUpdates("00000000-0000-4000-8000-000000000000");
  if (error) {
    return (
      <div role="alert">
        {error.name}: {error.message}
      </div>
    );
  }
  return <p>{isConnected ? "Live" : state}</p>;
}

/** A subscription without a hook ends with the page. */
export function Direct({ customerId }: Ids) {
  useEffect(() => {
    const unsubscribe = subscribeToJobUpdates(customerId, (change) => {
      if (change.eventType === "INSERT") toast(`insert ${change.new.service_type}`);
      else if (change.eventType === "DELETE") toast(`delete ${change.old.service_type}`);
      else toast(`update ${change.old?.status} ${change.new.status}`);
    });
    return () => {
      unsubscribe();
    };
  }, [customerId]);
  return <p>{useLiveState()}</p>;
}

/** `*` is all that the user may see: a customer's own, and nobody else's. */
export function Everybodys() {
  useEffect(() => subscribeToJobUpdates("*", ({ new: job }) => toast(job?.service_type ?? "gone")), []);
  return <p>{useLiveState()}</p>;
}

/** Who is there; a customer sees the staff at the desk. */
export function WhoIsThere({ userId }: Ids) {
  const { onlineUsers, isConnected } = usePresence("customer-portal", userId, { name: "Cilka", status: "active" });
  const names = Object.values(onlineUsers).map(({ name }) => String(name));
  return (
    <p>
      {isConnected ? "live" : "not live"}: {names.join(", ")}
    </p>
  );
}

/** Paused while nobody looks; after a minute this happens by itself. */
export function Paused() {
  const live = useLive();
  useEffect(() => {
    const look = () => {
      if (document.hidden) void live.pause();
      else live.resume();
    };
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [live]);
  return <p>{useLiveState()}</p>;
}

/** The chat of one booking. */
export function BookingChat({ customerId }: Ids) {
  const { rows: jobs } = useJobUpdates(customerId);
  const booking = jobs.at(-1);
  const { rows, unreadCount } = useMessageUpdates(booking && customerId, booking && { bookingId: booking.id });
  const line = ({ sender_type, message, invoice_data }: Message) => `${sender_type}: ${message} ${invoice_data?.status ?? ""}`;
  return (
    <>
      <p id="unread">{unreadCount} unread</p>
      <ol>
        {rows.map((message) => (
          <li key={message.id}>{line(message)}</li>
        ))}
      </ol>
    </>
  );
}
