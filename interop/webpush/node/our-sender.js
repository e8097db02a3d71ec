'use strict';
// The service itself sends to what others wrote: npm web-push-testing, a push service that checks and decrypts, and a browser made
// with npm http_ece. Both are behind one origin with TLS. SERVICE_PROGRAM is the program.

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { spawn, execFileSync } = require('node:child_process');

const ece = require('http_ece');
const { PushApiModel } = require('web-push-testing/src/PushApiModel.js');
const TestingServer = require('web-push-testing/src/server.js');
const { file, run } = require('./common');

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

const key = 'lhspn_admin_interop';

// browser is one that decrypts with http_ece, and keeps what it got.
function browser(origin) {
  const ecdh = crypto.createECDH('prime256v1');
  ecdh.generateKeys();
  const auth = crypto.randomBytes(16);
  const got = [];
  return {
    got,
    subscription: { endpoint: `${origin}/ece/1`, expirationTime: null, keys: { p256dh: ecdh.getPublicKey('base64url'), auth: auth.toString('base64url') } },
    handle(req, body, res) {
      got.push({ headers: req.headers, text: ece.decrypt(body, { version: 'aes128gcm', privateKey: ecdh, authSecret: auth.toString('base64url') }).toString() });
      res.writeHead(201, { location: `${origin}/message/1` }).end();
    },
  };
}

// front is the TLS before both: /ece/ is the browser, everything else web-push-testing's.
function front(port, mine, upstream) {
  const pem = file('server.pem');
  return https.createServer({ cert: pem, key: pem }, (req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      const body = Buffer.concat(chunks);
      if (req.url.startsWith('/ece/')) return mine.handle(req, body, res);
      http.request({ port: upstream, method: req.method, path: req.url, headers: req.headers }, (answer) => {
        res.writeHead(answer.statusCode, answer.headers);
        answer.pipe(res);
      }).end(body);
    });
  }).listen(port, '127.0.0.1');
}

function startService(folder, port, ops, origin) {
  fs.writeFileSync(path.join(folder, 'vapid.pem'), execFileSync(process.env.SERVICE_PROGRAM, ['keygen', '--vapid']), { mode: 0o600 });
  fs.writeFileSync(path.join(folder, 'lhspn.yaml'), `database: sqlite:./lhspn.db
listen: 127.0.0.1:${port}
ops_listen: 127.0.0.1:${ops}
shutdown_delay: 0s
apps:
  - name: interop
    webpush: {vapid_key_file: vapid.pem, subject: "mailto:push@example.com", allowed_origins: ["${origin}"], ca_file: "${process.env.SIM_CERTS}/ca.pem"}
    keys: [{name: interop, scope: admin, sha256: ${crypto.createHash('sha256').update(key).digest('hex')}}]
`);
  return spawn(process.env.SERVICE_PROGRAM, ['serve', '--config', 'lhspn.yaml'], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] });
}

async function until(what, check) {
  for (const deadline = Date.now() + 15000; ; await new Promise((r) => setTimeout(r, 50))) {
    const result = await check().catch(() => undefined);
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
  }
}

run(async () => {
  const [tls, upstream, port, ops] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const origin = `https://localhost:${tls}`;
  const mine = browser(origin);
  const model = new PushApiModel();
  new TestingServer(model, upstream).startServer();
  front(tls, mine, upstream);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lhspn-interop-'));
  const service = startService(folder, port, ops, origin);
  try {
    const api = `http://127.0.0.1:${port}/v1/`;
    const call = async (method, where, body) => {
      const res = await fetch(api + where, { method, headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
      assert.ok(res.ok, `${method} ${where}: ${res.status} ${await res.clone().text()}`);
      return res.json();
    };
    const { public_key: applicationServerKey } = await until('the service', () => call('GET', 'webpush/key?app=interop'));
    // web-push-testing's own subscription, through the front.
    const theirs = await model.subscribe({ userVisibleOnly: 'true', applicationServerKey });
    const subscription = { endpoint: `${origin}/notify/${theirs.clientHash}`, expirationTime: null, keys: theirs.keys };
    for (const s of [mine.subscription, subscription]) await call('POST', 'tokens', { platform: 'webpush', user_id: 'ada', subscription: s });
    const send = async (more) => {
      const { id } = await call('POST', 'notifications', { to: { users: ['ada'] }, ...more });
      return until('the notification is sent', async () => {
        const status = await call('GET', `notifications/${id}`);
        return status.state === 'done' && status.counts;
      });
    };
    const counts = await send({ message: { title: 'Hello', body: 'ü'.repeat(500), link: 'https://example.com/' }, priority: 10, collapse_id: 'topic' });
    assert.strictEqual(counts.accepted, 2, JSON.stringify(counts));
    for (const text of [mine.got[0].text, ...model.getNotifications({ clientHash: theirs.clientHash }).messages]) {
      const { web_push: declarative, notification } = JSON.parse(text);
      assert.deepStrictEqual([declarative, notification.title, notification.body], [8030, 'Hello', 'ü'.repeat(500)]);
    }
    assert.strictEqual(model.getNotifications({ clientHash: theirs.clientHash }).messages.length, 1);
    const { headers } = mine.got[0];
    assert.deepStrictEqual([headers.urgency, headers.topic, headers['content-encoding']], ['high', 'topic', 'aes128gcm']);
    assert.ok(Number(headers.ttl) > 0);
    // What the caller wrote arrives as it is, of the longest length too.
    const payload = 'x'.repeat(3900);
    assert.strictEqual((await send({ webpush: { payload } })).accepted, 2);
    assert.deepStrictEqual([mine.got[1].text, model.getNotifications({ clientHash: theirs.clientHash }).messages[1]], [payload, payload]);
    // A subscription that has expired fails, and no other.
    model.expireSubscription(theirs.clientHash);
    const after = await send({ message: { title: 'Once more' } });
    assert.strictEqual(after.accepted, 1, JSON.stringify(after));
  } finally {
    service.kill('SIGTERM');
    await new Promise((resolve) => service.on('exit', resolve));
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
