'use strict';
// What the cases share: the tokens, and the check of what the simulator received.

const fs = require('node:fs');

const { SIM_GATEWAY, SIM_FEEDBACK, SIM_PROVIDER, SIM_PAGE, SIM_CERTS } = process.env;

const address = (text) => ({ host: text.slice(0, text.lastIndexOf(':')), port: Number(text.slice(text.lastIndexOf(':') + 1)) });
const file = (name) => fs.readFileSync(`${SIM_CERTS}/${name}`);

// See docs/simulator.md for the magic tokens.
const good = Array.from({ length: 6 }, (_, i) => '22' + i.toString(16).padStart(62, '0'));
const invalid = 'deadfa17c0de0008' + '0'.repeat(48);
const unregistered = 'deadfa17c0de0020' + '0'.repeat(48);

// expect waits until each token has been accepted just so often, or for ten seconds.
async function expect(want) {
  const tokens = Object.keys(want);
  for (const deadline = Date.now() + 10000; ; await new Promise((r) => setTimeout(r, 20))) {
    const res = await fetch(`${SIM_PAGE}counts`, { method: 'POST', body: JSON.stringify(tokens) });
    const wrong = (await res.json()).filter((c) => c.accepted !== want[c.token]);
    if (wrong.length === 0) return;
    if (Date.now() > deadline) throw new Error(`accepted otherwise than expected: ${JSON.stringify(wrong)}`);
  }
}

const allGood = (more) => ({ ...Object.fromEntries(good.map((t) => [t, 1])), ...more });

// run ends the process with what the case came to: some of the libraries keep it alive with their timers.
function run(test) {
  const timer = setTimeout(() => {
    console.error('timed out');
    process.exit(1);
  }, 30000);
  test().then(
    () => process.exit(0),
    (err) => {
      clearTimeout(timer);
      console.error(err);
      process.exit(1);
    },
  );
}

module.exports = {
  gateway: address(SIM_GATEWAY), feedback: address(SIM_FEEDBACK), provider: address(SIM_PROVIDER),
  file, good, invalid, unregistered, expect, allGood, run,
};
