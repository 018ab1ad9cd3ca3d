/** What APIs other than Istio's say of who may call a workload: each in a table of its own, all of which must allow. */
import type { AuthorizationTable } from '@weft/plan';
import { byEveryName, trustDomainNames } from './authz.ts';
import { intentionTables } from './intentions.ts';
import { linkerdTables, type TableWorkload } from './linkerd-policy.ts';
import type { RefTable } from './refs.ts';
import type { Model } from './types/model.ts';
import type { ProcessModel } from './types/process.ts';

export function tablesFor(
  model: Model,
  workload: TableWorkload,
  trustDomain: string,
  refs: RefTable,
): AuthorizationTable[] {
  const tables = [
    ...linkerdTables(model, workload, trustDomain, refs),
    ...intentionTables(model, workload, trustDomain, refs),
  ];
  const names = trustDomainNames(model, trustDomain);
  // Rows may share a source.
  for (const source of new Set(tables.flatMap((t) => t.rows).flatMap((row) => row.from)))
    source.principals = byEveryName(source.principals, names);
  return tables;
}

/** A Process as what tables are made for. */
export function workloadOfProcess(p: ProcessModel): TableWorkload {
  const ports = p.ports.map((x) => ({ number: x.port, name: x.name }));
  return { workload: p.name, namespace: p.namespace, labels: p.labels, ports };
}
