import { readFileSync } from 'node:fs';

/** Reads package.json: only when asked for. */
export const version = (): string => {
  const manifest = new URL('../../../package.json', import.meta.url);
  return `tproxy ${(JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version}\n`;
};
