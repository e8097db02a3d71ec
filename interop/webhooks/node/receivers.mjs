// The service posts to receivers that verify with npm standardwebhooks: one here, with both secrets of a rotation, and the one of
// docs/webhooks.md, as it stands there. SERVICE_PROGRAM is the program.

import assert from 'node:assert';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createServer } from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Webhook } from 'standardwebhooks';

const { SERVICE_PROGRAM, SIM_PROVIDER, SIM_CERTS } = process.env;
const here = path.dirname(fileURLToPath(import.meta.url));
const key = 'lhspn_admin_interop';
const newSecret = () => execFileSync(SERVICE_PROGRAM, ['keygen', '--webhook']).toString().trim();

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

async function until(what, check) {
  for (const deadline = Date.now() + 30000; ; await new Promise((r) => setTimeout(r, 50))) {
    const result = await Promise.resolve().then(check).catch(() => undefined);
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
  }
}

// verifying is a receiver that takes what all of the secrets verify.
function verifying(port, secrets) {
  const keys = secrets.map((s) => new Webhook(s));
  const got = { events: [], wrong: [] };
  const server = createServer(async (req, res) => {
    const body = (await buffer(req)).toString();
    try {
      const events = keys.map((k) => k.verify(body, req.headers));
      assert.strictEqual(events[0].id, req.headers['webhook-id']);
      assert.throws(() => keys[0].verify(`${body} `, req.headers));
      got.events.push(events[0]);
      res.writeHead(204).end();
    } catch (err) {
      got.wrong.push(err);
      res.writeHead(401).end();
    }
  }).listen(port, '127.0.0.1');
  return { got, close: () => server.close() };
}

// documented is the receiver of the documentation, which prints what it gets.
function documented(port, secret) {
  const page = fs.readFileSync(path.join(here, '../../../docs/webhooks.md'), 'utf8');
  const [, program] = page.match(/```javascript\n([\s\S]*?)```/);
  const file = path.join(here, 'node_modules/.documented.mjs');
  fs.writeFileSync(file, program);
  const child = spawn(process.execPath, [file], { env: { ...process.env, WEBHOOK_SECRET: secret, PORT: port }, stdio: ['ignore', 'pipe', 'inherit'] });
  const got = { text: '' };
  child.stdout.on('data', (chunk) => { got.text += chunk; });
  return { got, close: () => { child.kill(); fs.rmSync(file, { force: true }); } };
}

const [port, ops, mine, theirs] = [await freePort(), await freePort(), await freePort(), await freePort()];
const [first, second, third] = [newSecret(), newSecret(), newSecret()];
const receiver = verifying(mine, [first, second]);
const example = documented(theirs, third);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lhspn-interop-'));
fs.writeFileSync(path.join(folder, 'lhspn.yaml'), `database: sqlite:./lhspn.db
listen: 127.0.0.1:${port}
ops_listen: 127.0.0.1:${ops}
shutdown_delay: 0s
log: {requests: "off"}
webhooks: {allowed_origins: ["http://localhost:${mine}", "http://localhost:${theirs}"]}
apps:
  - name: interop
    apns: {topic: com.example.hedgehog, gateway: "${SIM_PROVIDER}", ca_file: ${SIM_CERTS}/ca.pem, certificate_file: ${SIM_CERTS}/client.pem}
    webhooks:
      - {url: "http://localhost:${mine}/a?b=c", secret: ${second}, previous_secret: ${first}}
      - {url: "http://localhost:${theirs}/", secret: ${third}, types: [notification.done]}
    keys: [{name: interop, scope: admin, sha256: ${createHash('sha256').update(key).digest('hex')}}]
`);
const service = spawn(SERVICE_PROGRAM, ['serve', '--config', 'lhspn.yaml'], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] });
try {
  const call = async (method, where, body) => {
    const res = await fetch(`http://127.0.0.1:${port}/v1/${where}`, {
      method, headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
    });
    assert.ok(res.ok, `${method} ${where}: ${res.status} ${await res.clone().text()}`);
    return res.json();
  };
  await until('the service', () => call('GET', 'events'));
  await until('the example', () => fetch(`http://localhost:${theirs}/`));
  await promisify(execFile)(SERVICE_PROGRAM, ['webhook-test', '--config', 'lhspn.yaml', '--app', 'interop'], { cwd: folder });
  const token = (n) => `22${n.toString(16).padStart(62, '0')}`;
  const invalid = `deadfa17c0de0008${'0'.repeat(48)}`;
  for (let i = 0; i < 30; i++) {
    await call('POST', 'notifications', { to: { tokens: [token(i), token(i + 1), ...(i % 3 ? [] : [invalid])] }, name: `Größe <${i}> \u2028`, aps: { alert: 'Hello' } });
  }
  let feed;
  await until('the feed has all', async () => {
    feed = (await call('GET', 'events?limit=1000')).items;
    return feed.filter((e) => e.type === 'notification.done').length === 30;
  });
  await until('the receiver has all', () => receiver.got.events.length > feed.length);
  const [test, ...events] = receiver.got.events;
  assert.deepStrictEqual(receiver.got.wrong, []);
  assert.strictEqual(test.type, 'webhook.test');
  assert.deepStrictEqual(events.map(({ id, type, timestamp, data }) => ({ id, type, at: timestamp, data })), feed);
  await until('the example has all', () => example.got.text.split('notification.done').length === 31);
} finally {
  service.kill('SIGTERM');
  await new Promise((resolve) => service.on('exit', resolve));
  receiver.close();
  example.close();
  fs.rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
