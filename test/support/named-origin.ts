/**
 * An origin that says who it is: `node named-origin.js ADDRESS PORT`. It begins each connection with ADDRESS and a new
 * line, and sends back what it gets.
 */
import { createServer } from 'node:net';

const [address = '', port = '0'] = process.argv.slice(2);

createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.write(`${address}\n`);
  socket.pipe(socket);
}).listen({ host: address, port: Number(port), backlog: 511 }, () => console.log('listening'));
