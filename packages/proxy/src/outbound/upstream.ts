/** How an endpoint is reached: by a mesh link to its proxy, directly, or directly by TLS that begins here. */
import { type ClusterView, type EndpointView, meshed, withheld } from '@weft/engine';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import { PORT_HEADER, SOURCE_HEADER } from '../link/settings.ts';
import type { Connector } from '../net/dial.ts';
import { withKeepalive } from '../net/keepalive.ts';
import type { LanePool } from '../upstream/lane.ts';

export const WITHHELD_DETAIL = 'mtls_impossible';

/** Fails like an endpoint that cannot be reached, so that another one is tried by the same rules. */
const WITHHELD: LanePool = {
  open: 0,
  ask: (asker) => void setImmediate(() => asker.onUnavailable('connect', WITHHELD_DETAIL)),
};

/** Where to ask for a lane to the endpoint. `h2`: what it speaks where no Weft proxy is before it. */
export function poolFor(core: Core, cluster: ClusterView, endpoint: EndpointView, h2: boolean): LanePool {
  const e = endpoint.endpoint;
  if (!meshed(cluster, endpoint)) {
    if (withheld(cluster, endpoint)) {
      core.observer.count('upstream_mtls_impossible');
      return WITHHELD;
    }
    const tls = core.originators.of(cluster.cluster);
    return (tls ? core.upstreams.overTls(tls) : core.upstreams).pool(e.address, e.port, h2, cluster.pool);
  }
  const pool = core.links.to(endpoint);
  if (cluster.pool?.connectTimeoutMs) pool.connectTimeoutMs = cluster.pool.connectTimeoutMs;
  return pool.lanes(e.port, h2, cluster.pool);
}

/** What a request on a mesh link between two Weft proxies carries beside the application's own headers. */
export function addMeshHeaders(core: Core, head: Head, endpoint: EndpointView): void {
  head.push(PORT_HEADER, String(endpoint.endpoint.port), SOURCE_HEADER, core.sourceHeader);
}

/** How an opaque connection to the endpoint is dialled where it does not go by a mesh link. */
export function connectorFor(core: Core, cluster: ClusterView): Connector {
  const { keepalive } = cluster.pool ?? {};
  const plain = keepalive ? withKeepalive(core.options.connector, () => keepalive) : core.options.connector;
  const tls = core.originators.of(cluster.cluster);
  return tls ? tls.connector(plain, undefined) : plain;
}
