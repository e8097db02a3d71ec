'use strict';
// Sends every operation of docs/openapi.json through a validating proxy (prism) to the service in dev mode, with what is right and with
// what is wrong. The proxy must find no fault in a right request, nor in any answer; what the document says an operation may answer, it
// must have answered, but for what is listed here. SERVICE_PROGRAM is the program.

const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');

const documentFile = path.join(__dirname, '../../docs/openapi.json');
const operations = {};
for (const [template, item] of Object.entries(JSON.parse(fs.readFileSync(documentFile)).paths)) {
  for (const [method, operation] of Object.entries(item)) operations[`${method.toUpperCase()} ${template}`] = operation;
}

const devKey = 'lhspn-dev-key';
const operatorKey = 'lhspn-dev-operator-key';
const token = 'ab'.repeat(32);
const other = 'cd'.repeat(32);
const json = 'application/json';
const ndjson = 'application/x-ndjson';

const faults = [];
const answered = {}; // the statuses, by operation
const problems = new Set();

let service, proxy;

// call sends a request of the operation. Without wrong it must be as the document has it.
async function call(operation, { at = {}, query = '', body, key = devKey, headers = {}, wrong = false, want, via = proxy } = {}) {
  const [method, template] = operation.split(' ');
  const target = template.replace(/{(\w+)}/g, (_, name) => at[name]);
  const sent = { ...headers };
  if (key) sent.authorization = `Bearer ${key}`;
  if (body !== undefined && !sent['content-type']) sent['content-type'] = json;
  const answer = await fetch(via + target + query, { method, headers: sent, body: typeof body === 'object' ? JSON.stringify(body) : body })
    .catch((error) => { throw new Error(`${operation}${query}: ${error.cause ?? error}`); });
  const text = await answer.text();
  const what = `${operation}${query} -> ${answer.status}`;
  (answered[operation] ??= new Set()).add(answer.status);
  const violations = JSON.parse(answer.headers.get('sl-violations') ?? '[]').filter((v) => !wrong || v.location[0] === 'response');
  for (const v of violations) faults.push(`${what}: ${v.location.join('.')}: ${v.message}`);
  const described = operations[operation].responses[answer.status];
  const media = (answer.headers.get('content-type') ?? '').split(';')[0];
  if (!described) faults.push(`${what}: the document has no such status`);
  else if (text && !described.content?.[media]) faults.push(`${what}: the document has no ${media}`);
  if (answer.status >= 400) {
    const type = JSON.parse(text).type?.replace('urn:lhspn:problem:', '');
    if (!described?.content[media]?.examples[type]) faults.push(`${what}: the document has no problem ${type}`);
    problems.add(type);
  }
  if (want !== undefined && answer.status !== want) faults.push(`${what}, want ${want}: ${text.slice(0, 300)}`);
  return text && media === json ? JSON.parse(text) : text;
}

const wrong = (operation, want, options) => call(operation, { ...options, want, wrong: true });

// anywhere sends to every operation what each of them must refuse.
async function anywhere() {
  const at = { app: 'owl', key: 'none', id: '01890a5d-ac96-774b-bcce-b302099a8057', token };
  for (const [operation, o] of Object.entries(operations)) {
    const scope = o.security[0]?.bearer?.[0];
    const key = scope === 'operator' ? operatorKey : devKey;
    const media = Object.keys(o.requestBody?.content ?? {})[0];
    const headers = media ? { 'content-type': media } : {};
    const body = media ? '{}' : undefined;
    await wrong(operation, 422, { at, key, body, headers, query: '?nonsense=1' });
    if (scope) {
      await wrong(operation, 403, { at, key: scope === 'operator' ? devKey : operatorKey, body, headers });
      await wrong(operation, 401, { at, key: '', body, headers });
    }
    if (media) {
      await wrong(operation, 415, { at, key, body, headers: { 'content-type': 'text/plain' } });
      if (o.responses[413] && media === json) await wrong(operation, 413, { at, key, body: `{"x": "${'x'.repeat(9 << 20)}"}`, headers });
      if (media === json) await wrong(operation, 400, { at, key, body: '{"', headers, via: service }); // which the proxy would refuse itself
    }
  }
  for (const [operation, o] of Object.entries(operations)) { // at last: it has the address slowed down
    const body = o.requestBody ? '{}' : undefined;
    const key = o.security.length ? 'a wrong key' : '';
    for (let i = 0; i < 500 && !answered[operation].has(429); i++) await wrong(operation, undefined, { at, key, body, query: '?nonsense=1' });
  }
}

