// A receiver of webhooks for bench/chaos, which starts and kills it: it verifies with npm standardwebhooks, appends the body to a
// file, a line each, and only then answers.
//
//     LHSPN_CHAOS_SECRET=whsec_… node keep.mjs -listen 127.0.0.1:3000 -file received

import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';

import { Webhook } from 'standardwebhooks';

const args = process.argv.slice(2).map((a) => a.replace(/^-(?=[a-z])/, '--')); // Go's flags have one dash
const { listen, file } = parseArgs({ args, options: { listen: { type: 'string' }, file: { type: 'string' } } }).values;
const webhook = new Webhook(process.env.LHSPN_CHAOS_SECRET);

createServer(async (req, res) => {
  const body = await text(req);
  let line = body;
  try {
    webhook.verify(body, req.headers);
  } catch {
    line = 'unverified';
  }
  appendFileSync(file, `${line}\n`);
  res.writeHead(204).end();
}).listen(Number(listen.split(':').pop()), listen.split(':')[0]);
