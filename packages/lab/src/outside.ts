/** A request of somebody who has no proxy: a visitor at a gateway, or plaintext to a workload's own port. */
import { type Random, WeftError } from '@weft/base';
import {
  canonicalHead,
  edgeHead,
  findGatewayServer,
  type GatewayPortView,
  type GatewayServerView,
  headValue,
  hostOf,
  visitorAddress,
} from '@weft/engine';
import { connectionAtGateway, requestAtGateway } from './at-gateway.ts';
import { explore, type Leaf } from './explore.ts';
import { blankWay, type Fate } from './fate.ts';
import { headOf, setPseudo } from './http.ts';
import { instanceNamed, type LabMesh, type Side } from './mesh.ts';
import { Notes } from './notes.ts';
import { explanation } from './outcomes.ts';
import { judge } from './server.ts';
import type { Explanation, Question } from './types.ts';

/** Who is no workload of the mesh, as `from` of a question. */
export const OUTSIDE = 'outside';

/** RFC 5737: nobody's. */
const ADDRESS = '192.0.2.1';

/** The workload and its port that `to` names, for who is outside. Throws WeftError `lab.to`. */
export function entrance(to: string): { workload: string; port: number } {
  const at = /^(.*):(\d{1,5})$/.exec(to);
  const port = Number(at?.[2]);
  if (at && port > 0 && port <= 65535) return { workload: at[1], port };
  const how = 'say the workload and the port where it listens, as shop/ingressgateway:8080';
  throw new WeftError('lab.to', `"${to}" is nothing that can be reached from outside: ${how}`);
}

export function explainOutside(mesh: LabMesh, question: Question): Explanation {
  const { workload, port } = entrance(question.to);
  const instance = instanceNamed(mesh, workload, 'to');
  const side = mesh.side(instance);
  if (!side) throw new WeftError('lab.plan', `the plan of ${instance} is not known`);
  const notes = new Notes(mesh, question.token);
  notes.add('client', 'caller', OUTSIDE, `${ADDRESS}, without an identity`);
  const gateway = side.snapshot.gateways.get(port);
  if (!gateway && side.snapshot.gateways.size > 0) {
    const ports = [...side.snapshot.gateways.keys()].sort((a, b) => a - b).join(', ');
    throw new WeftError('lab.to', `the gateway ${workload} does not listen on port ${port}; it does on ${ports}`);
  }
  const leaves: Leaf<Fate>[] = gateway
    ? explore((random) => visit(mesh, notes, side, gateway, port, question, random))
    : [{ probability: 1, value: direct(mesh, notes, side, port, question), draws: [] }];
  return explanation(notes, question, leaves);
}

/** As `GatewayPort` and `GatewayExchange` of the proxy. */
function visit(
  mesh: LabMesh,
  notes: Notes,
  gateway: Side,
  view: GatewayPortView,
  port: number,
  question: Question,
  random: Random,
): Fate {
  notes.token = question.token;
  const head = headOf(question, { host: gateway.address, port });
  const chosen = serverOf(notes, view, head, question);
  if (typeof chosen === 'string') return { ...blankWay, end: 'denied', details: chosen };
  const { server, name } = chosen;
  const { tls } = server.server;
  notes.touch(server.server.ref, tls && gateway.snapshot.secrets.get(tls.secret)?.ref);
  const from = { principal: undefined, remoteIp: ADDRESS, destPort: port, localIp: gateway.address, sni: name };
  if (server.opaque) return connectionAtGateway(mesh, notes, gateway, server.opaque, from, question, random).fate;
  if (question.tcp) {
    notes.add('client', 'protocol', 'answered with 400', 'the server carries requests, and this is no HTTP');
    return { ...blankWay, end: 'answered', status: 400 };
  }
  const secure = name !== undefined;
  const trusted = gateway.snapshot.self?.numTrustedProxies ?? 0;
  const originalIp = visitorAddress(head, ADDRESS, trusted);
  const clean = edgeHead(head, ADDRESS, secure, trusted, gateway.snapshot.self?.forwardClientCert);
  const problem =
    canonicalHead(head, 'reject') ?? (clean ? undefined : { status: 400, details: 'unexpected_underscore' });
  if (problem) {
    notes.add('client', 'request', `refused with ${problem.status}`, problem.details);
    return { ...blankWay, end: 'answered', status: problem.status, details: problem.details };
  }
  dropUsualPort(head, secure ? ':443' : ':80');
  return requestAtGateway(mesh, notes, gateway, server, { ...from, originalIp }, head, random).fate;
}

/** The server that takes the visitor, and the name asked for where it comes by TLS; or why none does. */
function serverOf(
  notes: Notes,
  view: GatewayPortView,
  head: readonly string[],
  question: Question,
): { server: GatewayServerView; name: string | undefined } | 'server_name_refused' | 'plaintext_refused' {
  const what = `port ${view.listener.port} of the gateway`;
  const { plain } = view;
  if (plain && !plain.server.meshOnly) {
    notes.add('client', 'service', what, 'plaintext', plain.server.ref);
    return { server: plain, name: undefined };
  }
  if (plain || (question.tcp && question.sni === undefined)) {
    const why = plain ? 'its server takes links of the mesh alone' : 'its servers take TLS alone';
    notes.add('client', 'service', `${what}: closed`, why, plain?.server.ref);
    return 'plaintext_refused';
  }
  const name = question.sni ?? hostOf(headValue(head, ':authority') ?? '');
  const server = findGatewayServer(view, name);
  if (!server) {
    notes.add('client', 'service', `${what}: closed`, `no server has the name "${name}"`);
    return 'server_name_refused';
  }
  const shown = server.server.tls?.clientCertificate ? ', with the certificate that is asked for' : '';
  notes.add('client', 'service', what, `TLS, server name "${name}"${shown}`, server.server.ref);
  return { server, name };
}

/** `shop.example.com:443` by https is `shop.example.com` (RFC 9110 4.2.3). */
function dropUsualPort(head: string[], port: string): void {
  const authority = headValue(head, ':authority') ?? '';
  if (authority.endsWith(port)) setPseudo(head, ':authority', authority.slice(0, -port.length));
}

function direct(mesh: LabMesh, notes: Notes, side: Side, port: number, question: Question): Fate {
  const opaque = question.tcp === true || question.sni !== undefined;
  const { instance, namespace, workload, address } = side;
  const to = { instance, namespace, workload, address, port, meshPort: side.injected ? 15008 : 0 };
  const caller = { namespace: '', serviceAccount: '', address: ADDRESS };
  let head: string[] | undefined;
  if (!opaque) {
    head = headOf(question, { host: address, port });
    const problem = canonicalHead(head, 'keep');
    if (problem) {
      notes.add('server', 'request', `refused with ${problem.status}`, problem.details);
      return { ...blankWay, end: 'answered', status: problem.status, details: problem.details };
    }
  }
  notes.add('client', 'transport', `plaintext to ${namespace}/${workload}`, 'the caller has no proxy');
  const verdict = judge(mesh, notes, caller, to, false, head, question.sni);
  const { status, end, flags, details, ref } = verdict;
  // What has no client's proxy sees no answer of one: the connection is reset.
  const seen = details === 'mtls_required' ? 'closed' : status;
  const endpoint = `${instance} (${address}:${port})`;
  return { ...blankWay, status: seen, end, flags, details, endpoint, instance, from: notes.references(ref) };
}
