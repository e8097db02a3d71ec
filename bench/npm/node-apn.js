// Drives npm @parse/node-apn, the HTTP/2 provider API: a provider for each connection, as many sends under way on each as
// -workers says, a provider token.
'use strict';

const fs = require('fs');
const path = require('path');
const apn = require('@parse/node-apn');
const { options, alert, tokens, begin, end } = require('./report');

const file = fs.readdirSync(options.credentials).find(name => /^AuthKey_.*\.p8$/.test(name));
const providers = Array.from(
  { length: options.connections },
  () =>
    new apn.Provider({
      token: { key: path.join(options.credentials, file), keyId: file.slice(8, -3), teamId: 'SIMTEAM001' },
      address: options.host,
      port: options.port,
      ca: [fs.readFileSync(path.join(options.credentials, 'ca.pem'))],
      production: true,
    })
);
const list = tokens(1000);
const expiry = Math.floor(Date.now() / 1000) + 86400;

function notification() {
  const n = new apn.Notification();
  n.alert = alert;
  n.topic = 'com.example.hedgehog';
  n.pushType = 'alert';
  n.priority = 10;
  n.expiry = expiry;
  return n;
}

async function send(count) {
  let next = 0;
  let failed = 0;
  const worker = async provider => {
    while (next < count) {
      const answer = await provider.send(notification(), list[next++ % list.length]);
      if (answer.failed.length > 0 && failed++ === 0) {
        console.error('first failure:', JSON.stringify(answer.failed[0]));
      }
    }
  };
  await Promise.all(providers.flatMap(provider => Array.from({ length: options.workers }, () => worker(provider))));
  return failed;
}

(async () => {
  for (const provider of providers) {
    await provider.send(notification(), list[0]); // APNs allows one stream until a token has proved good
  }
  await send(options.warmup);
  const begun = begin();
  const failed = await send(options.count);
  end(begun, failed);
  process.exit(0);
})();
