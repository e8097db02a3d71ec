'use strict';

const fs = require('node:fs');

const { SIM_PAGE, SIM_CERTS } = process.env;

const account = JSON.parse(fs.readFileSync(`${SIM_CERTS}/service-account.json`, 'utf8'));

// See docs/simulator.md for the magic tokens.
const magic = (code) => `deadfa17c0de${code}000001:APA91b${'1'.padStart(134, '0')}`;
const invalid = magic('0201');
const mismatch = magic('0209');
const unregistered = magic('020d');
const good = (name, n) => Array.from({ length: n }, (_, i) => `${name}${i}:APA91b${String(i).padStart(134, '0')}`);

// expect checks that each token has been accepted just so often.
async function expect(want) {
  const tokens = Object.keys(want).map((token) => `fcm:${token}`);
  const res = await fetch(`${SIM_PAGE}counts`, { method: 'POST', body: JSON.stringify(tokens) });
  const wrong = (await res.json()).filter((c) => c.accepted !== want[c.token.slice(4)]);
  if (wrong.length > 0) throw new Error(`accepted otherwise than expected: ${JSON.stringify(wrong)}`);
}

// run ends the process with what the case came to: some of the libraries keep it alive with their timers.
function run(test) {
  setTimeout(() => {
    console.error('timed out');
    process.exit(1);
  }, 30000);
  test().then(
    () => process.exit(0),
    (err) => {
      console.error(err);
      process.exit(1);
    },
  );
}

module.exports = { account, invalid, mismatch, unregistered, good, expect, run };
