/** Endpoints of every service port: not part of an epoch, and the same for every client. */
import { create } from '@bufbuild/protobuf';
import {
  EndpointSchema,
  type Endpoints,
  EndpointsSchema,
  endpointsName,
  WORKLOADS_HOST,
  workloadName,
} from '@weft/plan';
import { localityOf } from './balancing.ts';
import { entryEndpoints } from './entries.ts';
import { meshReaches } from './gateway.ts';
import { serviceHost, spiffeId } from './hosts.ts';
import { mtlsFor } from './inbound.ts';
import { targetPortOn } from './inbound-ports.ts';
import { canonicalName, canonicalRevision, label } from './labels.ts';
import { servicesSelecting } from './lookup.ts';
import type { Model } from './types/model.ts';
import type { Instance, MeshRuntime } from './types/runtime.ts';
import type { ServiceModel } from './types/service.ts';

export const MESH_PORT = 15008;

/** All that compileServiceEndpoints and compileWorkload give. */
export function compileEndpoints(model: Model, runtime: MeshRuntime): Map<string, Endpoints> {
  const out = compileServiceEndpoints(model, runtime, model.services);
  for (const instance of runtime.instances) {
    const workload = compileWorkload(instance);
    if (workload) out.set(workloadName(instance.name), workload);
  }
  return out;
}

/**
 * Every TCP port of every service has an entry, with the ready instances behind it (`publishNotReadyAddresses` adds the
 * others); an empty one says that nothing is there. Keys are resource names: `endpoints/<host>:<service port>`.
 */
export function compileServiceEndpoints(
  model: Model,
  runtime: MeshRuntime,
  services: Iterable<ServiceModel>,
): Map<string, Endpoints> {
  const out = new Map<string, Endpoints>();
  const behind = new Map<ServiceModel, Instance[]>();
  for (const service of services) behind.set(service, []);
  for (const instance of runtime.instances) {
    for (const service of servicesSelecting(model, instance)) {
      if (instance.ready || service.publishNotReadyAddresses) behind.get(service)?.push(instance);
    }
  }
  for (const [service, instances] of behind) {
    const host = serviceHost(service, runtime.domain);
    const unit = instances.some((i) => (i.weight ?? 1) !== 1) ? UNEVEN : 1;
    const backing = instances.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    for (const port of service.ports) {
      if (port.transport !== 'TCP') continue;
      const endpoints = backing.flatMap((i) => {
        const [address, secondAddress] = addressesOf(i, service);
        const target = targetPortOn(port, i);
        if (target === undefined) return [];
        const dialPort = i.ports.find((p) => p.number === target)?.dialPort ?? target;
        return [
          create(EndpointSchema, {
            instance: i.name,
            address,
            secondAddress,
            port: i.injected ? target : dialPort,
            meshPort: i.injected && (!i.gateway || meshReaches(model, i, target)) ? MESH_PORT : 0,
            identity: spiffeId(runtime.trustDomain, i.namespace, i.serviceAccount),
            labels: { ...i.labels },
            workload: i.workload,
            namespace: i.namespace,
            canonicalService: canonicalName(i),
            canonicalRevision: canonicalRevision(i),
            version: label(i.labels, 'version') ?? '',
            app: label(i.labels, 'app') ?? '',
            weight: wholeWeight(i.weight ?? 1, unit),
            locality: localityOf(i.labels),
            network: i.network ?? runtime.network ?? '',
            draining: i.draining,
            // What a PeerAuthentication says is for workloads; a gateway's servers say themselves what they take.
            mtlsDisabled: !i.gateway && mtlsFor(model, i, target).mode === 'DISABLE',
          }),
        ];
      });
      for (const e of entryEndpoints(model, runtime, service, port)) {
        e.weight = wholeWeight(e.weight, unit);
        endpoints.push(e);
      }
      const key = endpointsName(host, port.port);
      out.set(key, create(EndpointsSchema, { host, port: port.port, endpoints }));
    }
  }
  return out;
}

/** Weights of endpoints are whole numbers: with uneven shares each is so many times as large. */
const UNEVEN = 1000;

function wholeWeight(weight: number, unit: number): number {
  return unit === 1 ? weight : Math.max(1, Math.round(weight * unit));
}

/** The one of the service's preferred family first. */
function addressesOf(i: Instance, service: ServiceModel): [address: string, second: string] {
  // Without a proxy nothing listens at the workload's address for it: dial the application itself.
  const address = i.injected ? i.address : i.dialAddress;
  const other = i.address6 ?? '';
  return service.families?.[0] === 6 && other !== '' ? [other, address] : [address, other];
}

/** A workload with a proxy, ready or not, by which other proxies know who calls them without mTLS. */
export function compileWorkload(i: Instance): Endpoints | undefined {
  if (!i.injected) return undefined;
  const endpoint = create(EndpointSchema, {
    instance: i.name,
    address: i.address,
    secondAddress: i.address6 ?? '',
    workload: i.workload,
    namespace: i.namespace,
    canonicalService: canonicalName(i),
    canonicalRevision: canonicalRevision(i),
    version: label(i.labels, 'version') ?? '',
    app: label(i.labels, 'app') ?? '',
  });
  return create(EndpointsSchema, { host: WORKLOADS_HOST, port: 0, endpoints: [endpoint] });
}
