/**
 * The demo's origin: answers every request on port 80 with a page that caches may keep, and prints one line for each.
 */
import { createServer } from 'node:http';
import { argv } from 'node:process';

const server = createServer(({ method, url, socket, headers }, response) => {
  const line = `${method} ${url}, Host ${headers.host}, from ${socket.remoteAddress?.replace('::ffff:', '')}`;
  console.log(line);
  response.setHeader('Content-Type', 'text/plain');
  response.setHeader('Cache-Control', 'max-age=3600');
  response.end(`Hello from the origin. It was asked: ${line}.\n`);
});
server.listen({ port: Number(argv[2]), host: '::' });
