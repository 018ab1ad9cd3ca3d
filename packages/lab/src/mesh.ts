/** A mesh to ask questions of: plans as the proxies would get them, from files or from a control plane. */
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { WeftError } from '@weft/base';
import { loadFiles, type Problem, type SourceFile } from '@weft/config';
import { buildSnapshot, type Snapshot } from '@weft/engine';
import {
  compile,
  compileEndpoints,
  findService,
  type Instance,
  injected,
  type MeshRuntime,
  type Model,
  parseRef,
  type Resource,
  serviceHost,
  serviceSelects,
} from '@weft/model';
import {
  CaptureMode,
  type Endpoints,
  EndpointsSchema,
  type Part,
  PartSchema,
  type Reference,
  ReferencesSchema,
} from '@weft/plan';
import type { RuleReference } from './types.ts';

/** One proxy's plan, compiled. */
export interface Side {
  readonly instance: string;
  readonly workload: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly address: string;
  /** It has a proxy; without one it sends and takes everything as it comes. */
  readonly injected: boolean;
  readonly snapshot: Snapshot;
  /** What the snapshot was made of. */
  readonly parts: readonly Part[];
}

export interface Backing {
  readonly name: string;
  readonly ready: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

export interface LabMesh {
  /** Every instance that has a plan here. */
  readonly instances: readonly { readonly name: string; readonly workload: string; readonly namespace: string }[];
  /** Undefined: its plan is not known. */
  side(instance: string): Side | undefined;
  reference(ref: string): RuleReference | undefined;
  /** Every rule that some proxy has in its plan, by ref; as far as plans are known. */
  rules(): ReadonlyMap<string, RuleReference>;
  /** Every policy and route that is written, whoever it is for; none where only plans are known. */
  readonly written: readonly RuleReference[];
  /** All that some proxy knows. */
  readonly endpoints: readonly Endpoints[];
  /** Every instance that the service of that host selects, ready or not. */
  backing(host: string): readonly Backing[];
  readonly trustDomain: string;
  /** Which part of a limit's total a replica has, of the limits that replicas share; undefined: it is not known. */
  rateShare?(ref: string, instance: string): number | undefined;
}

/** The mesh that `weft up` would start from these files. Throws WeftError `lab.config` with every problem. */
export function meshFromFiles(files: readonly SourceFile[]): LabMesh {
  const { model, problems } = loadFiles(files);
  if (model) return meshFromModel(model);
  const lines = problems.filter((p) => p.severity === 'error').map(problemLine);
  throw new WeftError('lab.config', `the configuration is refused:\n  ${lines.join('\n  ')}`);
}

function problemLine(p: Problem): string {
  return `${p.file}:${p.line}: ${p.message}`;
}

/** Every Process runs, with all its replicas ready; addresses are made up. */
export function meshFromModel(model: Model): LabMesh {
  return meshOf(model, {
    mesh: 'files',
    trustDomain: 'cluster.local',
    domain: model.domain,
    capture: 'transparent',
    instances: plannedInstances(model, []),
    vips: plannedVips(model, new Map()),
  });
}

/**
 * The mesh that runs, had it other files: what runs of a Process goes on with its addresses, and is as many as it is.
 * `running` is the mesh as it is, of which the trust domain and such settings of the run are taken.
 */
export function meshOverInstances(
  model: Model,
  instances: readonly Instance[],
  vips: ReadonlyMap<string, readonly string[]>,
  running: LabMesh,
): LabMesh {
  const self = running.instances.map((i) => running.side(i.name)?.snapshot.self).find((s) => s !== undefined);
  return meshOf(model, {
    mesh: 'files',
    trustDomain: running.trustDomain,
    domain: model.domain,
    capture: self?.capture === CaptureMode.EXPLICIT ? 'explicit' : 'transparent',
    instances: plannedInstances(model, instances),
    vips: plannedVips(model, vips),
  });
}

function plannedInstances(model: Model, running: readonly Instance[]): Instance[] {
  const instances: Instance[] = [];
  const names = new Set<string>();
  for (const p of model.processes) {
    const planned = {
      workload: p.name,
      namespace: p.namespace,
      serviceAccount: p.serviceAccountName,
      labels: p.labels,
      ports: p.ports.map((x) => ({ number: x.port, name: x.name, protocol: x.protocol })),
      injected: p.gateway !== undefined || injected(model, p).injected,
      gateway: p.gateway !== undefined,
    };
    const old = running.filter((i) => i.workload === p.name && i.namespace === p.namespace);
    for (const i of old) {
      names.add(i.name);
      // Who has a proxy is decided at its start.
      instances.push({ ...i, ...planned, injected: i.injected });
    }
    for (let i = old.length; i < (old.length > 0 ? 0 : p.replicas); i++) {
      const n = instances.length + 1;
      const address = `10.244.${n >> 8}.${n & 255}`;
      const name = names.has(`${p.name}-${i}`) ? `${p.namespace}.${p.name}-${i}` : `${p.name}-${i}`;
      names.add(name);
      instances.push({ ...planned, name, address, ready: true, draining: false, dialAddress: address });
    }
  }
  return instances;
}

function plannedVips(model: Model, known: ReadonlyMap<string, readonly string[]>): Map<string, readonly string[]> {
  const vips = new Map<string, readonly string[]>();
  for (const [i, s] of model.services.filter((x) => !x.headless).entries()) {
    const host = serviceHost(s, model.domain);
    vips.set(host, known.get(host) ?? [s.clusterIP ?? `240.240.${(i + 1) >> 8}.${(i + 1) & 255}`]);
  }
  return vips;
}

/** A mesh as its control plane has it. */
export function meshOf(model: Model, runtime: MeshRuntime): LabMesh {
  const endpoints = [...compileEndpoints(model, runtime).values()];
  const references = new Map<string, Reference>();
  const sides = new Map<string, Side>();
  const byName = new Map(runtime.instances.map((i) => [i.name, i]));
  const side = (name: string): Side | undefined => {
    const known = sides.get(name);
    const i = byName.get(name);
    if (known || !i) return known;
    const compiled = compile(model, runtime, i);
    for (const r of compiled.references) references.set(r.ref, r);
    const parts = [...compiled.parts.values()];
    const snapshot = buildSnapshot(parts, endpoints);
    const { workload, namespace, serviceAccount, address } = i;
    const made = {
      instance: name,
      workload,
      namespace,
      serviceAccount,
      address,
      injected: i.injected,
      snapshot,
      parts,
    };
    sides.set(name, made);
    return made;
  };
  return {
    instances: runtime.instances,
    trustDomain: runtime.trustDomain,
    side,
    rules() {
      // The replicas of a workload have one plan.
      for (const i of new Map(runtime.instances.map((x) => [`${x.namespace}/${x.workload}`, x.name])).values()) side(i);
      return ruleReferences(references);
    },
    written: writtenRules(model),
    endpoints,
    reference: (ref) => ruleReference(references, ref),
    backing: (host) => {
      const service = findService(model, host);
      return service ? runtime.instances.filter((i) => serviceSelects(service, i)) : [];
    },
  };
}

/** A plan as `GET /v1/plan/{name}` of the control plane's local API and the admin port give it. */
export interface PlanJson {
  readonly parts: readonly JsonValue[] | Readonly<Record<string, JsonValue>>;
  readonly endpoints: readonly JsonValue[] | Readonly<Record<string, JsonValue>>;
  readonly references: JsonValue;
}

export interface LiveInstance {
  readonly name: string;
  readonly workload: string;
  readonly namespace: string;
  readonly injected: boolean;
  readonly ready: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** Hosts of the services that select it. */
  readonly services: readonly string[];
}

/** Live state of an endpoint as one client's proxy sees it. `address`: `ip:port`. */
export interface EndpointHealth {
  readonly host: string;
  readonly port: number;
  readonly instance: string;
  readonly ejected: boolean;
  /** It fails its health checks. */
  readonly unhealthy?: boolean;
  readonly active: number;
}

/** How a rate limit that replicas share is divided now. */
export interface SharedLimitShares {
  /** Its ref. */
  readonly limit: string;
  readonly replicas: readonly { readonly name: string; readonly share: number }[];
}

/** A running mesh: the plans of the instances that matter, and what the caller's proxy knows of endpoints. */
export function meshFromPlans(
  plans: ReadonlyMap<string, PlanJson>,
  instances: readonly LiveInstance[],
  health: readonly EndpointHealth[] = [],
  limits: readonly SharedLimitShares[] = [],
): LabMesh {
  const references = new Map<string, Reference>();
  const sides = new Map<string, Side>();
  const sets = new Map<string, Endpoints>();
  let trustDomain = 'cluster.local';
  for (const [instance, plan] of plans) {
    const parts = values(plan.parts).map((json) => fromJson(PartSchema, json, { ignoreUnknownFields: true }) as Part);
    const endpoints = values(plan.endpoints).map((json) => fromJson(EndpointsSchema, json) as Endpoints);
    for (const e of endpoints) sets.set(`${e.host}:${e.port}`, e);
    const { entries } = fromJson(ReferencesSchema, plan.references, { ignoreUnknownFields: true });
    for (const r of entries) references.set(r.ref, r);
    const snapshot = buildSnapshot(parts, endpoints);
    const self = snapshot.self;
    if (!self) throw new WeftError('lab.plan', `the plan of ${instance} does not say who it is`);
    ({ trustDomain } = self);
    const { workload, namespace, serviceAccount, address } = self;
    const proxied = instances.find((i) => i.name === instance)?.injected ?? true;
    sides.set(instance, { instance, workload, namespace, serviceAccount, address, injected: proxied, snapshot, parts });
    applyHealth(snapshot, health);
  }
  return {
    instances,
    trustDomain,
    side: (name) => sides.get(name),
    rules: () => ruleReferences(references),
    written: [],
    endpoints: [...sets.values()],
    reference: (ref) => ruleReference(references, ref),
    backing: (host) => instances.filter((i) => i.services.includes(host)),
    rateShare: (ref, name) => limits.find((l) => l.limit === ref)?.replicas.find((r) => r.name === name)?.share,
  };
}

function values(list: readonly JsonValue[] | Readonly<Record<string, JsonValue>>): readonly JsonValue[] {
  return Array.isArray(list) ? (list as readonly JsonValue[]) : Object.values(list);
}

function applyHealth(snapshot: Snapshot, health: readonly EndpointHealth[]): void {
  const known = new Map(health.map((h) => [`${h.host} ${h.port} ${h.instance}`, h]));
  for (const { cluster, endpoints } of snapshot.clusters.values()) {
    for (const { endpoint, state } of endpoints) {
      const h = known.get(`${cluster.host} ${cluster.port} ${endpoint.instance}`);
      if (!h) continue;
      state.ejected = h.ejected && cluster.outlier !== undefined;
      state.unhealthy = h.unhealthy === true && cluster.healthCheck !== undefined;
      state.active = h.active;
    }
  }
}

function ruleReferences(table: ReadonlyMap<string, Reference>): Map<string, RuleReference> {
  return new Map([...table.keys()].map((ref) => [ref, ruleReference(table, ref) as RuleReference]));
}

function writtenRules(model: Model): RuleReference[] {
  const all: readonly Resource[] = [
    ...model.virtualServices,
    ...model.apiRoutes,
    ...model.destinationRules,
    ...model.gateways,
    ...model.backendTlsPolicies,
    ...model.backendPolicies,
    ...model.peerAuthentications,
    ...model.authorizationPolicies,
    ...model.requestAuthentications,
    ...model.tcpFaults,
    ...model.healthChecks,
    ...model.httpRateLimits,
    ...model.tcpRateLimits,
  ];
  return all.map((r) => ({
    resource: `${r.kind}/${r.namespace}/${r.name}`,
    field: '',
    file: r.source.file,
    line: r.source.line,
  }));
}

function ruleReference(table: ReadonlyMap<string, Reference>, ref: string): RuleReference | undefined {
  if (ref === '') return undefined;
  const known = table.get(ref);
  const { kind, namespace, name, field } = known ?? parseRef(ref) ?? { kind: '', namespace: '', name: ref, field: '' };
  const resource = kind ? `${kind}/${namespace}/${name}` : name;
  return { resource, field, file: known?.file ?? '', line: known?.line ?? 0 };
}

/** The instance that a question's `from` (or `to`) names. Throws WeftError `lab.from` (`lab.to`) with what there is. */
export function instanceNamed(mesh: LabMesh, from: string, which: 'from' | 'to' = 'from'): string {
  const slash = from.indexOf('/');
  const [namespace, name] = slash < 0 ? [undefined, from] : [from.slice(0, slash), from.slice(slash + 1)];
  const found = mesh.instances.filter(
    (i) => (namespace === undefined || i.namespace === namespace) && (i.workload === name || i.name === name),
  );
  const spaces = [...new Set(found.map((i) => i.namespace))];
  const all = [...new Set(mesh.instances.map((i) => `${i.namespace}/${i.workload}`))].sort();
  if (found.length === 0)
    throw new WeftError(`lab.${which}`, `no workload "${from}"; there are: ${all.join(', ') || 'none'}`);
  if (spaces.length > 1)
    throw new WeftError(
      `lab.${which}`,
      `"${from}" is in several namespaces (${spaces.join(', ')}): say namespace/${name}`,
    );
  return found[0].name;
}
