/**
 * One of a chain's two Weft proxies, a process of its own. argv: a JSON file of `SideConfig`; without one it only loads
 * its code and ends. SIGUSR2 collects garbage.
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { assembleIdentity } from '@weft/identity';
import { DEFAULT_RETRY_ON } from '@weft/model';
import {
  AuthorizationAction,
  EndpointsSchema,
  MtlsMode,
  outboundClusterName,
  type Part,
  PartSchema,
  Protocol,
} from '@weft/plan';
import { DataPlane } from '@weft/proxy';
import { EdgeAggregator, Registry } from '@weft/telemetry';
import { MeshObserver } from '../../packages/proxy/src/observe/observer.ts';
import { releaseMemory } from '../../packages/proxy/src/overload/release.ts';
import type { Certificate, Kind } from '../stage.ts';

export interface SideConfig {
  side: 'front' | 'back';
  kind: Kind;
  front: string;
  back: string;
  app: string;
  appPort: number;
  certificate: Certificate;
  /** The identity that each end must prove. */
  identities: { front: string; back: string };
  ports: { outbound: number; mesh: number };
  /** What rules before the one that matters allow. */
  otherPaths: readonly string[];
}

const HOST = 'app.bench.svc.cluster.local';
const VIP = '10.99.0.1';
const PORT = 8080;

if (process.argv.length < 3) process.exit(0);
const config = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as SideConfig;
const isFront = config.side === 'front';
const address = isFront ? config.front : config.back;
const protocol = { http: Protocol.HTTP, websocket: Protocol.HTTP, grpc: Protocol.GRPC, tcp: Protocol.TCP }[config.kind];

function parts(): Part[] {
  const self = create(PartSchema, {
    kind: {
      case: 'self',
      value: {
        mesh: 'bench',
        instance: `${config.side}-0`,
        workload: config.side,
        namespace: 'bench',
        serviceAccount: config.side,
        trustDomain: 'cluster.local',
        address,
        version: 'v1',
        app: config.side,
        services: isFront ? [] : [HOST],
      },
    },
  });
  return isFront ? [self, ...frontParts()] : [self, ...backParts()];
}

/** One service with a timeout and the retries that the compiler gives a route without any of its own. */
function frontParts(): Part[] {
  const cluster = outboundClusterName(PORT, '', HOST);
  const clusters = [{ ref: 'all', cluster, weight: 1 }];
  const retry = {
    ref: 'retries',
    attempts: 2,
    retryOn: [...DEFAULT_RETRY_ON],
    backoffBaseMs: 25,
    backoffMaxMs: 250,
    ignorePreviousHosts: true,
  };
  return [
    create(PartSchema, { kind: { case: 'cluster', value: { name: cluster, host: HOST, port: PORT } } }),
    create(PartSchema, {
      kind: {
        case: 'service',
        value: {
          host: HOST,
          name: 'app',
          namespace: 'bench',
          addresses: [VIP],
          ports: [
            {
              port: PORT,
              protocol,
              http: config.kind === 'tcp' ? [] : [{ ref: 'all', clusters, timeoutMs: 15_000, retry }],
              tcp: [{ ref: 'all', clusters }],
            },
          ],
        },
      },
    }),
  ];
}

/** One inbound port that only the front's identity may use. */
function backParts(): Part[] {
  const from = [{ principals: [config.identities.front.slice('spiffe://'.length)] }];
  const others = config.otherPaths.map((path, i) => ({ ref: `other#${i}`, from, to: [{ paths: [`${path}*`] }] }));
  const to = config.kind === 'tcp' ? [] : [{ methods: ['GET', 'POST'], paths: ['/item/*', '/bench.Echo/*'] }];
  return [
    create(PartSchema, {
      kind: {
        case: 'authorization',
        value: {
          policies: [
            {
              ref: 'allow',
              name: 'front-may-ask',
              namespace: 'bench',
              action: AuthorizationAction.ALLOW,
              rules: [...others, { ref: 'allow#0', from, to }],
            },
          ],
        },
      },
    }),
    create(PartSchema, {
      kind: {
        case: 'inbound',
        value: {
          port: PORT,
          protocol,
          mtls: MtlsMode.STRICT,
          serviceHost: HOST,
          serviceName: 'app',
          serviceNamespace: 'bench',
          servicePort: PORT,
          dialAddress: config.app,
          dialPort: config.appPort,
        },
      },
    }),
  ];
}

const endpoints = create(EndpointsSchema, {
  host: HOST,
  port: PORT,
  endpoints: [
    {
      instance: 'back-0',
      address: config.back,
      port: PORT,
      meshPort: config.ports.mesh,
      identity: config.identities.back,
      workload: 'back',
      namespace: 'bench',
      version: 'v1',
    },
  ],
});

const registry = new Registry();
const count = (name: string): void => registry.count(name);
// Metrics and live edges as in a mesh; the access log is off, as it is for the peers.
const observer = new MeshObserver({
  registry,
  edges: new EdgeAggregator({ count }),
  log: undefined,
});
const plane = new DataPlane({
  address,
  capture: 'transparent',
  bind: {
    outbound: { host: address, port: config.ports.outbound },
    mesh: { host: address, port: config.ports.mesh },
  },
  observer,
  logger: silentLogger,
  // Ten thousand WebSockets and a few more.
  limits: { maxConnections: 20_000, maxRequests: 20_000 },
  // In the place of the kernel's redirect: every connection wanted the service.
  originalDestination: () => ({ host: VIP, port: PORT }),
});
const { keyPem, chainPem, rootPem } = config.certificate;
plane.setIdentity(assembleIdentity({ keyPem, chainPem, rootPem }));
plane.apply(buildSnapshot(parts(), isFront ? [endpoints] : []), 1n);
await plane.listen();
releaseMemory();
process.on('SIGTERM', () => process.exit(0));
process.on('SIGUSR2', () => {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
});
