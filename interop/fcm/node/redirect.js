'use strict';
// Loaded before a case (node -r): the clients have Google's hosts built in, and this leads connections for those to the simulator.
// Everything else is theirs, the certificate's check too: the simulator's is for these hosts as well.

const tls = require('node:tls');

const address = (text) => ({ host: text.slice(0, text.lastIndexOf(':')), port: Number(text.slice(text.lastIndexOf(':') + 1)) });
const fcm = address(process.env.SIM_FCM);
const token = address(process.env.SIM_TOKEN || process.env.SIM_FCM); // the benchmarks have them apart
const google = /(^|\.)googleapis\.com$/;

const connect = tls.connect;
tls.connect = (...args) => {
  const callback = typeof args[args.length - 1] === 'function' ? args.pop() : undefined;
  let options = {};
  for (const arg of args) {
    if (typeof arg === 'object' && arg !== null) options = { ...options, ...arg };
    else if (typeof arg === 'number') options = { ...options, port: arg };
    else if (typeof arg === 'string') options = { ...options, host: arg };
  }
  const host = options.host || options.servername || '';
  if (google.test(host)) {
    options = { ...options, servername: options.servername || host, ...(host.startsWith('fcm.') ? fcm : token) };
  }
  return connect(options, callback);
};
