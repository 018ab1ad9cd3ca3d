/** Names shared by who writes a plan and who reads it. */

/** The network of the mesh's own machine, beside those of hosts that joined; no host may be called so. */
export const MESH_NETWORK = 'mesh';
const ENTRANCE_SUFFIX = '.weft';

/** The server name in the ClientHello of a mesh link through entrances: `payment-v1-0.vm1.weft`. */
export function entranceName(instance: string, network: string): string {
  return `${instance}.${network}${ENTRANCE_SUFFIX}`.toLowerCase();
}

/** What such a name means; undefined for any other name. */
export function parseEntranceName(name: string): { instance: string; network: string } | undefined {
  if (!name.endsWith(ENTRANCE_SUFFIX)) return undefined;
  const end = name.length - ENTRANCE_SUFFIX.length;
  const dot = name.lastIndexOf('.', end - 1);
  if (dot < 1 || dot === end - 1) return undefined;
  return { instance: name.slice(0, dot), network: name.slice(dot + 1, end) };
}

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

/** The host of Endpoints that belong to no service: a workload with a proxy each, port 0. */
export const WORKLOADS_HOST = 'workloads';

export function workloadName(instance: string): string {
  return `workloads/${instance}`;
}

export const PASSTHROUGH_CLUSTER = 'PassthroughCluster';

/** `region/zone/subzone` patterns, with `*` for the rest; shorter patterns cover everything below. */
export function localityCovers(pattern: string, locality: string): boolean {
  if (pattern === '*') return true;
  const have = locality.split('/');
  const wanted = pattern.split('/');
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '*') return true;
    if (wanted[i] !== (have[i] ?? '')) return false;
  }
  return true;
}

/** Resource name of a Secret part. */
export function secretName(namespace: string, name: string): string {
  return `secret/${namespace}/${name}`;
}

/** Ports on which the server speaks first, so that detection would only delay (Istio's list and Linkerd's). */
const SERVER_FIRST = new Set([25, 53, 587, 3306, 4444, 27_017]);

export function serverFirst(port: number): boolean {
  return SERVER_FIRST.has(port);
}
