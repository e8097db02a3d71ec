// Drives npm apn@1.7.8, the binary protocol: one connection, fastMode (it writes as long as the socket takes it), fed in
// portions, since its queue is an array that is shifted.
'use strict';

const path = require('path');
const apn = require('apn');
const { options, alert, tokens, begin, end } = require('./report');

const pair = path.join(options.credentials, 'client.pem');
const connection = new apn.Connection({
  address: options.host,
  port: options.port,
  cert: pair,
  key: pair,
  ca: [path.join(options.credentials, 'ca.pem')],
  fastMode: true,
  maxConnections: options.connections,
});
for (const event of ['error', 'socketError', 'transmissionError']) {
  connection.on(event, fault => {
    console.error(event, fault);
    process.exit(1);
  });
}

const devices = tokens(100000).map(token => new apn.Device(token));
const expiry = Math.floor(Date.now() / 1000) + 86400;
const portion = 2000;

// "completed" may be emitted from within pushNotification, so the next portion waits for the event loop.
function send(count) {
  return new Promise(resolve => {
    let sent = 0;
    let scheduled = false;
    const more = () => {
      scheduled = false;
      if (sent === count) {
        connection.removeListener('completed', schedule);
        resolve();
        return;
      }
      for (let n = Math.min(portion, count - sent); n > 0; n--) {
        const notification = new apn.Notification();
        notification.alert = alert;
        notification.expiry = expiry;
        connection.pushNotification(notification, devices[sent++ % devices.length]);
      }
    };
    const schedule = () => {
      if (!scheduled) {
        scheduled = true;
        setImmediate(more);
      }
    };
    connection.on('completed', schedule);
    schedule();
  });
}

(async () => {
  await send(options.warmup);
  const begun = begin();
  await send(options.count);
  end(begun, 0);
  // It stays connected until it is ended by whoever started it.
})();
