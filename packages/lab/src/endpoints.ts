/** A destination's cluster in words: who balances how, which endpoints are in or out and why. */
import { type ClusterView, type EndpointView, isStranger, meshed, panicPercent, withheld } from '@weft/engine';
import { labelsMatch } from '@weft/model';
import { ClientTls, LbPolicy } from '@weft/plan';
import type { Notes } from './notes.ts';
import type { Verdict } from './server.ts';

const LB = new Map([
  [LbPolicy.UNSPECIFIED, 'least request (the default)'],
  [LbPolicy.LEAST_REQUEST, 'least request'],
  [LbPolicy.ROUND_ROBIN, 'round robin'],
  [LbPolicy.RANDOM, 'random'],
  [LbPolicy.RING_HASH, 'ring hash'],
  [LbPolicy.MAGLEV, 'Maglev hash'],
  [LbPolicy.PEAK_EWMA, 'peak EWMA of the latency'],
]);

export function endpointName({ endpoint: e }: EndpointView): string {
  return `${e.instance} (${e.address}:${e.port})`;
}

export function noteCluster(notes: Notes, cluster: ClusterView): void {
  const { cluster: c, endpoints } = cluster;
  notes.touch(
    c.ref,
    c.lbRef,
    c.outlier?.ref,
    c.failureAccrual?.ref,
    c.healthCheck?.ref,
    c.locality?.ref,
    c.tunnel?.ref,
  );
  const subset = c.subset ? `subset ${c.subset} (${labelsText(c.subsetLabels)}) of ` : '';
  const balancer = LB.get(c.lb) as string;
  notes.add('client', 'cluster', `${subset}${c.host}:${c.port}`, `balanced by ${balancer}`, c.lbRef || c.ref);
  if (c.healthCheck) {
    const { check, intervalMs, unhealthyThreshold, ref } = c.healthCheck;
    const how =
      check.case === 'http' ? `GET ${check.value.path}` : check.case === 'grpc' ? 'gRPC health' : 'a connection';
    const what = `asked by ${how} each ${intervalMs} ms`;
    notes.add('client', 'cluster', what, `out after ${unhealthyThreshold} failures in a row`, ref);
  }
  if (cluster.pinned) {
    notes.add('client', 'endpoint', endpointName(cluster.pinned), 'the client chose this address itself');
    return;
  }
  if (endpoints.length === 0) {
    const why = c.subset
      ? `no ready instance of the service has the labels ${labelsText(c.subsetLabels)}`
      : 'no ready instance is behind this port of the service';
    notes.add('client', 'endpoint', 'none', why, c.ref);
  }
  const panic = panicPercent(cluster);
  for (const e of endpoints) {
    const { state, endpoint } = e;
    const name = endpointName(e);
    if (endpoint.draining) notes.add('client', 'endpoint', `${name} is out`, 'it is draining and takes nothing new');
    else if (state.unhealthy) {
      const but = panic > 0 ? `, unless fewer than ${panic} % are well` : '';
      notes.add('client', 'endpoint', `${name} is out`, `it fails its health checks${but}`, c.healthCheck?.ref);
    } else if (state.ejected) {
      const but = panic > 0 ? `, unless fewer than ${panic} % are well` : '';
      notes.add('client', 'endpoint', `${name} is out`, `it was ejected as an outlier${but}`, c.outlier?.ref);
    } else {
      const group = cluster.groups.find((g) => g.endpoints.includes(e));
      const far =
        cluster.groups.length > 1
          ? `, ${endpoint.locality || 'no locality'}, priority ${group?.priority ?? '-'}${shareOf(cluster, group)}`
          : '';
      const load = state.active > 0 ? `, ${state.active} active` : '';
      if (group) notes.add('client', 'endpoint', `${name} is in`, `weight ${e.weight}${far}${load}`);
      else notes.add('client', 'endpoint', `${name} is out`, 'its locality gets no share', c.locality?.ref);
    }
  }
  noteAbsent(notes, cluster);
  if (cluster.pool && (cluster.pool.maxRequests > 0 || cluster.pool.maxConnections > 0)) {
    const { maxRequests, maxConnections } = cluster.pool;
    const now = `${cluster.state.requests} requests run now`;
    const limits = [
      maxRequests > 0 && `${maxRequests} requests`,
      maxConnections > 0 && `${maxConnections} connections`,
    ];
    notes.add('client', 'limit', `at most ${limits.filter(Boolean).join(', ')} at once`, now, c.ref);
  }
}

/** Of a group that shares its priority with others. */
function shareOf({ groups }: ClusterView, group: ClusterView['groups'][number] | undefined): string {
  if (!group || group.weight === 0) return '';
  const all = groups.filter((g) => g.priority === group.priority).reduce((sum, g) => sum + g.weight, 0);
  return `, its locality's share ${Math.round((1000 * group.weight) / all) / 10} %`;
}

/** Of an endpoint that may not be reached without mTLS, and cannot be with it. */
export const WITHHELD: Verdict = { status: 503, end: 'unreachable', flags: 'UF', details: 'mtls_impossible', ref: '' };

export function noteTransport(notes: Notes, cluster: ClusterView, endpoint: EndpointView): boolean {
  const mtls = meshed(cluster, endpoint);
  const { tls, tlsRef } = cluster.cluster;
  notes.touch(tlsRef);
  const e = endpoint.endpoint;
  const who = `${e.namespace}/${e.workload}`;
  const says = (what: string): string => `${what} to ${who}`;
  if (mtls) notes.add('client', 'transport', says('mTLS'), `it must prove ${e.identity}`, tlsRef);
  else if (tls === ClientTls.SIMPLE || tls === ClientTls.MUTUAL)
    notes.add('client', 'transport', says('TLS of the application'), 'the DestinationRule asks for it', tlsRef);
  else if (withheld(cluster, endpoint)) {
    const lacks = e.meshPort === 0 ? 'it has no proxy' : 'its PeerAuthentication is DISABLE';
    const why = isStranger(cluster, endpoint) ? `${e.identity} is none of its subjectAltNames` : lacks;
    notes.add('client', 'transport', `nothing is sent to ${who}`, `the rule wants ISTIO_MUTUAL, and ${why}`, tlsRef);
  } else {
    const why =
      tls === ClientTls.DISABLE
        ? tlsRef.startsWith('DestinationRule/')
          ? 'the DestinationRule disables TLS'
          : 'the mesh settings turn automatic mTLS off'
        : e.meshPort === 0
          ? 'it has no proxy'
          : 'its PeerAuthentication is DISABLE';
    notes.add('client', 'transport', says('plaintext'), why, tlsRef);
  }
  return mtls;
}

/** Instances of the service that are no endpoints here, so that "no healthy upstream" leaves nobody out. */
function noteAbsent(notes: Notes, { cluster: c, endpoints }: ClusterView): void {
  const here = new Set(endpoints.map((e) => e.endpoint.instance));
  for (const { name, ready, labels } of notes.backing(c.host)) {
    if (here.has(name)) continue;
    const meant = labelsMatch(c.subsetLabels, labels);
    // A subset leaves out the others by design: that is worth a line only where nobody is left.
    if (!meant && endpoints.length > 0) continue;
    let why = 'it has no port of that name';
    if (!meant) why = `its labels ${labelsText(labels)} are not those of the subset`;
    else if (!ready) why = 'it is not ready';
    notes.add('client', 'endpoint', `${name} is out`, why, c.ref);
  }
}

export function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([k, v]) => `${k}=${v}`)
    .join(', ');
}
