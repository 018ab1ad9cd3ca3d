/** How an endpoint is reached. */
import { ClientTls, Protocol } from '@weft/plan';
import type { ClusterView, EndpointView } from './views.ts';

/** True where this endpoint is to be reached by mTLS through its proxy. */
export function meshed(cluster: ClusterView, endpoint: EndpointView): boolean {
  const e = endpoint.endpoint;
  const { tls } = cluster.cluster;
  if (e.meshPort === 0 || e.mtlsDisabled) return false;
  return tls === ClientTls.UNSPECIFIED || (tls === ClientTls.ISTIO_MUTUAL && !isStranger(cluster, endpoint));
}

/** True where the rule names identities of servers, and the one that this endpoint is to prove is none of them. */
export function isStranger({ cluster: { identities } }: ClusterView, { endpoint }: EndpointView): boolean {
  return identities.length > 0 && !identities.includes(endpoint.identity);
}

/**
 * True where nothing may be sent to an endpoint that is not reached by mTLS (it has no proxy, its PeerAuthentication is
 * DISABLE, the rule wants other TLS or other identities), least of all plaintext: where the rule says ISTIO_MUTUAL, and where it is on another
 * machine, to which mTLS alone leads.
 */
export function withheld(cluster: ClusterView, endpoint: EndpointView): boolean {
  return (cluster.cluster.tls === ClientTls.ISTIO_MUTUAL || endpoint.way !== '') && !meshed(cluster, endpoint);
}

/**
 * Whether an application without a proxy before it is spoken to in HTTP/2: where it was declared to, where the rule says
 * so (Istio: useClientProtocol, h2UpgradePolicy), and always for gRPC. `upgrade`: a WebSocket or another upgrade, which a
 * rule leaves as it is. `clientH2`: the caller spoke HTTP/2.
 */
export function speaksHttp2(
  cluster: ClusterView | undefined,
  grpc: boolean,
  clientH2: boolean,
  upgrade: boolean,
): boolean {
  const protocol = cluster?.cluster.protocol;
  if (grpc || protocol === Protocol.HTTP2 || protocol === Protocol.GRPC) return true;
  if (upgrade) return false;
  return cluster?.pool?.useClientProtocol ? clientH2 : (cluster?.pool?.h2Upgrade ?? false);
}
