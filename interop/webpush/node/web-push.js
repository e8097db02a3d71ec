'use strict';

const assert = require('node:assert');
const webpush = require('web-push');
const { subscribe, received, run } = require('./common');

run(async () => {
  const keys = webpush.generateVAPIDKeys();
  const vapidDetails = { subject: 'mailto:push@example.com', ...keys };
  const payload = JSON.stringify({ title: 'Hello', text: 'ü'.repeat(1000) });
  const browser = await subscribe(keys.publicKey);
  const answer = await webpush.sendNotification(browser, payload, { vapidDetails, TTL: 60, urgency: 'high', topic: 'a-topic' });
  assert.strictEqual(answer.statusCode, 201);
  assert.ok(answer.headers.location);
  await webpush.sendNotification(browser, null, { vapidDetails, TTL: 0 });
  const [empty, full] = await received(browser);
  assert.deepStrictEqual([full.payload, full.urgency, full.topic, full.ttl, full.verdict], [payload, 'high', 'a-topic', 60, 'accepted']);
  assert.deepStrictEqual([empty.payload, empty.verdict], ['', 'accepted']);

  for (const [fault, statusCode] of Object.entries({ gone: 410, 'not-found': 404, 'too-many-requests-retry-after': 429, 'vapid-mismatch': 403, internal: 500 })) {
    await assert.rejects(webpush.sendNotification(await subscribe(keys.publicKey, fault), payload, { vapidDetails }), { statusCode });
  }
  // Another key than the subscription's, and the coding of the draft, which is no longer taken.
  const other = { subject: 'mailto:push@example.com', ...webpush.generateVAPIDKeys() };
  await assert.rejects(webpush.sendNotification(browser, payload, { vapidDetails: other }), { statusCode: 403 });
  await assert.rejects(webpush.sendNotification(browser, payload, { vapidDetails, contentEncoding: 'aesgcm' }), (err) => [400, 401].includes(err.statusCode));
});
