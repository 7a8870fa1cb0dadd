import { readFileSync } from 'node:fs';
import type { Host } from '../../scripts/lab/host.js';
import type { Cleanup } from './tproxy.js';

const DOCUMENT = new URL('../../../docs/transparent.md', import.meta.url);

/** A block of docs/transparent.md by the name behind its language, with words put in place of the document's. */
const block = (name: string, words: Readonly<Record<string, string>>): { language: string; text: string } => {
  const pattern = new RegExp(`^\`\`\`(\\w+) ${name}\\n([^]*?)^\`\`\`$`, 'm');
  const [, language, written] = pattern.exec(readFileSync(DOCUMENT, 'utf8')) ?? [];
  if (language === undefined || written === undefined) throw new Error(`${DOCUMENT} has no block ${name}`);
  let text = written;
  for (const [word, put] of Object.entries(words)) {
    text = text.replace(new RegExp(`(?<![\\w.:])${word.replaceAll('.', '\\.')}(?![\\w.])`, 'g'), put);
  }
  return { language, text };
};

/**
 * Runs blocks of docs/transparent.md on a host, in this order. What they did is undone after the test, and with it all
 * mangle rules of iptables.
 */
export const follow = async (
  t: Cleanup,
  host: Host,
  names: readonly string[],
  words: Readonly<Record<string, string>> = {},
): Promise<void> => {
  t.after(() => undo(host));
  for (const name of names) {
    const { language, text } = block(name, words);
    if (language === 'nft') await host.run('nft', text);
    else await host.run('sh', '-ec', text);
  }
};

const undo = async (host: Host): Promise<void> => {
  for (const table of ['gateway', 'gateway_local']) await host.attempt('nft', `delete table inet ${table}`);
  for (const tool of ['iptables', 'ip6tables']) {
    await host.attempt(tool, '-t', 'mangle', '-F');
    await host.attempt(tool, '-t', 'mangle', '-X');
  }
  for (const family of ['-4', '-6']) {
    await host.attempt('ip', family, 'rule', 'del', 'fwmark', '1', 'lookup', '100');
    await host.attempt('ip', family, 'route', 'flush', 'table', '100');
  }
};
