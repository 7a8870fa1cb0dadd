/**
 * Starts a program as systemd's socket activation does (sd_listen_fds(3)): `node listen-fds.js PORT[,PORT…] COMMAND…`.
 * The listening sockets are descriptors 3 and up; LISTEN_PID and LISTEN_FDS say so. With TRANSPARENT in the environment
 * they are as with Transparent=yes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { must } from '../../src/sys/errno.js';
import { setTransparent } from '../../src/sys/socket.js';

const [ports = '', ...command] = process.argv.slice(2);
const servers = ports.split(',').map((port) => createServer().listen(Number(port), '::'));
await Promise.all(servers.map((server) => once(server, 'listening')));
const fds = servers.map((server) => (server as unknown as { _handle: { fd: number } })._handle.fd);
if (process.env.TRANSPARENT !== undefined) for (const fd of fds) must(setTransparent(fd), 'setsockopt IP_TRANSPARENT');
const child = spawn('sh', ['-c', `LISTEN_PID=$$ LISTEN_FDS=${fds.length} exec "$@"`, 'sh', ...command], {
  stdio: ['ignore', 'inherit', 'inherit', ...fds],
});
for (const server of servers) server.close();
child.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : (code ?? 1);
});
