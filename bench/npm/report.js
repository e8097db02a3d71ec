// What the two drivers share: the flags, the tokens and payload, and the line of JSON that
// bench/internal/measure.Report describes.
'use strict';

const options = { address: '', credentials: '', warmup: 10000, count: 100000, connections: 1, workers: 500 };
for (let i = 2; i < process.argv.length; i += 2) {
  const name = process.argv[i].replace(/^-+/, '');
  if (!(name in options) || process.argv[i + 1] === undefined) {
    console.error(`unknown option or missing value: ${process.argv[i]}`);
    process.exit(2);
  }
  options[name] = typeof options[name] === 'number' ? Number(process.argv[i + 1]) : process.argv[i + 1];
}
const colon = options.address.lastIndexOf(':');
options.host = options.address.slice(0, colon);
options.port = Number(options.address.slice(colon + 1));

exports.options = options;
exports.alert = '0123456789'.repeat(10);

// As bench/internal/rig.Token has them.
exports.tokens = n =>
  Array.from({ length: n }, (_, i) => {
    const raw = Buffer.alloc(32);
    raw.writeUInt32BE(Math.imul(i + 1, 0x9e3779b1) >>> 0, 0);
    for (let k = 4; k < 28; k++) {
      raw[k] = raw[k & 3] + 37 * k; // modulo 256
    }
    raw.writeUInt32BE(i, 28);
    return raw.toString('hex');
  });

exports.begin = () => ({ at: Date.now(), start: process.hrtime.bigint(), cpu: process.cpuUsage() });

exports.end = (begun, failed) => {
  const cpu = process.cpuUsage(begun.cpu);
  process.stdout.write(
    JSON.stringify({
      started_at: begun.at * 1e6,
      seconds: Number(process.hrtime.bigint() - begun.start) / 1e9,
      warmup: options.warmup,
      count: options.count,
      failed,
      cpu_seconds: (cpu.user + cpu.system) / 1e6,
      max_rss: process.resourceUsage().maxRSS * 1024,
    }) + '\n'
  );
};
