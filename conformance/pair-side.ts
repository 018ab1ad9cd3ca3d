/** One of the two proxies of `pair.ts`: a process of its own that is told what to be over the IPC channel. */
import { createServer, type Socket } from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { trimMemory } from '@weft/capture';
import { buildSnapshot } from '@weft/engine';
import { assembleIdentity } from '@weft/identity';
import {
  type AuthorizationPolicySchema,
  type Endpoints,
  EndpointsSchema,
  MtlsMode,
  outboundClusterName,
  type Part,
  PartSchema,
  type Protocol,
} from '@weft/plan';
import { DataPlane, type Observer, type ProxyLimits } from '@weft/proxy';

export type PolicyInit = MessageInitShape<typeof AuthorizationPolicySchema>;

export interface SidePort {
  port: number;
  protocol: Protocol;
  appHost: string;
  appPort: number;
  timeoutMs: number;
}

/** The first message to a side. */
export interface SideStart {
  side: 'front' | 'back' | 'edge';
  front: string;
  back: string;
  /** Of a gateway, where there is one. */
  edge?: string;
  /** Where the front reaches 15008 of the back; default `back`. */
  meshAddress?: string;
  ports: SidePort[];
  mtls: 'strict' | 'permissive' | 'disable';
  policies: PolicyInit[];
  limits: Partial<ProxyLimits>;
  /** False: no record of a request is kept, for floods. */
  records?: boolean;
  keyPem: string;
  chainPem: string;
  rootPem: string;
}

/** What of a request's record crosses the channel. */
export interface PairRecord {
  method: string;
  path: string;
  authority: string;
  httpVersion: string;
  status: number;
  flags: string;
  details: string;
  attempts: number;
  authzPolicy: string;
  userAgent: string;
  bytesIn: number;
  bytesOut: number;
}

export type SideQuestion =
  | { id: number; ask: 'take' | 'peek' | 'collect' }
  | { id: number; ask: 'authorize'; policies: PolicyInit[] };

export interface SideAnswer {
  id: number;
  records: PairRecord[];
  counters: [string, number][];
  inFlight: number;
  tcpClosed: number;
}

export const PAIR_HOST = 'app.pair.svc.cluster.local';
const VIP = '10.99.0.1';
const MESH_PORT = 15008;
const spiffe = (name: string): string => `spiffe://cluster.local/ns/pair/sa/${name}`;

function selfPart(start: SideStart): Part {
  const { side } = start;
  return create(PartSchema, {
    kind: {
      case: 'self',
      value: {
        mesh: 'pair',
        instance: `${side}-0`,
        workload: side,
        namespace: 'pair',
        serviceAccount: side,
        trustDomain: 'cluster.local',
        address: start[side] as string,
        version: 'v1',
        app: side,
        services: side === 'back' ? [PAIR_HOST] : [],
      },
    },
  });
}

function frontParts(start: SideStart): Part[] {
  const clusters = start.ports.map(({ port }) =>
    create(PartSchema, {
      kind: { case: 'cluster', value: { name: outboundClusterName(port, '', PAIR_HOST), host: PAIR_HOST, port } },
    }),
  );
  const ports = start.ports.map(({ port, protocol, timeoutMs }) => {
    const to = [{ ref: `to${port}`, cluster: outboundClusterName(port, '', PAIR_HOST), weight: 1 }];
    return {
      port,
      protocol,
      http: [{ ref: `http${port}`, clusters: to, timeoutMs }],
      tcp: [{ ref: `tcp${port}`, clusters: to }],
    };
  });
  const service = create(PartSchema, {
    kind: {
      case: 'service',
      value: { host: PAIR_HOST, name: 'app', namespace: 'pair', aliases: ['app'], addresses: [VIP], ports },
    },
  });
  return [selfPart(start), ...clusters, service];
}

/** A gateway that lets everybody in, by every host, to the first port. */
function edgeParts(start: SideStart, policies: PolicyInit[]): Part[] {
  const { port } = start.ports[0];
  const name = outboundClusterName(port, '', PAIR_HOST);
  const http = [{ ref: 'edge', clusters: [{ ref: 'to', cluster: name, weight: 1 }] }];
  const servers = [{ ref: 'edge', virtualHosts: [{ host: '*', http }] }];
  return [
    selfPart(start),
    create(PartSchema, { kind: { case: 'cluster', value: { name, host: PAIR_HOST, port } } }),
    create(PartSchema, { kind: { case: 'gateway', value: { port, servers } } }),
    create(PartSchema, { kind: { case: 'authorization', value: { policies } } }),
  ];
}

