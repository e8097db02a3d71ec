'use strict';
// apn 1.7.8: the binary protocol with command 2, and the feedback service.

const assert = require('node:assert');
const apn = require('apn');
const { gateway, feedback, file, good, invalid, unregistered, expect, allGood, run } = require('./common');

const credentials = { cert: file('client.pem'), key: file('client.pem'), ca: [file('ca.pem')] };

run(async () => {
  const service = new apn.Connection({ ...credentials, address: gateway.host, port: gateway.port, production: true });
  const errors = [];
  service.on('transmissionError', (code, _notification, device) => errors.push([code, device && device.toString()]));
  service.on('error', (err) => { throw err; });
  for (const token of [...good.slice(0, 3), invalid, ...good.slice(3), unregistered]) {
    const note = new apn.Notification();
    note.expiry = Math.floor(Date.now() / 1000) + 3600;
    note.alert = 'hello';
    service.pushNotification(note, new apn.Device(token));
  }
  await expect(allGood({ [invalid]: 0, [unregistered]: 1 }));
  assert.deepStrictEqual(errors, [[8, invalid]]);

  const devices = await new Promise((resolve, reject) => {
    const reader = new apn.Feedback({ ...credentials, address: feedback.host, port: feedback.port, production: true, interval: 0 });
    reader.on('feedback', resolve);
    reader.on('error', reject);
    reader.on('feedbackError', reject);
  });
  assert.strictEqual(devices.length, 1);
  assert.strictEqual(devices[0].device.toString(), unregistered);
  assert.ok(Math.abs(Date.now() / 1000 - devices[0].time) < 60);
});
