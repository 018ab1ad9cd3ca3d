/** For tests: a caller's data plane and, where wanted, the called one's, in this process, on addresses of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import type { Identity } from '@weft/identity';
import {
  type AuthorizationPolicy,
  type ClientTls,
  type ConnectionPoolSchema,
  EndpointsSchema,
  type HealthCheckSchema,
  type HttpRouteSchema,
  MtlsMode,
  outboundClusterName,
  type Part,
  PartSchema,
  type Protocol,
  type RateLimitSchema,
  type TcpFaultSchema,
  TracingSchema,
  WORKLOADS_HOST,
} from '@weft/plan';
import { DataPlane } from './data-plane.ts';
import type { ProxyLimits } from './limits.ts';
import { loopbackConnector } from './net/dial.ts';
import type { ReferenceIndex } from './observe/references.ts';
import { copyOf, type Observer, type RequestRecord, type TcpRecord } from './observe/types.ts';
import { testIdentities } from './test-identity.ts';

export const TEST_HOST = 'app.test.svc.cluster.local';
const VIP = '10.99.0.1';

export interface TestPort {
  port: number;
  protocol: Protocol;
  /** Where the application listens; for the called side. */
  appHost: string;
  appPort: number;
  timeoutMs?: number;
  /** Of the cluster. */
  pool?: MessageInitShape<typeof ConnectionPoolSchema>;
  tcpFault?: MessageInitShape<typeof TcpFaultSchema>;
  healthCheck?: MessageInitShape<typeof HealthCheckSchema>;
  /** More of the caller's route. */
  route?: MessageInitShape<typeof HttpRouteSchema>;
  /** Of the called side's port. */
  rateLimit?: MessageInitShape<typeof RateLimitSchema>;
  connectionLimit?: MessageInitShape<typeof RateLimitSchema>;
  /** Of the called side's port, towards its application. */
  inboundPool?: MessageInitShape<typeof ConnectionPoolSchema>;
  /** Of the cluster. */
  tls?: ClientTls;
  /** Of the cluster: identities of servers that may be called. */
  identities?: string[];
  /** Of the cluster: the PROXY header that connections begin with. */
  proxyProtocol?: number;
  /** Of the cluster: the service is a forward proxy. */
  tunnel?: { authority: string; post?: boolean };
}

export class Watched {
  readonly requests: RequestRecord[] = [];
  readonly tcp: TcpRecord[] = [];
  readonly plaintext: Parameters<Observer['plaintext']>[] = [];
  readonly counts = new Map<string, number>();
  readonly observer = {
    request: (r: RequestRecord) => void this.requests.push(copyOf(r)),
    tcpOpen: () => {},
    tcpClose: (r: TcpRecord) => void this.tcp.push({ ...r, decisions: { ...r.decisions } }),
    running: () => undefined,
    plaintext: (...caller: Parameters<Observer['plaintext']>) => void this.plaintext.push(caller),
    count: (name: string) => void this.counts.set(name, (this.counts.get(name) ?? 0) + 1),
  };
}

export interface TestPair {
  /** A connection to one of the service's ports here is what the caller's application sends. */
  front: DataPlane;
  frontAddress: string;
  frontSeen: Watched;
  /** The called proxy's mesh address, whoever listens there. */
  backAddress: string;
  back: DataPlane | undefined;
  backSeen: Watched;
  identity(serviceAccount: string): Promise<Identity>;
}

