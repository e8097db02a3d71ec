'use strict';
// What the cases of Web Push share: a browser of the simulator, and what it received.

const crypto = require('node:crypto');
const fs = require('node:fs');

const { SIM_PAGE, SIM_CERTS } = process.env;

const file = (name) => fs.readFileSync(`${SIM_CERTS}/${name}`);

// subscribe plays a browser that subscribes with the VAPID public key; see docs/simulator.md for the faults.
async function subscribe(applicationServerKey, fault) {
  const res = await fetch(`${SIM_PAGE}webpush/subscribe`, { method: 'POST', body: JSON.stringify({ applicationServerKey, fault }) });
  if (res.status !== 201) throw new Error(await res.text());
  return res.json();
}

const tokenOf = (subscription) => `webpush:${crypto.createHash('sha256').update(subscription.endpoint).digest('base64url')}`;

// received are the notifications that a browser got, newest first, decrypted.
async function received(subscription) {
  const res = await fetch(`${SIM_PAGE}tokens/${tokenOf(subscription)}`);
  return (await res.json()).notifications;
}

// run ends the process with what the case came to: servers and connections would keep it alive.
function run(test) {
  setTimeout(() => {
    console.error('timed out');
    process.exit(1);
  }, 60000);
  test().then(
    () => process.exit(0),
    (err) => {
      console.error(err);
      process.exit(1);
    },
  );
}

module.exports = { file, subscribe, tokenOf, received, run };
