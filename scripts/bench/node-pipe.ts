import { connect, createServer } from 'node:net';

/**
 * A relay in Node's own streams, for comparison: node-pipe.js LISTEN-PORT TARGET-PORT, both on 127.0.0.1.
 */
const [listenPort, targetPort] = process.argv.slice(2).map(Number);
if (listenPort === undefined || targetPort === undefined) throw new Error('two ports, please');

createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const target = connect({
    host: '127.0.0.1',
    port: targetPort,
    allowHalfOpen: true,
    noDelay: true,
  });
  client.pipe(target).pipe(client);
  client.on('error', () => target.destroy());
  target.on('error', () => client.destroy());
}).listen(listenPort, '127.0.0.1');
