import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Peer, startNginx, startSquid } from '../../scripts/lab/peers.js';
import { ADDRESS, type Topology } from '../../scripts/lab/topology.js';
import { makeCertificate, tlsServer } from '../support/certificate.js';
import { unless } from '../support/needs.js';
import { buildGateway, redirectFor, startTproxy } from '../support/tproxy.js';

const SQUID_PORT = 3128;
/** Of each of the five kinds below. */
const OF_A_KIND = 10;

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--ignore-certificate-errors',
  '--virtual-time-budget=20000',
];

/** Loads images, style sheets, scripts, fetched JSON and posted forms, and counts those that came as they should. */
const PAGE = `<!DOCTYPE html><title>page</title><p id="loaded">0</p><script>
let loaded = 0;
const count = () => { document.getElementById('loaded').textContent = String(++loaded); };
const add = (tag, fields) => document.head.append(Object.assign(document.createElement(tag), { onload: count }, fields));
for (let i = 0; i < ${OF_A_KIND}; i++) {
  add('img', { src: 'image.svg?' + i });
  add('link', { rel: 'stylesheet', href: 'style.css?' + i });
  add('script', { src: 'script.js?' + i });
  fetch('data.json?' + i).then((r) => r.json()).then((v) => { if (v.ok) count(); });
  fetch('/posted?' + i, { method: 'POST', body: 'x'.repeat(1000 * i) }).then((r) => r.text()).then((text) => {
    if (text === 'posted') count();
  });
}
</script>`;

const needs = ['chromium', 'nginx', 'squid', 'iptables', 'openssl'].map((name) => `program ${name}` as const);

describe('a browser behind a redirect', { skip: unless('root', ...needs) }, () => {
  let topology: Topology;
  let nginx: Peer;
  let squid: Peer;

  before(async () => {
    topology = await buildGateway();
    const { lab, proxy, internet } = topology;
    // The browser shall have one way to the origin.
    lab.name('origin.lab', [ADDRESS.internet[0]]);
    const posted = 'location = /posted { return 200 "posted"; }';
    const secure = tlsServer(443, makeCertificate(lab.folder, 'DNS:origin.lab')).replace(/\}$/, `${posted} }`);
    const plain = `server { listen 8080; ${posted} }`;
    nginx = await startNginx(lab, internet, [80], `include /etc/nginx/mime.types; ${secure} ${plain}`);
    const files = `${nginx.folder}/files`;
    writeFileSync(`${files}/page.html`, PAGE);
    writeFileSync(`${files}/image.svg`, '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>');
    writeFileSync(`${files}/style.css`, `p { color: red }\n${'/* filler */\n'.repeat(20_000)}`);
    writeFileSync(`${files}/script.js`, `window.ran = true;\n${'// filler\n'.repeat(20_000)}`);
    writeFileSync(`${files}/data.json`, '{"ok":true}');
    squid = await startSquid(lab, proxy, SQUID_PORT);
  });
  after(() => topology?.lab.close());

  for (const [scheme, port] of [
    ['http', 8080],
    ['https', 443],
  ] as const) {
    test(`loads a page of ${5 * OF_A_KIND} resources over ${scheme}`, async (t) => {
      await redirectFor(t, topology.router, 'iptables', { port, to: 8081 });
      await startTproxy(t, topology.router, '-s', '8081', 'proxy.lab', String(SQUID_PORT));
      const before = nginx.log().length;
      const url = `${scheme}://origin.lab${port === 443 ? '' : `:${port}`}/page.html`;
      const profile = `--user-data-dir=${topology.lab.path(`browser-${scheme}`)}`;
      const { stdout } = await topology.client.run('chromium', ...FLAGS, profile, '--dump-dom', url);
      assert.equal(/<p id="loaded">(\d+)<\/p>/.exec(stdout)?.[1], String(5 * OF_A_KIND), stdout.slice(0, 500));
      const seen = nginx.log().slice(before);
      assert.ok(seen.length > 5 * OF_A_KIND, String(seen.length));
      assert.ok(
        seen.every((line) => line.startsWith(`${ADDRESS.proxy[0]} `)),
        seen.join('\n'),
      );
      if (port === 443) await squid.logged(`CONNECT ${ADDRESS.internet[0]}:443`);
      else await squid.logged('POST http://origin.lab:8080/posted?', OF_A_KIND);
    });
  }
});
