'use strict';
// Loaded before a case (node -r): the clients have Google's hosts built in, and this leads connections for those to the simulator.
// Everything else is theirs, the certificate's check too: the simulator's is for these hosts as well.

const tls = require('node:tls');

const at = process.env.SIM_FCM.lastIndexOf(':');
const simulator = { host: process.env.SIM_FCM.slice(0, at), port: Number(process.env.SIM_FCM.slice(at + 1)) };
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
  if (google.test(options.host || options.servername || '')) {
    options = { ...options, servername: options.servername || options.host, ...simulator };
  }
  return connect(options, callback);
};
