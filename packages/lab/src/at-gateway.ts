/** What a gateway does with what one of its servers took, whoever sent it: token, policies, then its routes. */
import type { Random } from '@weft/base';
import {
  type AuthorizationRequest,
  findVirtualHost,
  type GatewayServerView,
  headValue,
  hostOf,
  type TcpRouteView,
} from '@weft/engine';
import { blankWay, type Fate } from './fate.ts';
import { routedWay } from './http.ts';
import type { LabMesh, Side } from './mesh.ts';
import type { Notes } from './notes.ts';
import { noteAuthorization, UNBELIEVED } from './server.ts';
import { tcpWay } from './tcp.ts';
import { noteToken } from './token.ts';
import type { Question } from './types.ts';

/** Who comes, as policies see it, but what a request's head and token say. */
export type Comer = Omit<AuthorizationRequest, 'head' | 'token'>;

export interface AtGateway {
  fate: Fate;
  /** The rule that let it in, where a route took it; '' otherwise. */
  allowedBy: string;
}

export const whereOf = (side: Side): string => `${side.namespace}/${side.workload}`;

/** `head` in its canonical form. */
export function requestAtGateway(
  mesh: LabMesh,
  notes: Notes,
  side: Side,
  server: GatewayServerView,
  from: Comer,
  head: string[],
  random: Random,
): AtGateway {
  const where = whereOf(side);
  const answer = noteToken(notes, where, 'client', side.snapshot, from.destPort);
  if ('refused' in answer) {
    const { end, status } = UNBELIEVED;
    return left({ ...blankWay, end, status, details: `jwt_authn_access_denied{${answer.refused}}` });
  }
  const { token } = answer;
  const request = { ...from, head, ...(token && { token }) };
  const verdict = noteAuthorization(notes, where, 'client', side.snapshot, request);
  if (!verdict.allow) {
    const { details, ref } = verdict;
    return left({ ...blankWay, end: 'denied', status: 403, details, from: notes.references(ref) });
  }
  const authority = headValue(head, ':authority') ?? '';
  const routes = findVirtualHost(server, authority);
  if (!routes) {
    notes.add('client', 'rule', 'answered with 404', `no route has the host "${hostOf(authority)}"`, server.server.ref);
    return left({ ...blankWay, status: 404, flags: 'NR', details: 'route_not_found' });
  }
  const fate = routedWay(mesh, notes, side, routes, head, random, token?.claims);
  return { fate, allowedBy: verdict.ref };
}

export function connectionAtGateway(
  mesh: LabMesh,
  notes: Notes,
  side: Side,
  routes: TcpRouteView,
  from: Comer,
  asked: Question,
  random: Random,
): AtGateway {
  const verdict = noteAuthorization(notes, whereOf(side), 'client', side.snapshot, from);
  if (!verdict.allow) {
    return left({ ...blankWay, end: 'denied', details: verdict.details, from: notes.references(verdict.ref) });
  }
  const named = { ...asked, tcp: true, ...(from.sni !== undefined && { sni: from.sni }) };
  return { fate: tcpWay(mesh, notes, side, routes, named, random, side.address), allowedBy: verdict.ref };
}

function left(fate: Fate): AtGateway {
  return { fate, allowedBy: '' };
}
