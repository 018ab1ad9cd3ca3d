/** What differs between the plans of two meshes: for each workload, and what several have in common is said once. */
import { type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf';
import { EndpointSchema, type Endpoints, type Part, PartSchema, WORKLOADS_HOST } from '@weft/plan';
import type { LabMesh } from '../mesh.ts';
import type { RuleReference } from '../types.ts';
import { changesOf } from './structure.ts';

export type Subject =
  | 'workload'
  | 'tls'
  | 'service'
  | 'cluster'
  | 'endpoints'
  | 'inbound'
  | 'authorization'
  | 'gateway';

export interface DecisionChange {
  readonly subject: Subject;
  /** A host, a cluster, a port; of authorization empty: it is the workloads' own. */
  readonly name: string;
  /** Empty: as a whole. */
  readonly field: string;
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
  readonly references: { readonly before: RuleReference | undefined; readonly after: RuleReference | undefined };
  /** `namespace/name`, sorted: whose proxies decide otherwise. */
  readonly workloads: readonly string[];
}

export interface PlanDiff {
  readonly changes: readonly DecisionChange[];
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Names of the parts that differ, of each workload that both have: `service/<host>`, `cluster/<name>`, `authz` … */
  readonly touched: ReadonlyMap<string, ReadonlySet<string>>;
}

/** One instance of each workload: its replicas have one plan. */
export function workloadsOf(mesh: LabMesh): Map<string, string> {
  const out = new Map<string, string>();
  for (const i of mesh.instances) {
    const workload = `${i.namespace}/${i.workload}`;
    if (!out.has(workload)) out.set(workload, i.name);
  }
  return out;
}

/**
 * `unknown`: hosts whose endpoints one of the meshes could not look up; they are not compared. Throws WeftError `lab.plan`
 * where a plan is not known.
 */
export function diffPlans(before: LabMesh, after: LabMesh, unknown: ReadonlySet<string> = new Set()): PlanDiff {
  const old = workloadsOf(before);
  const now = workloadsOf(after);
  const touched = new Map<string, Set<string>>();
  const found = new Map<string, { change: Omit<DecisionChange, 'workloads'>; workloads: string[] }>();
  const endpoints = endpointChanges(before, after, unknown);
  for (const [workload, instance] of now) {
    const oldInstance = old.get(workload);
    if (oldInstance === undefined) continue;
    const a = partsOf(before, oldInstance);
    const b = partsOf(after, instance);
    const parts = new Set<string>();
    touched.set(workload, parts);
    for (const key of new Set([...a.keys(), ...b.keys()])) {
      const changes = changesOf(a.get(key), b.get(key));
      if (changes.length > 0) parts.add(key);
      for (const c of changes) note(key, c.field, c.before, c.after, c.refBefore, c.refAfter, workload);
    }
    const reached = new Set([...a.keys(), ...b.keys()].map(endpointsOf));
    for (const [key, changes] of endpoints) {
      if (!reached.has(key)) continue;
      parts.add(key);
      for (const c of changes) note(key, c.field, c.before, c.after, '', '', workload);
    }
  }
  function note(
    key: string,
    field: string,
    was: JsonValue | undefined,
    is: JsonValue | undefined,
    refBefore: string,
    refAfter: string,
    workload: string,
  ): void {
    const id = JSON.stringify([key, field, was ?? null, is ?? null, refBefore, refAfter]);
    const known = found.get(id);
    if (known) {
      known.workloads.push(workload);
      return;
    }
    const { subject, name } = subjectOf(key);
    const references = { before: before.reference(refBefore), after: after.reference(refAfter) };
    found.set(id, { change: { subject, name, field, before: was, after: is, references }, workloads: [workload] });
  }
  const changes = [...found.values()].map(({ change, workloads }) => ({ ...change, workloads: workloads.sort() }));
  return {
    changes: changes.sort((x, y) => order(x.subject, y.subject) || order(x.name, y.name)),
    added: [...now.keys()].filter((w) => !old.has(w)).sort(),
    removed: [...old.keys()].filter((w) => !now.has(w)).sort(),
    touched,
  };
}

/** `cluster/outbound|80|v1|pay.shop` → whose endpoints it has; '' for other parts. */
function endpointsOf(part: string): string {
  const [, port, , host] = part.startsWith('cluster/') ? part.split('|') : [];
  return host === undefined ? '' : `endpoints/${host}:${port}`;
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function subjectOf(key: string): { subject: Subject; name: string } {
  const slash = key.indexOf('/');
  const [kind, name] = slash < 0 ? [key, ''] : [key.slice(0, slash), key.slice(slash + 1)];
  if (kind === 'self') return { subject: 'workload', name };
  if (kind === 'authz') return { subject: 'authorization', name };
  return { subject: kind as Subject, name };
}

/** What is of one run of a mesh, or no decision. */
const OF_THE_RUN: Readonly<Record<string, readonly string[]>> = {
  self: ['mesh', 'instance', 'address', 'trustDomain', 'capture', 'drainMs', 'cluster', 'services'],
  inbound: ['dialAddress', 'dialPort'],
  service: ['addresses'],
};

/** Parts by resource name, as JSON. Whom to believe is no decision about a request, and keys are not shown. */
function partsOf(mesh: LabMesh, instance: string): Map<string, JsonValue> {
  const out = new Map<string, JsonValue>();
  for (const part of mesh.side(instance)?.parts ?? []) {
    const name = partName(part);
    if (name === undefined) continue;
    const json = toJson(PartSchema, part) as JsonObject;
    const value = json[part.kind.case!] as JsonObject;
    for (const field of OF_THE_RUN[part.kind.case!] ?? []) delete value[field];
    // Fetched while a mesh runs.
    for (const token of (value.tokens as JsonObject[] | undefined) ?? []) if (token.keySource) delete token.jwks;
    out.set(name, value);
  }
  return out;
}

function partName({ kind }: Part): string | undefined {
  switch (kind.case) {
    case 'self':
      return 'self';
    case 'tls':
      return 'tls';
    case 'authorization':
      return 'authz';
    case 'inbound':
      return `inbound/${kind.value.port}`;
    case 'gateway':
      return `gateway/${kind.value.port}`;
    case 'service':
      return `service/${kind.value.host}`;
    case 'cluster':
      return `cluster/${kind.value.name}`;
  }
  return undefined;
}

interface EndpointChange {
  readonly field: string;
  readonly before: JsonValue | undefined;
  readonly after: JsonValue | undefined;
}

/** `endpoints/<host>:<port>` → what changed in it. How many copies of a workload run is no rule. */
function endpointChanges(before: LabMesh, after: LabMesh, unknown: ReadonlySet<string>): Map<string, EndpointChange[]> {
  const old = endpointSets(before, unknown);
  const now = endpointSets(after, unknown);
  const out = new Map<string, EndpointChange[]>();
  for (const key of new Set([...old.keys(), ...now.keys()])) {
    const a = old.get(key);
    const b = now.get(key);
    const changes: EndpointChange[] = [];
    for (const name of new Set([...(a?.keys() ?? []), ...(b?.keys() ?? [])])) {
      for (const c of changesOf(a?.get(name), b?.get(name)))
        changes.push({ ...c, field: c.field === '' ? name : `${name}.${c.field}` });
    }
    if (changes.length > 0) out.set(key, changes);
  }
  return out;
}

function endpointSets(mesh: LabMesh, unknown: ReadonlySet<string>): Map<string, Map<string, JsonValue>> {
  const own = new Set(workloadsOf(mesh).keys());
  const out = new Map<string, Map<string, JsonValue>>();
  for (const set of mesh.endpoints) {
    if (set.host === WORKLOADS_HOST || unknown.has(set.host)) continue;
    out.set(`endpoints/${set.host}:${set.port}`, members(set, own));
  }
  return out;
}

/** By workload of the mesh, else by address. */
function members(set: Endpoints, own: ReadonlySet<string>): Map<string, JsonValue> {
  const out = new Map<string, JsonValue>();
  for (const e of set.endpoints) {
    const json = toJson(EndpointSchema, e) as JsonObject;
    const workload = `${e.namespace}/${e.workload}`;
    const name = own.has(workload) ? workload : `${e.address}:${e.port}`;
    for (const field of ['instance', 'address', 'secondAddress', 'draining', 'workload', 'namespace'])
      delete json[field];
    if (!out.has(name)) out.set(name, json);
  }
  return out;
}
