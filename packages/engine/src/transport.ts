/** How an endpoint is reached. */
import { ClientTls } from '@weft/plan';
import type { ClusterView, EndpointView } from './views.ts';

/** True where this endpoint is to be reached by mTLS through its proxy. */
export function meshed(cluster: ClusterView, endpoint: EndpointView): boolean {
  const e = endpoint.endpoint;
  const { tls } = cluster.cluster;
  return e.meshPort > 0 && !e.mtlsDisabled && (tls === ClientTls.UNSPECIFIED || tls === ClientTls.ISTIO_MUTUAL);
}
