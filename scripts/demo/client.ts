/**
 * The demo's client: connects to the address of an origin, knowing of no proxy, and prints every line that it sends
 * (`>`) and gets (`<`). Arguments: name or address of the origin, port, path.
 */
import { connect } from 'node:net';
import { argv } from 'node:process';

const [, , host = '', port, path] = argv;
const lines = [`GET ${path} HTTP/1.1`, 'Host: origin.lab', 'Connection: close', '', ''];
for (const line of lines.slice(0, -2)) console.log(`> ${line}`);

const socket = connect({ host, port: Number(port) }, () => socket.write(lines.join('\r\n')));
let answer = '';
socket.setEncoding('latin1').on('data', (piece) => {
  answer += piece;
});
socket.on('end', () => {
  for (const line of answer.trimEnd().split(/\r?\n/)) console.log(`< ${line}`);
});
