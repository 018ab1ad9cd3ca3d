/** Tables over one model, made when first asked for: whoever compiles a mesh looks up every host of it, often. */
import type { Client } from './clusters.ts';
import { hostCovers, hostSpecificity, isSeenFrom, resolveHost, serviceHost, serviceSelects } from './hosts.ts';
import type { DestinationRuleModel } from './types/destination-rule.ts';
import type { Model } from './types/model.ts';
import type { ProcessModel } from './types/process.ts';
import { MESH_GATEWAY, type VirtualServiceModel } from './types/route.ts';
import type { Instance } from './types/runtime.ts';
import type { ServiceModel } from './types/service.ts';

/** Values by host pattern: exact ones by table, wildcards one after the other. In the order in which they were added. */
export class HostTable<T> {
  readonly #exact = new Map<string, T[]>();
  readonly #wild: { readonly pattern: string; readonly value: T }[] = [];

  add(pattern: string, value: T): void {
    if (pattern.includes('*')) this.#wild.push({ pattern, value });
    else {
      const list = this.#exact.get(pattern);
      if (list) list.push(value);
      else this.#exact.set(pattern, [value]);
    }
  }

  /** Every value whose pattern covers the host, with how specific the pattern is (hostSpecificity). */
  *covering(host: string): Generator<{ readonly value: T; readonly specificity: number }> {
    for (const value of this.#exact.get(host) ?? []) yield { value, specificity: hostSpecificity(host) };
    for (const { pattern, value } of this.#wild) {
      if (hostCovers(pattern, host)) yield { value, specificity: hostSpecificity(pattern) };
    }
  }
}

/** A table over a model, made when first asked for. */
export function perModel<T>(make: (model: Model) => T): (model: Model) => T {
  const made = new WeakMap<Model, T>();
  return (model) => {
    let value = made.get(model);
    if (value === undefined) made.set(model, (value = make(model)));
    return value;
  };
}

const servicesByHost = perModel((model): ReadonlyMap<string, ServiceModel> => {
  const table = new Map<string, ServiceModel>();
  for (const service of model.services) {
    const host = serviceHost(service, model.domain);
    if (!table.has(host)) table.set(host, service);
  }
  return table;
});

/** By its full name, or by a wildcard of a ServiceEntry that covers it, the narrowest first. */
export function findService(model: Model, host: string): ServiceModel | undefined {
  const table = servicesByHost(model);
  const exact = table.get(host);
  if (exact) return exact;
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
    const wildcard = table.get(`*${host.slice(dot)}`);
    if (wildcard) return wildcard;
  }
  return undefined;
}

/** Services of type ExternalName by the service that they are another name of. */
export const aliasesOf = perModel((model): ReadonlyMap<string, readonly ServiceModel[]> => {
  const host = (s: ServiceModel): string => resolveHost(s.externalName ?? '', s.namespace, model.domain);
  return Map.groupBy(model.serviceAliases, host);
});

/** VirtualServices that hold inside the mesh, by host, in file order. */
export const meshVirtualServices = perModel((model): HostTable<VirtualServiceModel> => {
  const table = new HostTable<VirtualServiceModel>();
  for (const vs of model.virtualServices) {
    if (!vs.gateways.includes(MESH_GATEWAY)) continue;
    for (const host of vs.hosts) table.add(resolveHost(host, vs.namespace, model.domain), vs);
  }
  return table;
});

/** DestinationRules by their namespace, then host, in file order. */
export const rulesByNamespace = perModel((model): ReadonlyMap<string, HostTable<DestinationRuleModel>> => {
  const table = new Map<string, HostTable<DestinationRuleModel>>();
  for (const rule of model.destinationRules) {
    let own = table.get(rule.namespace);
    if (!own) table.set(rule.namespace, (own = new HostTable()));
    own.add(resolveHost(rule.host, rule.namespace, model.domain), rule);
  }
  return table;
});

const processesByName = perModel((model) => new Map(model.processes.map((p) => [`${p.namespace}/${p.name}`, p])));

/** The Process that an instance runs; undefined where none declares it (`weft run`, other platforms). */
export function processOf(model: Model, instance: Pick<Instance, 'namespace' | 'workload'>): ProcessModel | undefined {
  return processesByName(model).get(`${instance.namespace}/${instance.workload}`);
}

/** Label keys that some rule asks of its callers: two clients that differ in none of them get the same rules. */
export const callerLabels = perModel((model): readonly string[] => {
  const keys = new Set<string>();
  const add = (labels: Readonly<Record<string, string>> | undefined): void => {
    for (const key of Object.keys(labels ?? {})) keys.add(key);
  };
  for (const vs of model.virtualServices) {
    for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) for (const m of route.match) add(m.sourceLabels);
  }
  for (const rule of model.destinationRules) add(rule.workloadSelector);
  for (const sidecar of model.sidecars) add(sidecar.workloadSelector);
  return [...keys].sort();
});

/** Services by one `namespace|key=value` of their selector: what may select a workload is found by its labels. */
const servicesBySelector = perModel((model): ReadonlyMap<string, readonly ServiceModel[]> => {
  const table = new Map<string, ServiceModel[]>();
  for (const service of model.services) {
    const pair = Object.entries(service.selector ?? {})[0];
    if (!pair) continue;
    const key = `${service.namespace}|${pair[0]}=${pair[1]}`;
    const list = table.get(key);
    if (list) list.push(service);
    else table.set(key, [service]);
  }
  return table;
});

/** The services that select a workload, in file order. */
export function servicesSelecting(model: Model, workload: Pick<Instance, 'namespace' | 'labels'>): ServiceModel[] {
  const table = servicesBySelector(model);
  const found = Object.entries(workload.labels)
    .flatMap(([key, value]) => table.get(`${workload.namespace}|${key}=${value}`) ?? [])
    .filter((service) => serviceSelects(service, workload));
  const order = orderOfServices(model);
  return found.sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
}

/** Where a service stands in the model. */
export const orderOfServices = perModel((model) => new Map(model.services.map((s, i) => [s, i])));

/** The VirtualService that a client sees for a service: the most specific host, the first in file order among equals. */
export function virtualServiceFor(
  model: Model,
  service: ServiceModel,
  client: Pick<Client, 'namespace'>,
): VirtualServiceModel | undefined {
  let best: VirtualServiceModel | undefined;
  let bestScore = -1;
  for (const { value, specificity } of meshVirtualServices(model).covering(serviceHost(service, model.domain))) {
    if (specificity <= bestScore || !isSeenFrom(value, client.namespace)) continue;
    best = value;
    bestScore = specificity;
  }
  return best;
}
