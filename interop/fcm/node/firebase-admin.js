'use strict';
// Google's own Node client: each message a request over one HTTP/2 session; registration tokens and an installation id.

const { cert, initializeApp } = require('firebase-admin/app');
const { getMessaging } = require('firebase-admin/messaging');
const { account, invalid, mismatch, unregistered, good, expect, run } = require('./common');

run(async () => {
  initializeApp({ credential: cert(account), projectId: account.project_id });
  const fid = 'cX7abcdefghijklmnop_-Q';
  const tokens = good('admin', 50);
  const message = {
    notification: { title: 'Hello', body: 'World' }, data: { order: '4711' },
    android: { priority: 'high', ttl: 3600000, collapseKey: 'k', notification: { tag: 'k', color: '#ff8800', notificationCount: 3 } },
  };
  const answer = await getMessaging().sendEach([
    ...tokens.map((token) => ({ token, ...message })), { fid, ...message },
    { token: unregistered, ...message }, { token: mismatch, ...message }, { token: invalid, ...message },
  ]);
  const codes = answer.responses.filter((r) => !r.success).map((r) => r.error.code).join(' ');
  const want = 'messaging/registration-token-not-registered messaging/mismatched-credential messaging/invalid-argument';
  if (answer.successCount !== 51 || codes !== want) throw new Error(`${answer.successCount} accepted, ${codes}`);
  await expect({ ...Object.fromEntries(tokens.map((t) => [t, 1])), [fid]: 1, [unregistered]: 0, [mismatch]: 0, [invalid]: 0 });
});
