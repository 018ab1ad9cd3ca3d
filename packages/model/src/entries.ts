/** Endpoints that no platform tells of: those of ServiceEntries, and WorkloadEntries that a service selects. */
import { create } from '@bufbuild/protobuf';
import { type Endpoint, EndpointSchema } from '@weft/plan';
import { labelsMatch, spiffeId } from './hosts.ts';
import { canonicalName, canonicalRevision, label } from './labels.ts';
import { perModel } from './lookup.ts';
import type { Model } from './types/model.ts';
import type { MeshRuntime } from './types/runtime.ts';
import type { EntryEndpointModel, ExternalModel, ServiceModel, ServicePortModel } from './types/service.ts';

export function entryEndpoints(
  model: Model,
  runtime: MeshRuntime,
  service: ServiceModel,
  port: ServicePortModel,
): Endpoint[] {
  const { external, selector, namespace } = service;
  const made: Endpoint[] = [];
  const add = (name: string, e: EntryEndpointModel | undefined, address: string, identity = ''): void => {
    const labels = { ...e?.labels };
    const workload = { workload: name, labels };
    const fields = {
      instance: `${name}/${address}`,
      address,
      port: e?.ports.get(port.name) ?? (typeof port.targetPort === 'number' ? port.targetPort : port.port),
      identity,
      namespace,
      weight: e?.weight ?? 1,
      locality: e?.locality ?? '',
      canonicalService: canonicalName(workload),
      canonicalRevision: canonicalRevision(workload),
      version: label(labels, 'version') ?? '',
      app: label(labels, 'app') ?? '',
    };
    made.push(create(EndpointSchema, { ...workload, ...fields }));
  };
  for (const e of external?.endpoints ?? []) {
    for (const address of addressesOf(runtime, external, e.address)) add(service.name, e, address);
  }
  const own = external && ownName(service);
  if (own) for (const address of addressesOf(runtime, external, own)) add(service.name, undefined, address);
  const asked = `${service.namespace}/${service.name}`;
  for (const slice of (!external && !selector && slicesOf(model).get(asked)) || []) {
    const target = slice.ports.get(port.name);
    if (target === undefined) continue;
    for (const e of slice.endpoints) {
      if (!e.ready && !e.draining && !service.publishNotReadyAddresses) continue;
      for (const address of e.addresses) {
        const fields = { instance: `${slice.name}/${e.name || address}`, address, port: target, namespace, weight: 1 };
        const locality = e.zone === '' ? '' : `/${e.zone}`;
        made.push(create(EndpointSchema, { ...fields, workload: service.name, locality, draining: e.draining }));
      }
    }
  }
  if (selector && Object.keys(selector).length > 0) {
    for (const { namespace: where, name, endpoint: e } of model.workloadEntries) {
      if (where !== namespace || !labelsMatch(selector, e.labels)) continue;
      add(name, e, e.address, e.serviceAccount ? spiffeId(runtime.trustDomain, where, e.serviceAccount) : '');
    }
  }
  return made;
}

const slicesOf = perModel((model) => Map.groupBy(model.endpointSlices, (s) => `${s.namespace}/${s.service}`));

/** Without endpoints the host itself is asked for. A wildcard's calls go where the client says. */
function ownName({ external, selector }: ServiceModel): string | undefined {
  const asked = external && external.resolution !== 'STATIC' && external.endpoints.length === 0 && !selector;
  return asked && !external.host.startsWith('*') ? external.host : undefined;
}

/** A name that is not looked up for all is left to who dials it: each connection goes where it leads then. */
function addressesOf(runtime: MeshRuntime, external: ExternalModel | undefined, name: string): readonly string[] {
  return (external?.resolution === 'DNS' ? runtime.resolved?.get(name) : undefined) ?? [name];
}

/** Services by the names that have to be looked up for them. */
export function namesToResolve(model: Model): Map<string, ServiceModel[]> {
  const names = new Map<string, ServiceModel[]>();
  for (const service of model.services) {
    if (service.external?.resolution !== 'DNS') continue;
    const own = ownName(service);
    const asked = [...service.external.endpoints.map((e) => e.address), ...(own ? [own] : [])];
    for (const name of asked) {
      if (/^[0-9.]+$/.test(name) || name.includes(':')) continue;
      const list = names.get(name);
      if (list) list.push(service);
      else names.set(name, [service]);
    }
  }
  return names;
}
