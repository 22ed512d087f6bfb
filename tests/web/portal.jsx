// A portal's page, as an app would write it; `window.settings` says whose.

import { createClient } from "@supabase/supabase-js";
import { LiveProvider, useAllUpdates, useJobUpdates, useLiveState, useLoyaltyUpdates, useMessageUpdates, usePresence } from "@rapport/live/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";

const { url, key, token, customerId, userId } = window.settings;
const client = createClient(url, key, { accessToken: async () => token });

function Appointments() {
  const [appointments, setAppointments] = useState([]);
  const { rows, isConnected, error, latestUpdate } = useJobUpdates(customerId, {
    onInsert: (job) => setAppointments((before) => [job, ...before]),
    onUpdate: (now) => setAppointments((before) => before.map((job) => (job.id === now.id ? now : job))),
    onDelete: (gone) => setAppointments((before) => before.filter((job) => job.id !== gone.id)),
  });
  const texts = (jobs) => jobs.map((job) => `${job.service_type} ${job.status}`).join(", ");
  return (
    <p id="jobs">
      {String(isConnected)} {error?.message ?? "fine"} | {texts(rows)} | {texts(appointments)} | {latestUpdate?.eventType}
    </p>
  );
}

function Toasts() {
  const [toasts, setToasts] = useState([]);
  const toast = (text) => setToasts((before) => [...before, text]);
  const { isConnected, activeSubscriptions } = useAllUpdates(customerId, {
    onJobInsert: () => toast("New appointment"),
    onJobUpdate: (job, old) => old.status !== job.status && toast(`Appointment ${job.status}`),
    onNewMessage: (message) => message.sender_type === "operator" && toast(message.message),
    onPointsEarned: (transaction) => toast(`+${transaction.points} points`),
  });
  return (
    <p id="toasts">
      {String(isConnected)} {activeSubscriptions}/5 | {toasts.join(", ")}
    </p>
  );
}

function Signs() {
  const { unreadCount } = useMessageUpdates(customerId);
  const { totalPoints } = useLoyaltyUpdates(customerId);
  const { onlineUsers, isConnected } = usePresence("customer-portal", userId);
  return (
    <p id="signs">
      {useLiveState()} {unreadCount} unread, {totalPoints} points, {Object.keys(onlineUsers).length} online, {String(isConnected)}
    </p>
  );
}

function Portal() {
  const [isShown, setShown] = useState(true);
  const [clicks, setClicks] = useState(0);
  return (
    <>
      <button onClick={() => setShown(!isShown)}>toggle</button>
      <button onClick={() => setClicks(clicks + 1)}>render {clicks}</button>
      {isShown && [<Appointments key="a" />, <Toasts key="t" />, <Signs key="s" />]}
    </>
  );
}

const page = (
  <StrictMode>
    <LiveProvider client={client}>
      <Portal />
    </LiveProvider>
  </StrictMode>
);
window.client = client;
window.fromServer = renderToString(page);
createRoot(document.querySelector("main")).render(page);
