/**
 * Services for workloads that left the mesh with explicit capture: what stands where their proxy stood (pass-through.ts)
 * sends straight to the applications, and asks nobody.
 */
import type { InstanceState, ProcessSpec, ServiceSpec } from './specs.ts';

export interface PlainEndpoint {
  readonly instance: string;
  readonly workload: string;
  readonly address: string;
  readonly port: number;
}

export interface PlainService {
  readonly name: string;
  readonly namespace: string;
  /** `protocol`: as in a plan. */
  readonly ports: readonly { port: number; protocol: number; endpoints: readonly PlainEndpoint[] }[];
}

interface Backing {
  readonly name: string;
  readonly spec: Pick<ProcessSpec, 'name' | 'namespace' | 'labels' | 'ports'>;
  readonly state: InstanceState;
  readonly address: string;
}

/** Each service with the applications' own addresses of its ready instances. */
export function plainServices(services: readonly ServiceSpec[], instances: readonly Backing[]): PlainService[] {
  return services.map(({ name, namespace, selector, ports, targetPorts, protocols }) => {
    const pairs = Object.entries(selector);
    const ready = instances.filter(
      ({ spec, state, address }) =>
        state === 'ready' && address !== '' && spec.namespace === namespace && pairs.length > 0 && selects(pairs, spec),
    );
    return {
      name,
      namespace,
      ports: ports.map((port, i) => ({
        port,
        protocol: protocols[i] ?? 0,
        endpoints: ready.flatMap(({ name: instance, spec, address }) => {
          const target = targetPorts[i];
          const to = typeof target === 'string' ? spec.ports.find((p) => p.name === target)?.number : target;
          return to === undefined ? [] : [{ instance, workload: spec.name, address, port: to }];
        }),
      })),
    };
  });
}

function selects(pairs: readonly [string, string][], spec: Backing['spec']): boolean {
  return pairs.every(([key, value]) => spec.labels[key] === value);
}
