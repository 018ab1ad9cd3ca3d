/** One way of an opaque connection. */
import type { Random } from '@weft/base';
import {
  affinityHash,
  CONNECT_ATTEMPTS,
  drawTcpFault,
  type EndpointView,
  pickEndpoint,
  routeTcp,
  routeTls,
  type TcpRouteView,
  withheld,
} from '@weft/engine';
import type { TcpFault } from '@weft/plan';
import { endpointName, noteCluster, noteTransport, WITHHELD } from './endpoints.ts';
import { blankWay, type Fate } from './fate.ts';
import { afterHop, throughGateway } from './hop.ts';
import { noteSplit } from './http.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import { judge } from './server.ts';
import type { Question } from './types.ts';

export function tcpWay(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  view: TcpRouteView,
  question: Question,
  random: Random,
  // As the client's proxy sees it: what was asked for, where it is an address.
  dialled = question.to.replace(/:\d+$/, ''),
): Fate {
  const byName = question.sni !== undefined && view.tls.length > 0;
  const decision = byName ? routeTls(view, question.sni as string, random, dialled) : routeTcp(view, random, dialled);
  if (!decision) {
    const why = byName ? `no route covers the server name "${question.sni}"` : 'the port has no route for connections';
    notes.add('client', 'rule', 'closed', why);
    return { ...blankWay, flags: 'NR', details: 'route_not_found' };
  }
  const routes = byName ? view.tls : view.tcp;
  const route = routes.find((r) => r.ref === decision.ref);
  notes.add('client', 'rule', 'route matches', byName ? `server name "${question.sni}"` : 'connection', decision.ref);
  if (route) noteSplit(notes, route.split);
  const { cluster } = decision;
  const refs = [decision.ref, decision.destinationRef];
  const from = notes.references(...refs);
  const base: Fate = { ...blankWay, from, cluster: decision.clusterName };
  if (!cluster) return { ...base, flags: 'NC', details: 'cluster_not_found' };
  noteCluster(notes, cluster);
  let at: Fate = { ...base, subset: cluster.cluster.subset };
  const limit = cluster.pool?.maxConnections ?? 0;
  if (limit > 0 && cluster.state.connections >= limit) return { ...at, flags: 'UO', details: 'overflow' };
  const fault = drawTcpFault(cluster, random);
  noteFault(notes, cluster.cluster.tcpFault);
  const { tunnel } = cluster.cluster;
  if (tunnel) {
    const how = tunnel.post ? 'POST' : 'CONNECT';
    notes.add('client', 'transport', `${how} to ${tunnel.authority}`, 'the destination is a forward proxy', tunnel.ref);
  }
  if (fault) {
    refs.push(fault.ref);
    at = { ...at, delayMs: fault.delayMs, from: notes.references(...refs) };
    if (fault.end) return { ...at, end: 'fault', flags: 'FI', details: `tcp_fault_${fault.end}` };
  }
  const hash = affinityHash(cluster, [], client.address);
  const tried: EndpointView[] = [];
  for (;;) {
    const picked = pickEndpoint(client.snapshot, cluster, random, 0, tried, hash);
    if (picked === 'none') {
      notes.add('client', 'endpoint', 'closed: no healthy upstream', 'each endpoint is out', cluster.cluster.ref);
      return { ...at, flags: 'UH', details: 'no_healthy_upstream' };
    }
    tried.push(picked);
    const mtls = noteTransport(notes, cluster, picked);
    const none = withheld(cluster, picked);
    // A gateway takes a tunnel before it judges what is in it.
    const hop = none
      ? undefined
      : throughGateway(mesh, notes, client, picked.endpoint, mtls, undefined, question.sni, random);
    if (hop) {
      return afterHop(at, endpointName(picked), picked.endpoint.instance, notes.references(...refs), hop);
    }
    const verdict = none
      ? { ...WITHHELD, status: 'closed' as const }
      : judge(mesh, notes, client, picked.endpoint, mtls, undefined, mtls ? undefined : question.sni);
    // Who refuses a tunnel has taken nothing yet; in plaintext the connection stands before anybody judges it.
    if (verdict.status === 'closed' && (mtls || none) && tried.length < CONNECT_ATTEMPTS) {
      notes.add('client', 'retry', `another try after ${endpointName(picked)}`, `at most ${CONNECT_ATTEMPTS} in all`);
      continue;
    }
    return {
      ...at,
      mtls,
      status: verdict.status,
      end: verdict.end,
      flags: verdict.flags,
      details: verdict.details,
      endpoint: endpointName(picked),
      instance: picked.endpoint.instance,
      from: notes.references(...refs, verdict.ref),
    };
  }
}

/** What a TCPFault may do to the connection; each is drawn for itself. */
function noteFault(notes: Notes, fault: TcpFault | undefined): void {
  if (!fault) return;
  notes.touch(fault.ref);
  const may = (percent: number, what: string): void => {
    if (percent > 0) notes.add('client', 'fault', `${what} in ${percent} %`, 'drawn independently', fault.ref);
  };
  may(fault.delayPercent, `delay of ${fault.delayMs} ms`);
  may(fault.resetPercent, 'reset');
  may(fault.blackholePercent, 'taken and never answered');
  may(fault.bandwidthPercent, `at most ${fault.bandwidthBytesPerSecond} bytes a second each way`);
}
