/** Endpoints of every service port: not part of an epoch, and the same for every client. */
import { create } from '@bufbuild/protobuf';
import { EndpointSchema, type Endpoints, EndpointsSchema, endpointsName, WORKLOADS_HOST } from '@weft/plan';
import { localityOf } from './balancing.ts';
import { serviceHost, serviceSelects, spiffeId } from './hosts.ts';
import { mtlsFor, targetPortOn } from './inbound.ts';
import { canonicalName, canonicalRevision, label } from './labels.ts';
import type { MeshRuntime, Model } from './types.ts';

export const MESH_PORT = 15008;

/**
 * Every TCP port of every service has an entry, with the ready instances behind it (`publishNotReadyAddresses` adds the
 * others); an empty one says that nothing is there. Keys are resource names: `endpoints/<host>:<service port>`. One more
 * has every workload with a proxy, ready or not, by which a proxy knows who calls it without mTLS.
 */
export function compileEndpoints(model: Model, runtime: MeshRuntime): Map<string, Endpoints> {
  const out = new Map<string, Endpoints>();
  for (const service of model.services) {
    const host = serviceHost(service, runtime.domain);
    const backing = runtime.instances
      .filter((i) => serviceSelects(service, i) && (i.ready || service.publishNotReadyAddresses))
      .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    for (const port of service.ports) {
      if (port.transport !== 'TCP') continue;
      const endpoints = backing.flatMap((i) => {
        const target = targetPortOn(port, i);
        if (target === undefined) return [];
        const dialPort = i.ports.find((p) => p.number === target)?.dialPort ?? target;
        return [
          create(EndpointSchema, {
            instance: i.name,
            // Without a proxy nothing listens at the workload's address for it: dial the application itself.
            address: i.injected ? i.address : i.dialAddress,
            port: i.injected ? target : dialPort,
            // A gateway takes what comes from outside: it has no mesh port.
            meshPort: i.injected && !i.gateway ? MESH_PORT : 0,
            identity: spiffeId(runtime.trustDomain, i.namespace, i.serviceAccount),
            labels: { ...i.labels },
            workload: i.workload,
            namespace: i.namespace,
            canonicalService: canonicalName(i),
            canonicalRevision: canonicalRevision(i),
            version: label(i.labels, 'version') ?? '',
            app: label(i.labels, 'app') ?? '',
            weight: 1,
            locality: localityOf(i.labels),
            draining: i.draining,
            mtlsDisabled: mtlsFor(model, i, target).mode === 'DISABLE',
          }),
        ];
      });
      const key = endpointsName(host, port.port);
      out.set(key, create(EndpointsSchema, { host, port: port.port, endpoints }));
    }
  }
  const workloads = runtime.instances
    .filter((i) => i.injected)
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map((i) =>
      create(EndpointSchema, {
        instance: i.name,
        address: i.address,
        workload: i.workload,
        namespace: i.namespace,
        canonicalService: canonicalName(i),
        canonicalRevision: canonicalRevision(i),
        version: label(i.labels, 'version') ?? '',
        app: label(i.labels, 'app') ?? '',
      }),
    );
  out.set(
    endpointsName(WORKLOADS_HOST, 0),
    create(EndpointsSchema, { host: WORKLOADS_HOST, port: 0, endpoints: workloads }),
  );
  return out;
}
