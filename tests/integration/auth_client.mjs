/*
  What a portal does with the official client, as one line of JSON at the end.

  Arguments: the project's URL, its key, an address, a phone number with its password.
*/

import { createRequire } from "node:module";

const { createClient } = createRequire(new URL("../../functions/rapport/web/package.json", import.meta.url))("@supabase/supabase-js");
const [url, key, email, phone, password] = process.argv.slice(2);

function client(flowType) {
  const kept = new Map();
  const storage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
  return createClient(url, key, { auth: { flowType, storage, autoRefreshToken: false, detectSessionInUrl: false } });
}

function right({ data, error }) {
  if (error) throw error;
  return data;
}

async function mail(to) {
  const answer = await fetch(`${url}/_mail/messages?to=${encodeURIComponent(to)}`);
  return (await answer.json()).messages[0];
}

async function follow(link) {
  const answer = await fetch(link, { redirect: "manual" });
  return new URL(answer.headers.get("location"));
}

const told = {};

const pkce = client("pkce");
right(await pkce.auth.signInWithOtp({ email, options: { emailRedirectTo: "http://localhost:5173/portal?invitation=x" } }));
const page = await follow((await mail(email)).link);
told.page = page.origin + page.pathname;
told.invitation = page.searchParams.get("invitation");
told.user = right(await pkce.auth.exchangeCodeForSession(page.searchParams.get("code"))).user.email;
told.again = (await pkce.auth.exchangeCodeForSession(page.searchParams.get("code"))).error.name;

const other = client("implicit");
right(await other.auth.signUp({ phone, password }));
right(await other.auth.verifyOtp({ phone, token: (await mail(phone)).code, type: "sms" }));
right(await other.auth.signOut());
told.phone = right(await other.auth.signInWithPassword({ phone, password })).user.phone;
told.wrong = (await other.auth.verifyOtp({ email, token: "000000", type: "email" })).error.code;
told.anonymous = (await other.auth.signInAnonymously()).error.code;
told.oauth = (await other.auth.mfa.enroll({ factorType: "totp" })).error.status;
told.storage = (await other.storage.listBuckets()).error.message;

console.log(JSON.stringify(told));
process.exit(0);
