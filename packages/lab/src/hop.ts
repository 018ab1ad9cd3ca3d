/** A gateway of the mesh on the way, e.g. out of it: its policies know the caller, then its own routes decide. */
import type { Random } from '@weft/base';
import {
  canonicalHead,
  findGatewayServer,
  findVirtualHost,
  headValue,
  hostOf,
  type RouteView,
  type TcpRouteView,
} from '@weft/engine';
import { spiffeId } from '@weft/model';
import { blankWay, type Fate } from './fate.ts';
import { routedWay } from './http.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import { type Callee, type Caller, noteAuthorization, UNBELIEVED } from './server.ts';
import { tcpWay } from './tcp.ts';
import { noteToken } from './token.ts';

/**
 * What becomes of a request or connection that `client` sends to `e` by mTLS; undefined where `e` is no gateway. `head`: as
 * the client's proxy sends it; undefined for a connection, whose TLS asks for `sni`.
 */
export function throughGateway(
  mesh: LabMesh,
  notes: Notes,
  client: Caller,
  e: Callee,
  mtls: boolean,
  head: readonly string[] | undefined,
  sni: string | undefined,
  random: Random,
): Fate | undefined {
  const side = mtls ? mesh.side(e.instance) : undefined;
  if (!side || side.snapshot.gateways.size === 0) return undefined;
  const before = notes.atGateway;
  notes.atGateway = true;
  const fate = visit(mesh, notes, client, e, side, head, sni, random);
  notes.atGateway = before;
  return fate;
}

/** As `Gateway.linkStream` of the proxy. */
function visit(
  mesh: LabMesh,
  notes: Notes,
  client: Caller,
  e: Callee,
  side: Side,
  head: readonly string[] | undefined,
  sni: string | undefined,
  random: Random,
): Fate {
  const { snapshot } = side;
  const where = `${side.namespace}/${side.workload}`;
  const view = snapshot.gateways.get(e.port);
  const named = sni !== undefined ? view && findGatewayServer(view, sni) : undefined;
  const server = view?.plain ?? named;
  const fits = server && (server.opaque !== undefined) === (head === undefined) && !server.server.tls;
  if (!fits) {
    const what = head
      ? 'no server for requests'
      : sni
        ? `no server for the name "${sni}"`
        : 'no server for connections';
    notes.add('client', 'service', `${where}:${e.port}: refused`, `it has ${what} of the mesh there`);
    return { ...blankWay, status: head ? 403 : 'closed', end: 'denied', details: 'not a port of this gateway' };
  }
  notes.add('client', 'service', `${where}:${e.port}`, 'reached by mTLS', server.server.ref);
  notes.touch(server.server.ref);
  const principal = spiffeId(mesh.trustDomain, client.namespace, client.serviceAccount);
  const from = { principal, remoteIp: client.address, destPort: e.port, localIp: side.address };
  if (server.opaque) return connection(mesh, notes, side, where, { ...from, sni }, server.opaque, random);
  const sent = [...(head as readonly string[])];
  const problem = canonicalHead(sent, snapshot.pathPolicies ? 'reject' : 'keep');
  if (problem) {
    notes.add('client', 'request', `refused with ${problem.status}`, problem.details);
    return { ...blankWay, end: 'answered', status: problem.status, details: problem.details };
  }
  const answer = noteToken(notes, where, 'client', snapshot, e.port);
  if ('refused' in answer) {
    const { end, status } = UNBELIEVED;
    return { ...blankWay, end, status, details: `jwt_authn_access_denied{${answer.refused}}` };
  }
  const { token } = answer;
  const verdict = noteAuthorization(notes, where, 'client', snapshot, { ...from, head: sent, ...(token && { token }) });
  if (!verdict.allow) {
    const { details, ref } = verdict;
    return { ...blankWay, end: 'denied', status: 403, details, from: notes.references(ref) };
  }
  const authority = headValue(sent, ':authority') ?? '';
  const routes: RouteView | undefined = findVirtualHost(server, authority);
  if (!routes) {
    notes.add('client', 'rule', 'answered with 404', `no route has the host "${hostOf(authority)}"`, server.server.ref);
    return { ...blankWay, status: 404, flags: 'NR', details: 'route_not_found' };
  }
  const fate = routedWay(mesh, notes, side, routes, sent, random);
  return { ...fate, from: [...notes.references(verdict.ref), ...fate.from] };
}

function connection(
  mesh: LabMesh,
  notes: Notes,
  side: Side,
  where: string,
  from: { principal: string; remoteIp: string; destPort: number; localIp: string; sni: string | undefined },
  routes: TcpRouteView,
  random: Random,
): Fate {
  const verdict = noteAuthorization(notes, where, 'client', side.snapshot, from);
  if (!verdict.allow) {
    return { ...blankWay, end: 'denied', details: verdict.details, from: notes.references(verdict.ref) };
  }
  const asked = { from: '', to: where, tcp: true, ...(from.sni !== undefined && { sni: from.sni }) };
  const fate = tcpWay(mesh, notes, side, routes, asked, random, side.address);
  return { ...fate, from: [...notes.references(verdict.ref), ...fate.from] };
}

/** One try of the client's proxy at a gateway, whose answer is a destination's to it. */
export function afterHop(at: Fate, endpoint: string, instance: string, from: Fate['from'], hop: Fate): Fate {
  return {
    ...at,
    mtls: true,
    status: hop.status,
    end: hop.end,
    details: hop.details,
    endpoint: hop.endpoint ? `${endpoint}, then ${hop.endpoint}` : endpoint,
    instance,
    delayMs: at.delayMs + hop.delayMs,
    from: [...from, ...hop.from.filter((r) => !from.includes(r))],
  };
}
