import type { Host } from './host.js';

export type RedirectTool = 'iptables' | 'ip6tables' | 'nft';

export interface Redirect {
  /** The interface that clients come in by. */
  readonly from: string;
  readonly port: number;
  readonly to: number;
}

/** Redirects a TCP port of whatever destination to a port of `router` itself. nft covers IPv4 and IPv6 in one rule. */
export const redirect = async (router: Host, tool: RedirectTool, { from, port, to }: Redirect): Promise<void> => {
  if (tool === 'nft') {
    const rules = [
      'add table inet lab',
      'add chain inet lab prerouting { type nat hook prerouting priority dstnat; }',
      `add rule inet lab prerouting iifname "${from}" tcp dport ${port} redirect to :${to}`,
    ];
    await router.run('nft', rules.join('\n'));
    return;
  }
  const match = ['-i', from, '-p', 'tcp', '--dport', String(port)];
  await router.run(tool, '-t', 'nat', '-A', 'PREROUTING', ...match, '-j', 'REDIRECT', '--to-ports', String(to));
};

/** Takes away every redirect of `tool`. Connections that are under way keep theirs. */
export const clearRedirects = async (router: Host, tool: RedirectTool): Promise<void> => {
  if (tool === 'nft') await router.run('nft', 'delete', 'table', 'inet', 'lab');
  else await router.run(tool, '-t', 'nat', '-F', 'PREROUTING');
};
