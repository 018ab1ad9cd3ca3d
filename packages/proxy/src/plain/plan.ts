/** The plan of a proxy that stands for one that left the mesh: names lead to applications, in plaintext, by no rule. */
import { create } from '@bufbuild/protobuf';
import {
  CaptureMode,
  type Endpoints,
  EndpointsSchema,
  outboundClusterName,
  type Part,
  PartSchema,
  type Protocol,
} from '@weft/plan';

/** As `weft up` writes it. */
export interface PlainService {
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly {
    readonly port: number;
    readonly protocol: Protocol;
    readonly endpoints: readonly { instance: string; workload: string; address: string; port: number }[];
  }[];
}

export interface PlainSelf {
  readonly mesh: string;
  readonly instance: string;
  readonly workload: string;
  readonly namespace: string;
  readonly trustDomain: string;
  readonly address: string;
}

const DOMAIN = 'cluster.local';

export function plainPlan(
  self: PlainSelf,
  services: readonly PlainService[],
): { parts: Part[]; endpoints: Endpoints[] } {
  const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
  const { mesh, instance, workload, namespace, trustDomain, address } = self;
  const own = { mesh, instance, workload, namespace, trustDomain, address, capture: CaptureMode.EXPLICIT };
  const parts = [part({ case: 'self', value: { ...own, domain: DOMAIN } })];
  const endpoints: Endpoints[] = [];
  for (const s of services) {
    const full = `${s.name}.${s.namespace}`;
    const host = `${full}.svc.${DOMAIN}`;
    const aliases = [`${full}.svc`, full, ...(s.namespace === namespace ? [s.name] : [])];
    const ports = s.ports.map(({ port, protocol, endpoints: behind }) => {
      const name = outboundClusterName(port, '', host);
      const cluster = { name, host, port, protocol, serviceName: s.name, serviceNamespace: s.namespace };
      parts.push(part({ case: 'cluster', value: cluster }));
      const ready = behind.map((e) => ({ ...e, namespace: s.namespace }));
      endpoints.push(create(EndpointsSchema, { host, port, endpoints: ready }));
      const route = [{ clusters: [{ cluster: name, weight: 1 }] }];
      return { port, protocol, http: route, tcp: route };
    });
    const value = { host, name: s.name, namespace: s.namespace, aliases, ports };
    parts.push(part({ case: 'service', value }));
  }
  return { parts, endpoints };
}
