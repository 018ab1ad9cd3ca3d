/** The whole life of one request: every decision of both sides, asked of the engine, as steps and a tree of probabilities. */
import { WeftError } from '@weft/base';
import {
  canonicalAuthority,
  findService,
  findServiceByAuthority,
  resolveName,
  type ServicePortView,
} from '@weft/engine';
import { spiffeId } from '@weft/model';
import { PASSTHROUGH_CLUSTER, Protocol } from '@weft/plan';
import { explore, type Leaf } from './explore.ts';
import { blankWay, type Fate } from './fate.ts';
import { httpWay } from './http.ts';
import { instanceNamed, type LabMesh, type Side } from './mesh.ts';
import { Notes } from './notes.ts';
import { explanation } from './outcomes.ts';
import { explainOutside, OUTSIDE } from './outside.ts';
import { tcpWay } from './tcp.ts';
import type { Explanation, Question } from './types.ts';

/**
 * Explains what happens to a request. Throws WeftError `lab.from`, `lab.to` or `lab.plan` where the question names what
 * does not exist; live endpoint state is that of the mesh given.
 */
export function explain(mesh: LabMesh, question: Question): Explanation {
  if (question.from === OUTSIDE) return explainOutside(mesh, question);
  const from = instanceNamed(mesh, question.from);
  const client = mesh.side(from);
  if (!client) throw new WeftError('lab.plan', `the plan of ${from} is not known`);
  const notes = new Notes(mesh, question.token);
  const identity = spiffeId(mesh.trustDomain, client.namespace, client.serviceAccount);
  notes.add('client', 'caller', `${client.namespace}/${client.workload}`, `${client.instance}, ${identity}`);
  if (client.snapshot.gateways.size > 0)
    throw new WeftError('lab.from', `${question.from} is a gateway: say outside for who calls it`);
  const to = destination(client, question);
  const leaves = to.view ? waysOf(mesh, notes, client, to.view, to, question) : [unknown(notes, client, to, question)];
  return explanation(notes, question, leaves);
}

interface Destination {
  readonly view: ServicePortView | undefined;
  readonly host: string;
  readonly port: number;
}

function destination(client: Side, question: Question): Destination {
  const parsed = canonicalAuthority(question.to);
  if (!parsed)
    throw new WeftError('lab.to', `"${question.to}" is no destination: say a service and its port, as payment:8080`);
  const host = parsed.host.startsWith('[') ? parsed.host.slice(1, -1) : parsed.host;
  const found = resolveName(client.snapshot, host);
  let { port } = parsed;
  if (!port) {
    const ports = found?.service.ports.map((p) => p.port) ?? [80];
    if (ports.length !== 1)
      throw new WeftError('lab.to', `${host} has the ports ${ports.join(', ')}: say which, as ${host}:${ports[0]}`);
    [port] = ports;
  }
  const view = findServiceByAuthority(client.snapshot, `${parsed.host}:${port}`, port);
  if (!view && found) {
    const ports = found.service.ports.map((p) => p.port).join(', ');
    throw new WeftError('lab.to', `${found.service.host} has no port ${port}; it has ${ports || 'none'}`);
  }
  return { view, host, port };
}

function waysOf(
  mesh: LabMesh,
  notes: Notes,
  client: Side,
  view: ServicePortView,
  to: Destination,
  question: Question,
): Leaf<Fate>[] {
  const { service, port } = view;
  const kind = service.headless ? 'headless: the client dials one of its instances' : service.addresses.join(', ');
  notes.add('client', 'service', `${service.host}:${port.port}`, kind);
  const http = speaksHttp(notes, view, question);
  // The name of a headless service stands for its instances: which one is asked is the client's draw.
  const addresses = service.headless ? (resolveName(client.snapshot, to.host)?.addresses ?? []) : [];
  return explore((random) => {
    notes.token = question.token;
    let chosen = view;
    if (addresses.length > 0) {
      const address = addresses[random.choose!(addresses.map(() => 1))];
      chosen = findService(client.snapshot, address, to.port) ?? view;
    }
    return http
      ? httpWay(mesh, notes, client, chosen, to, question, random)
      : tcpWay(mesh, notes, client, chosen, question, random);
  });
}

const NAMES = new Map([
  [Protocol.HTTP, 'HTTP'],
  [Protocol.HTTP2, 'HTTP/2'],
  [Protocol.GRPC, 'gRPC'],
  [Protocol.GRPC_WEB, 'gRPC-Web'],
  [Protocol.TCP, 'TCP'],
  [Protocol.TLS, 'TLS of the application'],
]);

function speaksHttp(notes: Notes, view: ServicePortView, question: Question): boolean {
  const declared = NAMES.get(view.protocol);
  const asked = question.tcp || question.sni !== undefined;
  const say = (what: string, why: string): void => notes.add('client', 'protocol', what, why);
  if (view.protocol === Protocol.TCP || view.protocol === Protocol.TLS) {
    say(declared as string, `port ${view.port.port} "${view.port.name}" is declared so: bytes are passed on unread`);
    return false;
  }
  if (declared && !asked) {
    say(declared, `port ${view.port.port} "${view.port.name}" is declared so`);
    return true;
  }
  const first = question.sni !== undefined ? 'a ClientHello' : asked ? 'no HTTP' : 'an HTTP request';
  say(asked ? (question.sni !== undefined ? 'TLS' : 'TCP') : 'HTTP', `its first bytes are ${first}`);
  return !asked;
}

/** Nothing of the mesh: passed on, or refused where only what is registered may be reached. */
function unknown(notes: Notes, client: Side, to: Destination, question: Question): Leaf<Fate> {
  const refused = client.snapshot.self?.registryOnly === true;
  const hosts = [...client.snapshot.services.keys()].sort().join(', ');
  const what = refused ? 'refused' : 'passed on as it is';
  notes.add(
    'client',
    'service',
    `${to.host}:${to.port} is ${what}`,
    `no service of the mesh; there are: ${hosts || 'none'}`,
  );
  const http = !question.tcp && question.sni === undefined;
  const status = refused ? 'closed' : http ? 'application' : 'connected';
  const end = refused ? 'unreachable' : 'allowed';
  const value = { ...blankWay, status, end, cluster: refused ? '' : PASSTHROUGH_CLUSTER } as const;
  return { probability: 1, value, draws: [] };
}
