import type { Host } from './host.js';
import { Lab } from './lab.js';

/**
 * The lab that most tests, the demo and some measurements use:
 * ```
 * client 10.77.1.2 ── 10.77.1.1 router 10.77.2.1 ── 10.77.2.2 internet
 *                               10.77.3.1
 *                                   └── 10.77.3.2 proxy
 * ```
 * and the same in IPv6 with `fd77:1::2` for `10.77.1.2` and so on. Everything is routed through the router.
 */
export interface Topology {
  readonly lab: Lab;
  readonly client: Host;
  readonly router: Host;
  /** Where origins are. */
  readonly internet: Host;
  /** Where upstream proxies are. */
  readonly proxy: Host;
}

/** Addresses of the topology's hosts, IPv4 first. */
export const ADDRESS = {
  client: ['10.77.1.2', 'fd77:1::2'],
  routerToClient: ['10.77.1.1', 'fd77:1::1'],
  routerToInternet: ['10.77.2.1', 'fd77:2::1'],
  routerToProxy: ['10.77.3.1', 'fd77:3::1'],
  internet: ['10.77.2.2', 'fd77:2::2'],
  proxy: ['10.77.3.2', 'fd77:3::2'],
} as const satisfies Record<string, readonly [string, string]>;

const withPrefix = ([ipv4, ipv6]: readonly [string, string]): readonly string[] => [`${ipv4}/24`, `${ipv6}/64`];

/** Builds the topology in a lab of its own. Names: `client`, `router`, `origin.lab` and `proxy.lab`. */
export const buildTopology = async (): Promise<Topology> => {
  const lab = await Lab.open();
  try {
    const [client, router, internet, proxy] = await Promise.all([
      lab.host('client'),
      lab.host('router'),
      lab.host('internet'),
      lab.host('proxy'),
    ]);
    await router.sysctl('net.ipv4.ip_forward', 1);
    await router.sysctl('net.ipv6.conf.all.forwarding', 1);
    for (const [host, address, gateway] of [
      [client, ADDRESS.client, ADDRESS.routerToClient],
      [internet, ADDRESS.internet, ADDRESS.routerToInternet],
      [proxy, ADDRESS.proxy, ADDRESS.routerToProxy],
    ] as const) {
      await lab.link(host, withPrefix(address), router, withPrefix(gateway));
      for (const via of gateway) await host.route('default', via);
    }
    lab.name('client', ADDRESS.client);
    lab.name('router', ADDRESS.routerToClient);
    lab.name('origin.lab', ADDRESS.internet);
    lab.name('proxy.lab', ADDRESS.proxy);
    return { lab, client, router, internet, proxy };
  } catch (error) {
    await lab.close();
    throw error;
  }
};
