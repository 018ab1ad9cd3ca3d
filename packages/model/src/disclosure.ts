/** Who is told which rules decided (DecisionHeader): of a workload's own decisions, and what it is told of others'. */
import { spiffeId } from './hosts.ts';
import type { Model } from './types/model.ts';
import type { Instance, MeshRuntime } from './types/runtime.ts';

export interface DisclosedTo {
  /** Callers of the workload. */
  readonly decisionCallers: string[];
  /** Namespaces of services; `*` for all. */
  readonly decisionNamespaces: string[];
}

const NOTHING: DisclosedTo = { decisionCallers: [], decisionNamespaces: [] };

/** Pure. One in the root namespace holds for the whole mesh. A gateway's visitors are never told anything. */
export function disclosedTo(model: Model, runtime: MeshRuntime, instance: Instance): DisclosedTo {
  if (model.decisionHeaders.length === 0 || instance.gateway) return NOTHING;
  const callers = new Set<string>();
  const namespaces = new Set<string>();
  const own = spiffeId(runtime.trustDomain, instance.namespace, instance.serviceAccount).replace(/^spiffe:\/\//, '');
  const means = (c: string): boolean => (c.endsWith('*') ? own.startsWith(c.slice(0, -1)) : c === own);
  for (const d of model.decisionHeaders) {
    const everywhere = d.namespace === model.rootNamespace;
    if (everywhere || d.namespace === instance.namespace) for (const c of d.callers) callers.add(c);
    if (d.callers.some(means)) namespaces.add(everywhere ? '*' : d.namespace);
  }
  return { decisionCallers: [...callers], decisionNamespaces: [...namespaces] };
}
