/** What `weft audit report` tells: encryption, certificates, policies, denials and changes of a time. */
import { authorizationFor, type Instance, type Model, mtlsFor, RefTable, tablesFor } from '@weft/model';
import type { Change } from './changes.ts';
import type { CallSum, EdgeSum } from './traffic.ts';

export interface AuditSources {
  readonly nowMs: number;
  readonly sinceMs: number;
  readonly epoch: number;
  readonly model: Model | undefined;
  readonly instances: readonly Instance[];
  readonly traffic: { edges: EdgeSum[]; calls: CallSum[]; dropped: number };
  readonly certificates: readonly {
    instance: string;
    serial: string;
    notBeforeMs: number;
    notAfterMs: number;
  }[];
  readonly rootNotAfterMs: number;
  readonly changes: readonly Change[];
}

export type AuditReport = ReturnType<typeof auditReport>;

/** Pure. Times are wall milliseconds; shares are 0 to 1, null where nothing was seen. */
export function auditReport(s: AuditSources) {
  return {
    sinceMs: s.sinceMs,
    untilMs: s.nowMs,
    epoch: s.epoch,
    mtls: mtlsOf(s.traffic.edges),
    /** Requests that are in no row: past the limits of a day. */
    dropped: s.traffic.dropped,
    certificates: {
      rootEndsInMs: s.rootNotAfterMs - s.nowMs,
      workloads: s.certificates.map((c) => ({
        instance: c.instance,
        serial: c.serial,
        /** Null: its proxy is not connected, so what it holds is not known. */
        ageMs: c.notBeforeMs === 0 ? null : s.nowMs - c.notBeforeMs,
        endsInMs: c.notAfterMs === 0 ? null : c.notAfterMs - s.nowMs,
      })),
    },
    coverage: coverageOf(s.model, s.instances),
    denials: denialsOf(s.traffic.calls),
    changes: s.changes,
  };
}

function mtlsOf(edges: readonly EdgeSum[]) {
  // Both ends may tell of the same plaintext: the source's word counts.
  const told = edges.filter(
    (e) => e.reporter === 'source' || !edges.some((o) => o.reporter === 'source' && sameEdge(o, e)),
  );
  const under = told.filter((e) => e.mtls);
  const bytes = (list: readonly EdgeSum[]) => list.reduce((n, e) => n + e.bytes, 0);
  const share = (part: number, whole: number) => (whole === 0 ? null : part / whole);
  return {
    edges: told.length,
    edgesUnderMtls: under.length,
    edgeShare: share(under.length, told.length),
    bytes: bytes(told),
    bytesUnderMtls: bytes(under),
    byteShare: share(bytes(under), bytes(told)),
    exceptions: told
      .filter((e) => !e.mtls)
      .sort((a, b) => b.requests - a.requests)
      .map(({ source, sourceNamespace, destination, requests, bytes: carried, lastMs }) => ({
        ...{ source, sourceNamespace, destination, requests, bytes: carried, lastMs },
      })),
  };
}

function sameEdge(a: EdgeSum, b: EdgeSum): boolean {
  return (
    a.source === b.source &&
    a.sourceNamespace === b.sourceNamespace &&
    a.destination === b.destination &&
    a.mtls === b.mtls
  );
}

function coverageOf(model: Model | undefined, instances: readonly Instance[]) {
  const workloads = Map.groupBy(instances, (i) => `${i.namespace}/${i.workload}`);
  return [...workloads].sort(byKey).map(([workload, [instance]]) => {
    const policies: { policy: string; kind: string; action: string; dryRun: boolean }[] =
      model && instance.injected
        ? authorizationFor(model, instance).map((p) => ({
            policy: `${p.namespace}/${p.name}`,
            kind: p.kind,
            action: p.action,
            dryRun: p.dryRun,
          }))
        : [];
    // What Linkerd's policy or Consul's intentions say; the trust domain does not change for whom.
    const tables = model && instance.injected ? tablesFor(model, instance, model.domain, new RefTable(model)) : [];
    for (const t of tables) {
      const [kind] = t.ref.split('/');
      policies.push({ policy: `${t.namespace}/${t.name}`, kind, action: 'TABLE', dryRun: false });
    }
    return {
      workload,
      proxy: instance.injected,
      /** Whether callers may be refused: a policy that is more than an observer. */
      covered: policies.some((p) => !p.dryRun && p.action !== 'AUDIT'),
      policies,
      mtls: instance.ports.map((p) => ({
        port: p.number,
        mode: model && instance.injected ? mtlsFor(model, instance, p.number).mode : 'DISABLE',
      })),
    };
  });
}

function denialsOf(calls: readonly CallSum[]) {
  return calls
    .filter((c) => c.denied)
    .sort((a, b) => b.requests - a.requests)
    .map(({ namespace, workload, principal, source, port, method, path, policy, ref, requests, firstMs, lastMs }) => ({
      workload: `${namespace}/${workload}`,
      ...{ principal, source, port, method, path, policy, rule: ref, requests, firstMs, lastMs },
    }));
}

function byKey(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}
