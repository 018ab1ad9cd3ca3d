/** What labels say of a workload. */
import type { Labels } from './types/resource.ts';
import type { Instance } from './types/runtime.ts';

/** `labels[key]`, own properties only: `constructor` is a legal label key. */
export function label(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** Istio's order for the name that metrics and dashboards group by. */
export function canonicalName(i: Pick<Instance, 'labels' | 'workload'>): string {
  return (
    label(i.labels, 'service.istio.io/canonical-name') ??
    label(i.labels, 'app.kubernetes.io/name') ??
    label(i.labels, 'app') ??
    i.workload
  );
}

export function canonicalRevision(i: Pick<Instance, 'labels'>): string {
  return (
    label(i.labels, 'service.istio.io/canonical-revision') ??
    label(i.labels, 'app.kubernetes.io/version') ??
    label(i.labels, 'version') ??
    'latest'
  );
}
