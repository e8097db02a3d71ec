'use strict';
// @parse/node-apn: the provider API over node's http2, by provider token and by certificate.

const assert = require('node:assert');
const apn = require('@parse/node-apn');
const { provider, file, good, invalid, unregistered, expect, allGood, run } = require('./common');

const credentials = {
  token: { token: { key: file('AuthKey_SIMKEY0001.p8'), keyId: 'SIMKEY0001', teamId: 'SIMTEAM001' } },
  certificate: { cert: file('client.pem'), key: file('client.pem') },
}[process.argv[2]];

run(async () => {
  const service = new apn.Provider({ ...credentials, address: provider.host, port: provider.port, ca: [file('ca.pem')], production: true });
  const note = new apn.Notification({ alert: 'hello', topic: 'com.example.hedgehog', pushType: 'alert', expiry: Math.floor(Date.now() / 1000) + 3600 });
  const { sent, failed } = await service.send(note, [...good, invalid, unregistered]);
  assert.deepStrictEqual(sent.map((s) => s.device).sort(), good);
  const byDevice = Object.fromEntries(failed.map((f) => [f.device, f]));
  assert.strictEqual(failed.length, 2, JSON.stringify(failed));
  assert.strictEqual(Number(byDevice[invalid].status), 400);
  assert.strictEqual(byDevice[invalid].response.reason, 'BadDeviceToken');
  assert.strictEqual(Number(byDevice[unregistered].status), 410);
  assert.strictEqual(byDevice[unregistered].response.reason, 'Unregistered');
  assert.ok(Math.abs(Date.now() - byDevice[unregistered].response.timestamp) < 60000);
  await expect(allGood({ [invalid]: 0, [unregistered]: 0 }));
  await service.shutdown();
});
