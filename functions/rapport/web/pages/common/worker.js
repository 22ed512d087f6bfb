// @ts-nocheck: a worker has other globals than a page
/* Shows what is pushed to this device, and leads to the page when it is touched. */

self.addEventListener("push", (event) => {
  const { title, body, kind, id } = event.data.json();
  event.waitUntil(self.registration.showNotification(title, { body, tag: id, data: { kind, id } }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(
    (async () => {
      const { scope } = self.registration;
      const { kind, id } = event.notification.data ?? {};
      const pages = await self.clients.matchAll({ type: "window" });
      const page = pages.find(({ url }) => url.startsWith(scope));
      if (page) {
        page.postMessage({ kind, id });
        return page.focus();
      }
      return self.clients.openWindow(scope);
    })(),
  );
});