function endpoints(start: SideStart): Endpoints[] {
  return start.ports.map(({ port }) =>
    create(EndpointsSchema, {
      host: PAIR_HOST,
      port,
      endpoints: [
        {
          instance: 'back-0',
          address: start.meshAddress ?? start.back,
          port,
          meshPort: MESH_PORT,
          mtlsDisabled: start.mtls === 'disable',
          identity: spiffe('back'),
          workload: 'back',
          namespace: 'pair',
          version: 'v1',
        },
      ],
    }),
  );
}

const MODES = { strict: MtlsMode.STRICT, permissive: MtlsMode.PERMISSIVE, disable: MtlsMode.DISABLE };

function backParts(start: SideStart, policies: PolicyInit[]): Part[] {
  const inbound = start.ports.map(({ port, protocol, appHost, appPort }) =>
    create(PartSchema, {
      kind: {
        case: 'inbound',
        value: {
          port,
          protocol,
          mtls: MODES[start.mtls],
          serviceHost: PAIR_HOST,
          serviceName: 'app',
          serviceNamespace: 'pair',
          servicePort: port,
          dialAddress: appHost,
          dialPort: appPort,
        },
      },
    }),
  );
  const parts = [selfPart(start), ...inbound];
  if (policies.length > 0) {
    parts.push(create(PartSchema, { kind: { case: 'authorization', value: { policies } } }));
  }
  return parts;
}

let records: PairRecord[] = [];
let keepRecords = true;
let tcpClosed = 0;
const counters = new Map<string, number>();

const observer: Observer = {
  request(r) {
    if (!keepRecords) return;
    records.push({
      method: r.method,
      path: r.path,
      authority: r.authority,
      httpVersion: r.httpVersion,
      status: r.status,
      flags: r.flags,
      details: r.details,
      attempts: r.attempts,
      authzPolicy: r.authzPolicy,
      userAgent: r.userAgent,
      bytesIn: r.bytesIn,
      bytesOut: r.bytesOut,
    });
  },
  plaintext() {},
  tcpOpen() {},
  tcpClose() {
    tcpClosed++;
  },
  running: () => undefined,
  count: (name) => void counters.set(name, (counters.get(name) ?? 0) + 1),
};

async function serve(start: SideStart): Promise<void> {
  keepRecords = start.records !== false;
  const address = start[start.side] as string;
  const plane = new DataPlane({
    address,
    capture: 'transparent',
    ...(start.side === 'edge'
      ? { bind: {}, gateway: { host: address } }
      : { bind: { outbound: { host: address, port: 15001 }, mesh: { host: address, port: MESH_PORT } } }),
    observer,
    logger: silentLogger,
    limits: start.limits,
    // In the place of the kernel's redirect: what connects to a port of the service wanted the service.
    originalDestination: (socket) => ({ host: VIP, port: socket.localPort ?? 0 }),
  });
  plane.setIdentity(assembleIdentity(start));
  let epoch = 0n;
  const apply = (policies: PolicyInit[]): void => {
    const parts = { front: frontParts, back: backParts, edge: edgeParts }[start.side](start, policies);
    plane.apply(buildSnapshot(parts, start.side === 'back' ? [] : endpoints(start)), ++epoch);
  };
  apply(start.policies);
  await plane.listen();
  const accept = (socket: Socket, port: number): void => {
    if (start.side === 'front') {
      plane.outbound.server.emit('connection', socket);
      return;
    }
    socket.on('error', () => {});
    if (plane.core.admit(socket)) plane.inbound.accept(socket, port);
  };
  // A gateway listens by itself where its plan says.
  for (const { port } of start.side === 'edge' ? [] : start.ports) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => accept(socket, port));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port, backlog: 4096 }, resolve);
    });
  }
  process.on('message', (question: SideQuestion) => {
    if (question.ask === 'authorize') apply(question.policies);
    if (question.ask === 'collect') {
      (globalThis as { gc?: () => void }).gc?.();
      trimMemory();
    }
    const answer: SideAnswer = {
      id: question.id,
      records: question.ask === 'take' ? records : [],
      counters: [...counters],
      inFlight: plane.core.exchanges.size,
      tcpClosed,
    };
    if (question.ask === 'take') records = [];
    process.send?.(answer);
  });
  process.send?.('ready');
}

if (process.send !== undefined) {
  // Whoever started this process is gone: nothing is left to do.
  process.on('disconnect', () => process.exit(0));
  process.once('message', (start: SideStart) => void serve(start));
}
