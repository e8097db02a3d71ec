// Drives npm fcm-v1-http2: sendMulticast, which opens its connections and gets its access token anew each time, with as many
// connections as -connections says and 100 streams on each, its own default. It has Google's hosts built in:
// interop/fcm/node/redirect.js leads it elsewhere.
'use strict';

const fs = require('fs');
const path = require('path');
const Client = require('fcm-v1-http2');
const { options, alert, begin, end } = require('./report');

const client = new Client({
  serviceAccount: JSON.parse(fs.readFileSync(path.join(options.credentials, 'service-account.json'), 'utf8')),
  maxConcurrentConnections: options.connections,
});
const message = { android: { priority: 'high', ttl: '86400s' }, notification: { body: alert } };
const tokens = n => Array.from({ length: n }, (_, i) => `bench${String(i % 1000).padStart(4, '0')}:APA91b${String(i % 1000).padStart(134, '0')}`);

(async () => {
  await client.sendMulticast(message, tokens(options.warmup));
  const list = tokens(options.count);
  const begun = begin();
  const dead = await client.sendMulticast(message, list);
  end(begun, dead.length);
  process.exit(0);
})();
