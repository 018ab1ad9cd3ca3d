/** Hosts of a gateway's port, with what serves them. */
import type { GatewayListener, GatewayServer, HttpRoute } from '@weft/plan';

export interface ServerHost {
  readonly server: GatewayServer;
  /** As it is written: exact, `*.suffix` or `*`. */
  readonly host: string;
  /** Empty for connections. */
  readonly routes: readonly HttpRoute[];
}

export function serverHosts(listener: GatewayListener): ServerHost[] {
  return listener.servers.flatMap((server): ServerHost[] => {
    const requests = server.virtualHosts.map((v) => ({ server, host: v.host, routes: v.http }));
    if (requests.length > 0) return requests;
    const names = server.hosts.length > 0 ? server.hosts : ['*'];
    return names.map((host) => ({ server, host, routes: [] }));
  });
}