async function apps(entry) {
  const key = operatorKey;
  const at = { app: 'fox', key: 'backend' };
  await call('PUT /v1/apps/{app}', { at, key, body: entry, want: 201 });
  await call('PUT /v1/apps/{app}', { at, key, body: { ...entry, quotas: { max_tokens: 1, max_scheduled: 5 } }, want: 200 });
  await call('GET /v1/apps/{app}', { at, key, want: 200 });
  await call('GET /v1/apps', { key, want: 200 });
  const { key: fox } = await call('POST /v1/apps/{app}/keys', { at, key, body: { name: 'backend', scope: 'send' }, want: 201 });
  const { key: phone } = await call('POST /v1/apps/{app}/keys', { at, key, body: { name: 'phone', scope: 'register', expires_at: '2100-01-01T00:00:00Z' }, want: 201 });
  await wrong('POST /v1/apps/{app}/keys', 409, { at, key, body: { name: 'phone', scope: 'register' } });
  await call('GET /v1/apps/{app}/keys', { at, key, want: 200 });

  // The quotas of the app, and what a service keeps for all.
  await call('PUT /v1/tokens/{token}', { at: { token }, key: fox, body: {}, want: 201 });
  const { created_at: createdAt } = await call('PUT /v1/tokens/{token}', { at: { token }, key: phone, body: { locale: 'de' }, want: 200 });
  if (createdAt !== null) faults.push('a register key reads when a token was first registered');
  await wrong('PUT /v1/tokens/{token}', 429, { at: { token: other }, key: fox, body: {} });
  await wrong('POST /v1/tokens', 429, { key: fox, body: { platform: 'apns', token: other } });
  const { key: admin } = await call('POST /v1/apps/{app}/keys', { at, key, body: { name: 'admin', scope: 'admin' }, want: 201 });
  await wrong('POST /v1/tokens/import', 413, {
    key: admin, body: many(4).map((t) => `{"token": "${t}"}\n`).join(''), headers: { 'content-type': 'application/x-ndjson' },
  });
  const later = { message: { title: 'x' }, send_at: new Date(Date.now() + 3600e3).toISOString() };
  await wrong('POST /v1/notifications', 413, { key: fox, body: { ...later, to: { tokens: many(6) } } });
  await call('POST /v1/notifications', { key: fox, body: { ...later, to: { tokens: many(5) } }, want: 202 });
  await wrong('POST /v1/notifications', 429, { key: fox, body: { ...later, to: { tokens: many(1) } } });
  await call('POST /v1/notifications', { body: { ...later, to: { tokens: many(995) } }, want: 202 });
  await wrong('POST /v1/notifications', 503, { body: { ...later, to: { tokens: many(1) } } });
  await wrong('POST /v1/notifications/batch', 503, { body: { notifications: [{ ...later, to: { tokens: many(1) } }] } });

  await call('DELETE /v1/apps/{app}/keys/{key}', { at, key, want: 204 });
  await wrong('DELETE /v1/apps/{app}/keys/{key}', 404, { at, key });
  await call('DELETE /v1/apps/{app}/keys', { at, key, query: '?name=phone', want: 204 });
  await wrong('DELETE /v1/apps/{app}/keys', 404, { at, key, query: '?name=phone' });
  await call('DELETE /v1/apps/{app}', { at, key, want: 204 });
  await wrong('GET /v1/apps/{app}/removal', undefined, { at, key }); // 404 where it is over already
  const gone = { app: 'owl', key: 'k' };
  const ofFile = { app: 'default', key: 'dev' };
  await wrong('DELETE /v1/apps/{app}', 404, { at: gone, key });
  await wrong('GET /v1/apps/{app}', 404, { at: gone, key });
  await wrong('GET /v1/apps/{app}/removal', 404, { at: gone, key });
  await wrong('GET /v1/apps/{app}/keys', 404, { at: gone, key });
  await wrong('POST /v1/apps/{app}/keys', 404, { at: gone, key, body: { name: 'k', scope: 'send' } });
  await wrong('PUT /v1/apps/{app}', 409, { at: ofFile, key, body: entry });
  await wrong('DELETE /v1/apps/{app}', 409, { at: ofFile, key });
  await wrong('DELETE /v1/apps/{app}/keys', 409, { at: ofFile, key, query: '?name=dev' });
  await wrong('DELETE /v1/apps/{app}/keys/{key}', 409, { at: ofFile, key });
}

const many = (n) => Array.from({ length: n }, (_, i) => i.toString(16).padStart(64, '0'));

