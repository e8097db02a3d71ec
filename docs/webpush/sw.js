// The service worker: it shows each message, whatever form it has. Browsers that know declarative messages show those with a
// link themselves, and do not ask it.
self.addEventListener("push", event => event.waitUntil(show(event.data?.text() ?? "")));

async function show(text) {
  let message = text;
  try {
    message = JSON.parse(text);
  } catch {} // a plain text
  const {title, navigate, app_badge, ...options} =
    message?.notification ?? (message?.title ? message : {title: "Message", body: text});
  options.data = {data: options.data, navigate, actions: {}};
  for (const {action, navigate} of options.actions ?? []) options.data.actions[action] = navigate;
  const badge = message?.app_badge ?? app_badge;
  if (badge !== undefined) await self.navigator.setAppBadge?.(Number(badge)).catch(() => {}); // installed apps have one
  await self.registration.showNotification(title, options); // always: a browser withdraws permission from those that do not
}

self.addEventListener("notificationclick", event => {
  event.notification.close();
  const {navigate, actions} = event.notification.data;
  const url = actions[event.action] ?? navigate ?? "/";
  event.waitUntil(self.clients.openWindow(url));
});

// The browser has replaced the subscription: an open page, or the next visit, registers the new one.
self.addEventListener("pushsubscriptionchange", event => event.waitUntil(
  self.clients.matchAll({type: "window"}).then(pages => pages.forEach(page => page.navigate(page.url)))));

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));
