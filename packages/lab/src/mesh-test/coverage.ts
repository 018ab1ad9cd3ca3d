/** Which rules, matches and policies the tests of a mesh had a part of. */
import { type CompiledSplit, compileHttpRoutes } from '@weft/engine';
import type { LabMesh } from '../mesh.ts';
import type { RuleReference } from '../types.ts';

export interface Coverage {
  /** In the order of files and lines. */
  readonly rules: readonly CoveredRule[];
  readonly covered: number;
}

export interface CoveredRule extends RuleReference {
  readonly covered: boolean;
  /** Why no test can cover it as things are; '' where one can. */
  readonly because: string;
}

/** They are what rules are about, no rules themselves. */
const NO_RULES = new Set([
  'Service',
  'ServiceEntry',
  'WorkloadEntry',
  'Process',
  'Secret',
  'ConfigMap',
  'ServiceAccount',
]);

/** `touched`: refs of rules that had a say in some test. */
export function coverageOf(mesh: LabMesh, touched: ReadonlySet<string>): Coverage {
  const { asleep, servers } = plansOf(mesh);
  const rules = new Map<string, CoveredRule>();
  const planned = new Set<string>();
  const touchedResources = new Set([...touched].map((ref) => ref.split('#', 1)[0]));
  for (const [ref, rule] of mesh.rules()) {
    planned.add(rule.resource);
    const annotation = rule.field.startsWith('metadata.annotations');
    const kind = rule.resource.split('/', 1)[0];
    if ((NO_RULES.has(kind) && !annotation) || asleep.has(ref)) continue;
    // Plaintext servers of one port are one: it has the first one's name.
    if (kind === 'Gateway' && /^spec\.(servers|listeners)\[\d+\]$/.test(rule.field) && !servers.has(ref)) continue;
    const covered = rule.field === '' ? touchedResources.has(ref) : touched.has(ref);
    rules.set(ref, { ...rule, covered, because: '' });
  }
  for (const rule of mesh.written) {
    if (planned.has(rule.resource)) continue;
    rules.set(rule.resource, { ...rule, covered: false, because: 'no proxy has it: it holds for nobody' });
  }
  const list = [...rules.values()].sort(
    (a, b) =>
      compare(a.file, b.file) || a.line - b.line || compare(a.resource, b.resource) || compare(a.field, b.field),
  );
  return { rules: list, covered: list.filter((r) => r.covered).length };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Of all plans: destinations that get nothing at all, which nobody can test, and servers of gateways. */
function plansOf(mesh: LabMesh): { asleep: Set<string>; servers: Set<string> } {
  const servers = new Set<string>();
  const none = new Set<string>();
  const some = new Set<string>();
  const look = ({ destinations, cumulative }: CompiledSplit): void => {
    for (const [i, d] of destinations.entries()) {
      const weight = cumulative[i] - (cumulative[i - 1] ?? 0);
      (weight > 0 ? some : none).add(d.ref);
    }
  };
  // The replicas of a workload have one plan.
  for (const name of new Map(mesh.instances.map((i) => [`${i.namespace}/${i.workload}`, i.name])).values()) {
    const snapshot = mesh.side(name)?.snapshot;
    if (!snapshot) continue;
    for (const service of snapshot.services.values()) {
      for (const port of service.ports.values()) {
        for (const r of [...port.http, ...port.tcp, ...port.tls]) look(r.split);
      }
    }
    for (const { listener } of snapshot.gateways.values()) {
      for (const { ref } of listener.servers) servers.add(ref);
      for (const { http } of listener.servers.flatMap((s) => s.virtualHosts)) {
        for (const r of compileHttpRoutes(http).http) look(r.split);
      }
    }
  }
  for (const ref of some) none.delete(ref);
  return { asleep: none, servers };
}