/** `network`: the first three numbers of the addresses. Without `back` the test itself listens as the called proxy. */
export async function testPair(
  t: TestContext,
  options: {
    network: string;
    ports: readonly TestPort[];
    back?: boolean;
    policies?: AuthorizationPolicy[];
    limits?: Partial<ProxyLimits>;
    /** The called side takes plaintext alone. */
    plaintext?: boolean;
    /** Who is told of decisions of the called one, and of whose services' the caller is told. */
    tell?: { callers?: string[]; namespaces?: string[] };
    /** Of both. */
    tracing?: MessageInitShape<typeof TracingSchema>;
    /** Where rules stand, for both. */
    references?: ReferenceIndex;
    /** Of the called one: how often it tries its application again. */
    applicationRetries?: number;
    /** Beside the called one there is another endpoint, at an address where nobody listens. */
    deadToo?: boolean;
  },
): Promise<TestPair> {
  const frontAddress = `${options.network}.1`;
  const backAddress = `${options.network}.2`;
  const dir = mkdtempSync(join(tmpdir(), 'weft-pair-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const identity = await testIdentities(dir, 'test');
  const self = (name: string, address: string): Part =>
    create(PartSchema, {
      kind: {
        case: 'self',
        value: {
          ...{ mesh: 'test', instance: `${name}-0`, workload: name, namespace: 'test', serviceAccount: name },
          ...{ trustDomain: 'cluster.local', address, version: 'v1', app: name },
          services: name === 'back' ? [TEST_HOST] : [],
          applicationRetries: name === 'back' ? options.applicationRetries : undefined,
          decisionCallers: name === 'back' ? (options.tell?.callers ?? []) : [],
          ...(options.tracing && { tracing: create(TracingSchema, options.tracing) }),
          decisionNamespaces: name === 'front' ? (options.tell?.namespaces ?? []) : [],
        },
      },
    });
  const plane = async (name: string, address: string, seen: Watched): Promise<DataPlane> => {
    const made = new DataPlane({
      address,
      capture: 'transparent',
      bind: { outbound: { host: address, port: 15001 }, mesh: { host: address, port: 15008 } },
      observer: seen.observer,
      ...(options.references && { references: options.references }),
      logger: silentLogger,
      connector: loopbackConnector(address),
      limits: options.limits ?? {},
      originalDestination: (socket) => ({ host: VIP, port: socket.localPort ?? 0 }),
    });
    made.setIdentity(await identity(name));
    t.after(() => made.close());
    return made;
  };

  const frontSeen = new Watched();
  const backSeen = new Watched();
  const front = await plane('front', frontAddress, frontSeen);
  const clusters = options.ports.map(({ port, proxyProtocol, pool, tcpFault, healthCheck, tls, tunnel, identities }) =>
    create(PartSchema, {
      kind: {
        case: 'cluster',
        value: {
          ...{ name: outboundClusterName(port, '', TEST_HOST), host: TEST_HOST, port },
          ...{ proxyProtocol, pool, tcpFault, healthCheck, tls, tunnel, identities },
        },
      },
    }),
  );
  const service = create(PartSchema, {
    kind: {
      case: 'service',
      value: {
        ...{ host: TEST_HOST, name: 'app', namespace: 'test', addresses: [VIP] },
        ports: options.ports.map(({ port, protocol, timeoutMs, route }) => {
          const to = [{ ref: `to${port}`, cluster: outboundClusterName(port, '', TEST_HOST), weight: 1 }];
          const http = [{ ref: `http${port}`, clusters: to, timeoutMs: timeoutMs ?? 15_000, ...route }];
          return { port, protocol, http, tcp: [{ ref: `tcp${port}`, clusters: to }] };
        }),
      },
    },
  });
  const dead = (port: number) => ({
    ...{ instance: 'dead-0', address: `${options.network}.9`, port, meshPort: 15008 },
    ...{ identity: 'spiffe://cluster.local/ns/test/sa/back', workload: 'dead', namespace: 'test', version: 'v1' },
  });
  const endpoints = options.ports.map(({ port }) =>
    create(EndpointsSchema, {
      host: TEST_HOST,
      port,
      endpoints: [
        {
          ...{ instance: 'back-0', address: backAddress, port, meshPort: 15008 },
          mtlsDisabled: options.plaintext === true,
          ...{ identity: 'spiffe://cluster.local/ns/test/sa/back', workload: 'back', namespace: 'test', version: 'v1' },
        },
        ...(options.deadToo ? [dead(port)] : []),
      ],
    }),
  );
  front.apply(buildSnapshot([self('front', frontAddress), service, ...clusters], endpoints), 1n);
  await front.listen();
  for (const { port } of options.ports) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      front.outbound.server.emit('connection', socket),
    );
    t.after(() => server.close());
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, frontAddress, resolve));
  }

  let back: DataPlane | undefined;
  if (options.back !== false) {
    back = await plane('back', backAddress, backSeen);
    const parts = [self('back', backAddress)];
    for (const { port, protocol, appHost, appPort, rateLimit, connectionLimit, inboundPool } of options.ports) {
      const value = {
        ...{
          port,
          protocol,
          mtls: options.plaintext ? MtlsMode.DISABLE : MtlsMode.STRICT,
          serviceHost: TEST_HOST,
          serviceName: 'app',
        },
        ...{ serviceNamespace: 'test', servicePort: port, dialAddress: appHost, dialPort: appPort },
        ...{ rateLimit, connectionLimit, pool: inboundPool },
      };
      parts.push(create(PartSchema, { kind: { case: 'inbound', value } }));
    }
    const { policies } = options;
    if (policies) parts.push(create(PartSchema, { kind: { case: 'authorization', value: { policies } } }));
    const caller = { instance: 'front-0', address: frontAddress, workload: 'front', namespace: 'test', version: 'v1' };
    const workloads = create(EndpointsSchema, { host: WORKLOADS_HOST, port: 0, endpoints: [caller] });
    back.apply(buildSnapshot(parts, [workloads]), 1n);
    await back.listen();
    const { inbound, core } = back;
    for (const { port } of options.plaintext ? options.ports : []) {
      // In the place of the kernel's redirect to 15006.
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        socket.on('error', () => {});
        if (core.admit(socket)) inbound.accept(socket, port);
      });
      t.after(() => server.close());
      await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, backAddress, resolve));
    }
  }
  return { front, frontAddress, frontSeen, backAddress, back, backSeen, identity };
}
