/** How an endpoint is reached: by a mesh link to its proxy, directly, or directly by TLS that begins here. */
import { hostPort } from '@weft/base';
import { type ClusterView, type EndpointView, meshed, withheld } from '@weft/engine';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import type { LinkPool } from '../link/pool.ts';
import { PORT_HEADER, SOURCE_HEADER } from '../link/settings.ts';
import type { Connector } from '../net/dial.ts';
import { withKeepalive } from '../net/keepalive.ts';
import type { PeerInfo } from '../observe/types.ts';
import type { LanePool } from '../upstream/lane.ts';

export const WITHHELD_DETAIL = 'mtls_impossible';

/** Fails like an endpoint that cannot be reached, so that another one is tried by the same rules. */
const WITHHELD: LanePool = {
  open: 0,
  ask: (asker) => void setImmediate(() => asker.onUnavailable('connect', WITHHELD_DETAIL)),
};

/** What all requests to an endpoint have in common, kept with the plan's view of it. */
export class Reach {
  readonly core: Core;
  readonly peer: PeerInfo;
  /** `address:port`. */
  readonly host: string;
  readonly port: string;
  links: LinkPool | undefined;

  constructor(core: Core, { endpoint }: EndpointView) {
    this.core = core;
    this.peer = core.peerOf(endpoint);
    this.host = hostPort(endpoint.address, endpoint.port);
    this.port = String(endpoint.port);
  }
}

export function reachOf(core: Core, endpoint: EndpointView): Reach {
  const known = endpoint.reach as Reach | undefined;
  if (known !== undefined && known.core === core) return known;
  const made = new Reach(core, endpoint);
  endpoint.reach = made;
  return made;
}

/** The links to the endpoint's proxy: those of before, unless they were left for good. */
function linksTo(core: Core, endpoint: EndpointView): LinkPool {
  const reach = reachOf(core, endpoint);
  if (reach.links === undefined || reach.links.closed) reach.links = core.links.to(endpoint);
  return reach.links;
}

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
  const pool = linksTo(core, endpoint);
  if (cluster.pool?.connectTimeoutMs) pool.connectTimeoutMs = cluster.pool.connectTimeoutMs;
  return pool.lanes(e.port, h2, cluster.pool);
}

/** What a request on a mesh link between two Weft proxies carries beside the application's own headers. */
export function addMeshHeaders(core: Core, head: Head, endpoint: EndpointView): void {
  head.push(PORT_HEADER, reachOf(core, endpoint).port, SOURCE_HEADER, core.sourceHeader);
}

/** How an opaque connection to the endpoint is dialled where it does not go by a mesh link. */
export function connectorFor(core: Core, cluster: ClusterView): Connector {
  const { keepalive } = cluster.pool ?? {};
  const plain = keepalive ? withKeepalive(core.options.connector, () => keepalive) : core.options.connector;
  const tls = core.originators.of(cluster.cluster);
  return tls ? tls.connector(plain, undefined) : plain;
}
