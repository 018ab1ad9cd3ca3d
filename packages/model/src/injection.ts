/** Whether a process gets a proxy. */
import type { Model } from './types/model.ts';
import type { ProcessModel } from './types/process.ts';

export interface InjectionDecision {
  readonly injected: boolean;
  /** In words, naming the label or annotation that decided. */
  readonly reason: string;
}

const NO = new Set(['false', 'disabled', 'no', 'off', 'n', '0']);
const YES = new Set(['true', 'enabled', 'ingress', 'yes', 'on', 'y', '1']);

/**
 * What the workload says (`sidecar.istio.io/inject`) overrides its namespace (Istio's own webhook leaves a disabled
 * namespace out whatever its pods say); `istio-injection` wins over `istio.io/rev`. Linkerd's annotation on the workload wins over the
 * namespace's. Unlike both, no label at all means a proxy: a folder with only Services and Processes is a mesh.
 */
export function injected(
  model: Model,
  process: Pick<ProcessModel, 'namespace' | 'labels' | 'annotations'>,
): InjectionDecision {
  const namespace = model.namespaces.find((n) => n.name === process.namespace);
  const nsName = `namespace ${process.namespace}`;
  const ns = (key: string): string | undefined => own(namespace?.labels, key) ?? own(namespace?.annotations, key);
  const wl = (key: string): string | undefined => own(process.labels, key) ?? own(process.annotations, key);

  const istioNs = ns('istio-injection');
  for (const key of ['sidecar.istio.io/inject', 'linkerd.io/inject']) {
    const value = wl(key);
    if (value !== undefined && NO.has(value)) return say(false, key, value, 'the process');
    if (value !== undefined && YES.has(value)) return say(true, key, value, 'the process');
  }
  if (istioNs !== undefined && NO.has(istioNs)) return say(false, 'istio-injection', istioNs, nsName);
  const rev = wl('istio.io/rev');
  if (rev) return say(true, 'istio.io/rev', rev, 'the process');
  if (istioNs !== undefined && YES.has(istioNs)) return say(true, 'istio-injection', istioNs, nsName);
  const linkerdNs = ns('linkerd.io/inject');
  if (linkerdNs !== undefined && NO.has(linkerdNs)) return say(false, 'linkerd.io/inject', linkerdNs, nsName);
  if (linkerdNs !== undefined && YES.has(linkerdNs)) return say(true, 'linkerd.io/inject', linkerdNs, nsName);
  const nsRev = ns('istio.io/rev');
  if (nsRev) return say(true, 'istio.io/rev', nsRev, nsName);
  return { injected: true, reason: 'no injection label: the default is a proxy' };
}

function own(labels: Readonly<Record<string, string>> | undefined, key: string): string | undefined {
  return labels && Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function say(yes: boolean, key: string, value: string, where: string): InjectionDecision {
  return { injected: yes, reason: `${key}: ${value} on ${where}` };
}