async function tokens() {
  const at = { token };
  const full = {
    environment: 'production', kind: 'alert', badge: 3, user_id: 'u-1', tags: ['beta'], device_id: 'd-1', app_version: '1', os_version: '18.1',
    device_model: 'iPhone17,1', locale: 'de_AT', time_zone: 'Europe/Vienna',
  };
  await call('PUT /v1/tokens/{token}', { at, body: full, want: 201 });
  await call('PUT /v1/tokens/{token}', { at, body: { ...full, user_id: null, tags: null, device_id: null }, want: 200 });
  await wrong('PUT /v1/tokens/{token}', 422, { at, body: { ...full, badge: -1, color: 'red' } });
  await call('POST /v1/tokens', { body: { platform: 'fcm', token: 'an-android-phone', user_id: 'u-1' }, want: 201 });
  await call('POST /v1/tokens', { body: { platform: 'fcm', token: 'an-android-phone', user_id: 'u-1' }, want: 200 });
  await call('PUT /v1/tokens/{token}/badge', { at, body: { badge: 7 }, want: 204 });
  await wrong('PUT /v1/tokens/{token}/badge', 404, { at: { token: other }, body: { badge: 7 } });
  await call('GET /v1/tokens/{token}', { at, want: 200 });
  await call('GET /v1/tokens/{token}', { at: { token: 'fcm:an-android-phone' }, want: 200 });
  await wrong('GET /v1/tokens/{token}', 404, { at: { token: other } });
  const page = await call('GET /v1/tokens', { query: '?limit=1', want: 200 });
  await call('GET /v1/tokens', { query: `?limit=1000&cursor=${encodeURIComponent(page.next_cursor)}`, want: 200 });
  await call('GET /v1/tokens', { query: '?user_id=u-1&platform=fcm', want: 200 });
  await wrong('GET /v1/tokens', 422, { query: '?cursor=not-one' });
  const exported = await call('GET /v1/tokens/export', { want: 200 });
  await call('POST /v1/tokens/import', { body: exported, headers: { 'content-type': ndjson }, want: 200 });
  await call('DELETE /v1/tokens/{token}', { at: { token: 'fcm:an-android-phone' }, want: 204 });
  await call('GET /v1/webpush/key', { query: '?app=default', want: 200 });
  await wrong('GET /v1/webpush/key', 404, { query: '?app=none' });
  await call('POST /v1/feedback/check', { want: 200 });
  await call('GET /v1/feedback', { query: '?since=0', want: 200 });
}

