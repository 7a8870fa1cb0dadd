/** An origin in a host of the lab: `node echo.js PORT` sends back whatever comes, and ends when its client does. */
import { createServer } from 'node:net';

const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.pipe(socket);
});
server.listen({ port: Number(process.argv[2]), host: '::', backlog: 4096 }, () => console.log('listening'));
