/** Names for workloads without a proxy: who has none cannot ask one, and service addresses lead nowhere without it. */
import type { InstanceState, ServiceSpec } from './specs.ts';

interface Backing {
  readonly spec: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> };
  readonly state: InstanceState;
  readonly address: string;
}

/**
 * The text of /etc/hosts for a workload of `namespace`: each service's names with the addresses of its ready instances.
 * Ports are not translated: a service is reached by its target port.
 */
export function hostsFile(namespace: string, services: readonly ServiceSpec[], instances: readonly Backing[]): string {
  const lines = ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback'];
  for (const s of services) {
    const pairs = Object.entries(s.selector);
    if (pairs.length === 0) continue;
    const full = `${s.name}.${s.namespace}`;
    const names = [`${full}.svc.cluster.local`, `${full}.svc`, full, ...(s.namespace === namespace ? [s.name] : [])];
    for (const { spec, state, address } of instances) {
      if (state !== 'ready' || spec.namespace !== s.namespace || address === '') continue;
      if (pairs.every(([key, value]) => spec.labels[key] === value)) lines.push(`${address} ${names.join(' ')}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
