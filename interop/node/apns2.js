'use strict';
// apns2: the provider API over undici.

const assert = require('node:assert');
const { ApnsClient, Notification } = require('apns2');
const { Pool } = require('undici');
const { provider, file, good, invalid, unregistered, expect, allGood, run } = require('./common');

run(async () => {
  const client = new ApnsClient({
    team: 'SIMTEAM001', keyId: 'SIMKEY0001', signingKey: file('AuthKey_SIMKEY0001.p8').toString(), defaultTopic: 'com.example.hedgehog', host: provider.host,
  });
  // Its port is fixed, so its pool is replaced by one that differs in the port and the CA alone.
  client.client = new Pool(`https://${provider.host}:${provider.port}`, {
    connections: 32, pipelining: 1, allowH2: true, maxConcurrentStreams: 100, connect: { ca: file('ca.pem') },
  });
  const send = (token) => client.send(new Notification(token, { alert: 'hello' }));
  await Promise.all(good.map(send));
  await assert.rejects(send(invalid), (err) => err.statusCode === 400 && err.reason === 'BadDeviceToken');
  await assert.rejects(send(unregistered), (err) => err.statusCode === 410 && err.reason === 'Unregistered');
  await expect(allGood({ [invalid]: 0, [unregistered]: 0 }));
  await client.destroy();
});
