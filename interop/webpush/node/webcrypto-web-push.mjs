// @block65/webcrypto-web-push is an ES module.
import assert from 'node:assert';
import crypto from 'node:crypto';
import { createRequire } from 'node:module';
import { buildPushPayload } from '@block65/webcrypto-web-push';

const require = createRequire(import.meta.url);
const { subscribe, received, run } = require('./common');

run(async () => {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = privateKey.export({ format: 'jwk' });
  const raw = Buffer.concat([Buffer.from([4]), Buffer.from(jwk.x, 'base64url'), Buffer.from(jwk.y, 'base64url')]).toString('base64url');
  assert.ok(publicKey);
  const vapid = { subject: 'mailto:push@example.com', publicKey: raw, privateKey: jwk.d };
  const browser = await subscribe(raw);
  const request = await buildPushPayload({ data: { title: 'Hello' }, options: { ttl: 60, urgency: 'low', topic: 't' } }, browser, vapid);
  const res = await fetch(browser.endpoint, request);
  assert.strictEqual(res.status, 201, await res.text());
  const [got] = await received(browser);
  assert.deepStrictEqual([JSON.parse(got.payload), got.urgency, got.topic, got.ttl], [{ title: 'Hello' }, 'low', 't', 60]);
  const gone = await subscribe(raw, 'gone');
  const refused = await fetch(gone.endpoint, await buildPushPayload({ data: 'x', options: { ttl: 60 } }, gone, vapid));
  assert.strictEqual(refused.status, 410);
});
