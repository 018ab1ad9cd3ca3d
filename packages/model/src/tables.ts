/** What APIs other than Istio's say of who may call a workload: each in a table of its own, all of which must allow. */
import type { AuthorizationTable } from '@weft/plan';
import { intentionTables } from './intentions.ts';
import { linkerdTables, type TableWorkload } from './linkerd-policy.ts';
import type { RefTable } from './refs.ts';
import type { Model, ProcessModel } from './types.ts';

export function tablesFor(
  model: Model,
  workload: TableWorkload,
  trustDomain: string,
  refs: RefTable,
): AuthorizationTable[] {
  return [...linkerdTables(model, workload, trustDomain, refs), ...intentionTables(model, workload, trustDomain, refs)];
}

/** A Process as what tables are made for. */
export function workloadOfProcess(p: ProcessModel): TableWorkload {
  const ports = p.ports.map((x) => ({ number: x.port, name: x.name }));
  return { workload: p.name, namespace: p.namespace, labels: p.labels, ports };
}
