// The service worker: it shows each message, whatever form it has. Browsers that know declarative messages show those with a
// link themselves, and do not ask it.
self.addEventListener("push", event => event.waitUntil(show(event.data?.text() ?? "")));

// A notification with receipts has a ticket: with that the service is told what became of it. Where the API has a name of its own, this is
// its whole address; pages of any origin may.
const receipts = "/v1/receipts";

async function tell(ticket, event) {
  if (!ticket) return;
  const body = JSON.stringify({ticket, event});
  const request = {method: "POST", keepalive: true, headers: {"Content-Type": "application/json"}, body};
  for (let tries = 0; tries < 3; tries++) { // told twice it counts once
    try {
      const answer = await fetch(receipts, request);
      if (answer.status !== 429 && answer.status < 500) return;
    } catch {} // offline
    await new Promise(resolve => setTimeout(resolve, 1000 * 2 ** tries + 1000 * Math.random()));
  }
}

async function show(text) {
  let message = text;
  try {
    message = JSON.parse(text);
  } catch {} // a plain text
  const {title, navigate, app_badge, ...options} =
    message?.notification ?? (message?.title ? message : {title: "Message", body: text});
  const ticket = message?.lhspn;
  options.data = {data: options.data, navigate, actions: {}, ticket};
  for (const {action, navigate} of options.actions ?? []) options.data.actions[action] = navigate;
  const badge = message?.app_badge ?? app_badge;
  if (badge !== undefined) await self.navigator.setAppBadge?.(Number(badge)).catch(() => {}); // installed apps have one
  await self.registration.showNotification(title, options); // always: a browser withdraws permission from those that do not
  await tell(ticket, "delivered");
}

self.addEventListener("notificationclick", event => {
  event.notification.close();
  const {navigate, actions, ticket} = event.notification.data;
  const url = actions[event.action] ?? navigate ?? "/";
  event.waitUntil(Promise.all([self.clients.openWindow(url), tell(ticket, "opened")]));
});

// The browser has replaced the subscription: an open page, or the next visit, registers the new one.
self.addEventListener("pushsubscriptionchange", event => event.waitUntil(
  self.clients.matchAll({type: "window"}).then(pages => pages.forEach(page => page.navigate(page.url)))));

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));
