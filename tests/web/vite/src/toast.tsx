// The smallest that shows toasts, in place of a library for them.

import { useSyncExternalStore } from "react";

let shown: readonly string[] = [];
const listeners = new Set<() => void>();

export function toast(text: string) {
  shown = [...shown, text];
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export function Toasts() {
  return <aside>{useSyncExternalStore(subscribe, () => shown).join(", ")}</aside>;
}
