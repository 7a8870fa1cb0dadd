/**
 * The demo's own upstream where no Squid is installed: a plain HTTP proxy that keeps nothing. Like the lab's Squid, it
 * logs a line for each request: client, result and status, method, URL.
 */
import { request as ask, createServer } from 'node:http';
import { argv } from 'node:process';

const server = createServer((request, response) => {
  const { method, url = '', headers, socket } = request;
  const log = (result: string): void => {
    console.log(`${socket.remoteAddress?.replace('::ffff:', '')} ${result} ${method} ${url}`);
  };
  const fail = (status: number, why: string): void => {
    log(`ERROR/${status}`);
    response.writeHead(status, { 'Content-Type': 'text/plain' }).end(`${why}\n`);
  };
  if (!url.startsWith('http://') || !URL.canParse(url)) {
    fail(400, `a proxy is asked for absolute URLs, not for ${url}`);
    return;
  }
  const onward = ask(url, { method, headers: { ...headers, via: '1.1 demo' } }, (answer) => {
    log(`MISS/${answer.statusCode}`);
    response.writeHead(answer.statusCode ?? 502, { ...answer.headers, via: '1.1 demo' });
    answer.pipe(response);
  });
  onward.on('error', ({ message }) => fail(502, message));
  request.pipe(onward);
});
server.listen({ port: Number(argv[2]), host: '::' });
