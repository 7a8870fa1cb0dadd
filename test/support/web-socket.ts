/**
 * A web socket peer in a host of the lab: `node web-socket.js serve PORT` echoes every message and answers everything
 * that is not an upgrade with `plain`; `node web-socket.js echo URL TEXT…` sends texts and prints what comes back, each
 * on a line, or `status NUMBER BODY` when the server does not upgrade.
 */
import { createServer } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';

const serve = (port: number): void => {
  const server = createServer((_, response) => response.end('plain'));
  new WebSocketServer({ server }).on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('error', () => {});
  });
  server.listen({ port, host: '::' });
};

const echo = (url: string, texts: readonly string[]): void => {
  const socket = new WebSocket(url, { family: 4 });
  let left = texts.length;
  socket.on('open', () => {
    for (const text of texts) socket.send(text);
  });
  socket.on('message', (data) => {
    console.log(String(data));
    left -= 1;
    if (left === 0) socket.close(1000);
  });
  socket.on('unexpected-response', async (_, response) => {
    let body = '';
    for await (const piece of response) body += piece;
    console.log(`status ${response.statusCode} ${body}`);
    process.exit();
  });
  socket.on('error', (error) => console.log(`error ${error.message}`));
};

const [what, where = '', ...texts] = process.argv.slice(2);
if (what === 'serve') serve(Number(where));
else echo(where, texts);
