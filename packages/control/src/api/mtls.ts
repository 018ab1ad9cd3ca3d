/** What PeerAuthentication says of each workload's ports, and who was seen to call them: what STRICT would break. */
import { type Instance, injected, type Model, mtlsFor, type Resource } from '@weft/model';
import type { PlaintextSum, Traffic } from '../audit/traffic.ts';
import type { Mesh } from '../mesh.ts';

export interface MtlsPort {
  readonly port: number;
  readonly mode: 'DISABLE' | 'PERMISSIVE' | 'STRICT';
  /** `namespace/name` of the PeerAuthentication; empty: none, PERMISSIVE is the default. */
  readonly policy: string;
  /** `file:line` of it. */
  readonly where: string;
  /** `mesh`, `namespace`, `workload` or `port`; empty without a policy. */
  readonly level: string;
}

/** A caller without mTLS. */
export interface MtlsCaller {
  /** `namespace/workload`, or empty where nothing of the mesh has the address. */
  readonly source: string;
  readonly address: string;
  /** Whether it has a proxy; undefined where nothing is known of it. */
  readonly injected: boolean | undefined;
  readonly port: number;
  /** What was let in, and what STRICT refused. */
  readonly requests: number;
  readonly refused: number;
  /** Wall milliseconds; 0: never. */
  readonly firstMs: number;
  readonly lastMs: number;
  readonly lastRefusedMs: number;
}

export interface MtlsWorkload {
  readonly namespace: string;
  readonly workload: string;
  readonly instances: number;
  readonly injected: boolean;
  /** Why it has no proxy. */
  readonly reason: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly MtlsPort[];
  readonly plaintext: readonly MtlsCaller[];
  /** Callers that proved who they are. */
  readonly verified: readonly { readonly principal: string; readonly requests: number; readonly lastMs: number }[];
}

export interface MtlsState {
  readonly sinceMs: number;
  readonly workloads: readonly MtlsWorkload[];
  /** Calls that are not in it, past the limits. */
  readonly dropped: number;
}

/** `namespace` empty: all of them. */
export function mtlsState(mesh: Mesh, traffic: Traffic, sinceMs: number, namespace: string): MtlsState {
  const { plaintext, calls, dropped } = traffic.since(sinceMs);
  const all = mesh.instances();
  const byWorkload = new Map<string, Instance[]>();
  for (const i of all) {
    if ((namespace !== '' && i.namespace !== namespace) || i.gateway) continue;
    const key = `${i.namespace}/${i.workload}`;
    byWorkload.set(key, [...(byWorkload.get(key) ?? []), i]);
  }
  const workloads = [...byWorkload]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, instances]): MtlsWorkload => {
      const one = instances[0]!;
      const own = (c: { namespace: string; workload: string }): boolean => `${c.namespace}/${c.workload}` === key;
      const verified = new Map<string, { principal: string; requests: number; lastMs: number }>();
      for (const call of calls) {
        if (call.principal === '' || !own(call)) continue;
        const { principal, requests, lastMs } = call;
        const sum = verified.get(principal);
        if (!sum) verified.set(principal, { principal, requests, lastMs });
        else {
          sum.requests += requests;
          sum.lastMs = Math.max(sum.lastMs, lastMs);
        }
      }
      return {
        namespace: one.namespace,
        workload: one.workload,
        instances: instances.length,
        injected: instances.every((i) => i.injected),
        reason: instances.every((i) => i.injected) ? '' : whyNot(mesh.model, one),
        labels: one.labels,
        ports: mesh.model ? portsOf(mesh.model, one) : [],
        plaintext: callersOf(plaintext.filter(own), all),
        verified: [...verified.values()],
      };
    });
  return { sinceMs, workloads, dropped };
}

function whyNot(model: Model | undefined, instance: Instance): string {
  const process = model?.processes.find((p) => p.namespace === instance.namespace && p.name === instance.workload);
  if (!model || !process) return 'it was started without one';
  const decision = injected(model, process);
  return decision.injected ? 'it left the mesh, or was not restarted since its labels changed' : decision.reason;
}

function portsOf(model: Model, instance: Instance): MtlsPort[] {
  return instance.ports.map(({ number }) => {
    const { mode, policy, field } = mtlsFor(model, instance, number);
    if (!policy) return { port: number, mode, policy: '', where: '', level: '' };
    const selects = policy.selector !== undefined && Object.keys(policy.selector).length > 0;
    const mesh = policy.namespace === model.rootNamespace;
    const level = field.startsWith('spec.portLevelMtls') ? 'port' : selects ? 'workload' : mesh ? 'mesh' : 'namespace';
    return { port: number, mode, policy: `${policy.namespace}/${policy.name}`, where: whereOf(policy), level };
  });
}

const whereOf = ({ source }: Resource): string => `${source.file}:${source.line}`;

/** Callers are told apart by workload where one is known, else by address; and by port. */
function callersOf(rows: readonly PlaintextSum[], instances: readonly Instance[]): MtlsCaller[] {
  type Sum = { -readonly [K in keyof MtlsCaller]: MtlsCaller[K] };
  const sums = new Map<string, Sum>();
  for (const row of rows) {
    const source = row.source === '' ? '' : `${row.sourceNamespace}/${row.source}`;
    const key = JSON.stringify([source || row.address, row.port]);
    let sum = sums.get(key);
    if (!sum) {
      const known = instances.find((i) => `${i.namespace}/${i.workload}` === source);
      sum = {
        ...{ source, address: row.address, injected: known?.injected, port: row.port },
        ...{ requests: 0, refused: 0, firstMs: row.firstMs, lastMs: 0, lastRefusedMs: 0 },
      };
      sums.set(key, sum);
    }
    sum.firstMs = Math.min(sum.firstMs, row.firstMs);
    if (row.refused) {
      sum.refused += row.requests;
      sum.lastRefusedMs = Math.max(sum.lastRefusedMs, row.lastMs);
    } else {
      sum.requests += row.requests;
      sum.lastMs = Math.max(sum.lastMs, row.lastMs);
    }
  }
  return [...sums.values()].sort((a, b) => b.requests + b.refused - a.requests - a.refused);
}