async function notifications() {
  const body = { to: { tokens: [token, other] }, message: { title: 'Hello' }, receipts: true, name: 'spring' };
  const headers = { 'idempotency-key': 'one' };
  const { id } = await call('POST /v1/notifications', { body, headers, want: 202 });
  await call('POST /v1/notifications', { body, headers, want: 202 });
  await wrong('POST /v1/notifications', 409, { body: { ...body, name: 'summer' }, headers });
  await call('POST /v1/notifications', { body: { ...body, to: { users: ['demo'] } }, query: '?dry_run=true', want: 200 });
  await wrong('POST /v1/notifications', 422, { body: { ...body, to: { all: true, users: ['u'] }, rate: 0 } });
  await wrong('POST /v1/notifications', 413, { body: { to: { all: true }, aps: { alert: 'x'.repeat(5000) } } });
  await call('POST /v1/notifications', { body: { to: { all: true, environment: 'production' }, aps: { alert: 'x' }, data: { a: [1, null] } }, want: 202 });
  await call('POST /v1/notifications', { body: { to: { tags: { any: ['beta'], none: ['x'] } }, message: { body: 'x' }, expires_at: '0' }, want: 202 });
  await call('POST /v1/notifications', { body: { to: { users: ['nobody'] }, message: { body: 'x' }, priority: 5, collapse_id: 'c' }, want: 202 });
  const batch = { notifications: [body, { to: { users: ['demo'] }, message: { title: 'x' } }] };
  await call('POST /v1/notifications/batch', { body: batch, headers: { 'idempotency-key': 'two' }, want: 202 });
  await wrong('POST /v1/notifications/batch', 409, { body: { notifications: [body] }, headers: { 'idempotency-key': 'two' } });
  await wrong('POST /v1/notifications/batch', 422, { body: { notifications: [] } });

  const at = { id };
  for (;;) {
    const got = await call('GET /v1/notifications/{id}', { at, want: 200 });
    if (got.state === 'done') break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await call('GET /v1/notifications', { query: '?limit=2', want: 200 });
  await call('GET /v1/notifications', { query: '?state=done', want: 200 });
  await call('GET /v1/notifications/{id}/failures', { at, want: 200 });
  await call('GET /v1/notifications/{id}/recipients/{token}', { at: { id, token }, want: 200 });
  await wrong('GET /v1/notifications/{id}/recipients/{token}', 404, { at: { id, token: 'ef'.repeat(32) } });
  await wrong('POST /v1/notifications/{id}/cancel', 409, { at });
  const none = { id: '01890a5d-ac96-774b-bcce-b302099a8057' };
  await wrong('GET /v1/notifications/{id}', 404, { at: none });
  await wrong('GET /v1/notifications/{id}/failures', 404, { at: none });
  await wrong('POST /v1/notifications/{id}/cancel', 404, { at: none });
  const later = await call('POST /v1/notifications', { body: { ...body, send_at: new Date(Date.now() + 3600e3).toISOString() }, want: 202 });
  await call('POST /v1/notifications/{id}/cancel', { at: { id: later.id }, want: 200 });
  const failed = await call('POST /v1/notifications', { body: { ...body, to: { tokens: ['aa'.repeat(33)] }, expires_at: '0' }, want: 202 });
  await call('GET /v1/notifications/{id}/failures', { at: { id: failed.id }, want: 200 });
  await call('POST /v1/receipts', { key: '', body: { ticket: 'a forged one', event: 'opened' }, want: 204 });

  const events = await call('GET /v1/events', { query: '?limit=5', want: 200 });
  await call('GET /v1/events', { query: `?wait=1&after=${encodeURIComponent(events.next_cursor)}`, want: 200 });
  const stop = new AbortController(); // requests that wait, until no more may
  const waiting = Array.from({ length: 400 }, () =>
    fetch(`${proxy}/v1/events?wait=60&types=app.held`, { headers: { authorization: `Bearer ${devKey}` }, signal: stop.signal }).catch(() => {}));
  for (let i = 0; i < 100 && !answered['GET /v1/events'].has(503); i++) await wrong('GET /v1/events', undefined, { query: '?wait=1&types=app.held' });
  stop.abort();
  await Promise.all(waiting);
}

// unseen are the statuses of the document that the operation has not answered; but for those that nothing here provokes: failures of the
// service and of its database, events that are kept no longer, an import that breaks off, and what is over too soon. Their bodies are those of the others.
function unseen(operation) {
  const excepted = ['500', '503', '410'];
  if (operation === 'POST /v1/tokens/import') excepted.push('400');
  if (operation === 'GET /v1/apps/{app}/removal') excepted.push('200');
  return Object.keys(operations[operation].responses).filter((status) => !excepted.includes(status) && !answered[operation]?.has(Number(status)));
}

const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

// start runs a program, and waits until it has said so.
async function start(program, args, options, ready) {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  await new Promise((resolve, reject) => {
    const hear = (text) => {
      said += text;
      if (said.includes(ready)) resolve();
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('exit', (code) => reject(new Error(`${program} ended with ${code}: ${said}`)));
  });
  return child;
}

async function main() {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'openapi-'));
  const [api, ops, port] = [await freePort(), await freePort(), await freePort()];
  const env = {
    ...process.env, LHSPN_LISTEN: `127.0.0.1:${api}`, LHSPN_OPS_LISTEN: `127.0.0.1:${ops}`, LHSPN_QUEUE_MAX_SCHEDULED: '1000',
    LHSPN_API_REGISTER_RATE: '5',
  };
  const children = [];
  try {
    children.push(await start(process.env.SERVICE_PROGRAM, [], { cwd: work, env }, '  API  '));
    const prism = path.join(__dirname, 'node_modules/@stoplight/prism-cli/dist/index.js');
    children.push(await start(process.execPath, [prism, 'proxy', documentFile, `http://127.0.0.1:${api}`, '-p', port], {}, 'Prism is listening'));
    [service, proxy] = [`http://127.0.0.1:${api}`, `http://127.0.0.1:${port}`];
    const of = (name) => fs.readFileSync(path.join(work, 'data/simulator', name)).toString('base64');
    await tokens();
    await notifications();
    await apps({ apns: { topic: 'com.example.fox', certificate: of('client.pem') } });
    await anywhere();
  } finally {
    for (const child of children.reverse()) child.kill();
    fs.rmSync(work, { recursive: true });
  }
  for (const operation of Object.keys(operations)) {
    const left = unseen(operation);
    if (left.length) faults.push(`${operation} has not answered ${left.join(', ')}`);
  }
  console.log([...problems].sort().join(' '));
  if (faults.length) throw new Error(`${faults.length} faults:\n${[...new Set(faults)].join('\n')}`);
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
