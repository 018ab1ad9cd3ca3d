/** Names of services, label selection, and which of several rules is the most specific. */
import type { Labels } from './types/resource.ts';
import type { Instance } from './types/runtime.ts';
import type { ServiceModel } from './types/service.ts';

/** `payment` in namespace `shop` → `payment.shop.svc.cluster.local`. */
export function serviceHost(
  service: { name: string; namespace: string; external?: { readonly host: string } | undefined },
  domain: string,
): string {
  if (service.external) return service.external.host;
  return `${service.name}.${service.namespace}.svc.${domain}`;
}

/**
 * A host as written in a rule of `namespace`: a name without a dot is short and belongs to the rule's own namespace
 * (never to the caller's); anything else stands for itself, in lower case and without a trailing dot.
 */
export function resolveHost(host: string, namespace: string, domain: string): string {
  const lower = host.toLowerCase();
  const bare = lower.endsWith('.') ? lower.slice(0, -1) : lower;
  if (bare === '' || bare.includes('.') || bare.includes('*')) return bare;
  return `${bare}.${namespace}.svc.${domain}`;
}

/** Whether `pattern` (exact, `*.suffix` or `*`) covers `host`. A wildcard covers one or more labels. */
export function hostCovers(pattern: string, host: string): boolean {
  if (pattern === '*') return true;
  if (pattern.startsWith('*')) return host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
  return pattern === host;
}

/** What two host patterns have in common, the narrower of them; undefined where nothing. */
export function commonHost(a: string, b: string): string | undefined {
  if (hostCovers(a, b)) return b;
  return hostCovers(b, a) ? a : undefined;
}

/** Higher is more specific: exact hosts above wildcards, longer wildcards above shorter ones. */
export function hostSpecificity(pattern: string): number {
  return pattern.startsWith('*') ? pattern.length : 100_000 + pattern.length;
}

/** Kubernetes `matchLabels`: every pair must be there. An empty selector selects everything. */
export function labelsMatch(selector: Labels, labels: Labels): boolean {
  for (const key of Object.keys(selector)) {
    if (!Object.hasOwn(labels, key) || labels[key] !== selector[key]) return false;
  }
  return true;
}

/** Whether clients of a namespace see a rule: those of its own always do. */
export function isSeenFrom(
  rule: { readonly namespace: string; readonly exportTo: readonly string[] | undefined },
  namespace: string,
): boolean {
  return rule.namespace === namespace || isExportedTo(rule.exportTo, namespace);
}

/** Whether a rule that lists `exportTo` is seen from another namespace than its own. */
export function isExportedTo(exportTo: readonly string[] | undefined, namespace: string): boolean {
  return exportTo === undefined || exportTo.length === 0 || exportTo.includes('*') || exportTo.includes(namespace);
}

/** A Service without a selector selects nothing, unlike a policy without one. */
export function serviceSelects(service: ServiceModel, workload: Pick<Instance, 'namespace' | 'labels'>): boolean {
  const selector = service.selector;
  if (!selector || Object.keys(selector).length === 0) return false;
  return service.namespace === workload.namespace && labelsMatch(selector, workload.labels);
}

/** `spiffe://cluster.local/ns/shop/sa/cart` */
export function spiffeId(trustDomain: string, namespace: string, serviceAccount: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}
