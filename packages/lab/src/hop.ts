/** A gateway of the mesh on the way, e.g. out of it: its policies know the caller, then its own routes decide. */
import type { Random } from '@weft/base';
import { canonicalHead, findGatewayServer } from '@weft/engine';
import { spiffeId } from '@weft/model';
import { type AtGateway, connectionAtGateway, requestAtGateway, whereOf } from './at-gateway.ts';
import { blankWay, type Fate } from './fate.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import type { Callee, Caller } from './server.ts';

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
  const where = whereOf(side);
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
  if (server.opaque) {
    const asked = { from: '', to: where };
    return known(notes, connectionAtGateway(mesh, notes, side, server.opaque, { ...from, sni }, asked, random));
  }
  const sent = [...(head as readonly string[])];
  const problem = canonicalHead(sent, snapshot.pathPolicies ? 'reject' : 'keep');
  if (problem) {
    notes.add('client', 'request', `refused with ${problem.status}`, problem.details);
    return { ...blankWay, end: 'answered', status: problem.status, details: problem.details };
  }
  return known(notes, requestAtGateway(mesh, notes, side, server, from, sent, random));
}

/** The client's proxy is told which rule let its request in. */
function known(notes: Notes, { fate, allowedBy }: AtGateway): Fate {
  return { ...fate, from: [...notes.references(allowedBy), ...fate.from] };
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
    bytesPerSecond: Math.min(at.bytesPerSecond || hop.bytesPerSecond, hop.bytesPerSecond || at.bytesPerSecond),
    from: [...from, ...hop.from.filter((r) => !from.includes(r))],
  };
}
