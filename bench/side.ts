/** One of the benchmark's two proxies, a process of its own. argv: a JSON file of `SideConfig`. Prints `ready`. */
import { readFileSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { assembleIdentity } from '@weft/identity';
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
import { MeshObserver } from '../packages/proxy/src/observe/observer.ts';

export interface SideConfig {
  side: 'front' | 'back';
  front: string;
  back: string;
  app: string;
  appPort: number;
  keyPem: string;
  chainPem: string;
  rootPem: string;
}

const HOST = 'app.bench.svc.cluster.local';
const VIP = '10.99.0.1';
const PORT = 8080;
const MESH_PORT = 15008;
const id = (name: string): string => `spiffe://cluster.local/ns/bench/sa/${name}`;

const config = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as SideConfig;
const isFront = config.side === 'front';
const address = isFront ? config.front : config.back;

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
  const cluster = outboundClusterName(PORT, '', HOST);
  if (isFront) {
    return [
      self,
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
                protocol: Protocol.HTTP,
                http: [{ ref: 'all', clusters: [{ ref: 'all', cluster, weight: 1 }], timeoutMs: 15_000 }],
              },
            ],
          },
        },
      }),
    ];
  }
  return [
    self,
    create(PartSchema, {
      kind: {
        case: 'authorization',
        value: {
          policies: [
            {
              ref: 'allow',
              name: 'front-may-read',
              namespace: 'bench',
              action: AuthorizationAction.ALLOW,
              rules: [
                {
                  ref: 'allow#0',
                  from: [{ principals: [id('front').slice('spiffe://'.length)] }],
                  to: [{ methods: ['GET'], paths: ['/item/*'] }],
                },
              ],
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
          protocol: Protocol.HTTP,
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
      meshPort: MESH_PORT,
      identity: id('back'),
      workload: 'back',
      namespace: 'bench',
      version: 'v1',
    },
  ],
});

const registry = new Registry();
const count = (name: string): void => registry.count(name);
// Metrics and live edges as in a mesh; the access log is off, as it is for the peer.
const observer = new MeshObserver({
  registry,
  edges: new EdgeAggregator({ count }),
  log: undefined,
  where: () => undefined,
});
const plane = new DataPlane({
  address,
  capture: 'transparent',
  bind: { outbound: { host: address, port: 15001 }, mesh: { host: address, port: MESH_PORT } },
  observer,
  logger: silentLogger,
  // In the place of the kernel's redirect: every connection wanted the service.
  originalDestination: () => ({ host: VIP, port: PORT }),
});
plane.setIdentity(assembleIdentity({ keyPem: config.keyPem, chainPem: config.chainPem, rootPem: config.rootPem }));
plane.apply(buildSnapshot(parts(), isFront ? [endpoints] : []), 1n);
await plane.listen();
process.on('SIGTERM', () => process.exit(0));
process.stdout.write('ready\n');
