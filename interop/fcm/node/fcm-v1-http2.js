'use strict';
// Ten sessions of 100 streams: what the simulator allows, as Google does.

const Client = require('fcm-v1-http2');
const { account, unregistered, good, expect, run } = require('./common');

run(async () => {
  const tokens = good('v1h2', 2000);
  const client = new Client({ serviceAccount: account });
  const dead = await client.sendMulticast({ notification: { title: 'Hello', body: 'World' }, data: { order: '4711' } }, [...tokens, unregistered]);
  if (dead.length !== 1 || dead[0] !== unregistered) throw new Error(`dead: ${dead}`);
  await expect({ ...Object.fromEntries(tokens.map((t) => [t, 1])), [unregistered]: 0 });
});
