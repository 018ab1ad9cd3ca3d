/** Names shared by who writes a plan and who reads it. */

export const PART_TYPE = 'type.weft.dev/weft.plan.v1.Part';
export const ENDPOINTS_TYPE = 'type.weft.dev/weft.plan.v1.Endpoints';
export const REFERENCES_TYPE = 'type.weft.dev/weft.plan.v1.References';

/** The name of Envoy's and Istio's users' habit: `outbound|8080|v1|payment.shop.svc.cluster.local`. */
export function outboundClusterName(port: number, subset: string, host: string): string {
  return `outbound|${port}|${subset}|${host}`;
}

export function endpointsName(host: string, port: number): string {
  return `endpoints/${host}:${port}`;
}

export const PASSTHROUGH_CLUSTER = 'PassthroughCluster';

/** Upper bounds of the request duration histogram, in milliseconds: Istio's buckets. Above the last is one more. */
export const DURATION_BUCKETS_MS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
];
