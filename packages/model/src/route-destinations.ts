/** The clusters that routes lead to, and what is done to headers on the way. */
import { create } from '@bufbuild/protobuf';
import {
  type HeaderOperations,
  HeaderOperationsSchema,
  type Mirror,
  MirrorSchema,
  outboundClusterName,
  type WeightedCluster,
  WeightedClusterSchema,
} from '@weft/plan';
import type { Compilation } from './compilation.ts';
import { resolveHost, serviceHost } from './hosts.ts';
import { findService } from './lookup.ts';
import type { Resource } from './types/resource.ts';
import type { DestinationModel, HeaderOperationsModel, MirrorModel } from './types/route.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

export function ownCluster(c: Compilation, service: ServiceModel, port: ServicePortModel): WeightedCluster {
  const cluster = outboundClusterName(port.port, '', serviceHost(service, c.domain));
  return create(WeightedClusterSchema, { ref: c.refs.use(service, port.field), cluster, weight: 100 });
}

export function weighted(c: Compilation, from: Resource, d: DestinationModel, listenerPort: number): WeightedCluster {
  return create(WeightedClusterSchema, {
    ref: c.refs.use(from, d.field),
    cluster: clusterOf(c, from, d, listenerPort),
    weight: d.weight,
    headers: headersOf(d.headers),
  });
}

export function mirrorOf(c: Compilation, from: Resource, m: MirrorModel, listenerPort: number): Mirror {
  return create(MirrorSchema, {
    ref: c.refs.use(from, m.field),
    cluster: clusterOf(c, from, m, listenerPort),
    percent: m.percent,
  });
}

function clusterOf(
  c: Compilation,
  from: Resource,
  d: { host: string; subset: string; port: number },
  listenerPort: number,
): string {
  const host = resolveHost(d.host, from.namespace, c.model.domain);
  const target = findService(c.model, host);
  const tcp = target?.ports.filter((p) => p.transport === 'TCP') ?? [];
  const port = d.port || (tcp.length === 1 ? tcp[0].port : listenerPort);
  return outboundClusterName(port, d.subset, target ? serviceHost(target, c.domain) : host);
}

export function headersOf(h: HeaderOperationsModel | undefined): HeaderOperations | undefined {
  if (!h) return undefined;
  const pairs = (list: readonly (readonly [string, string])[]) =>
    list.map(([name, value]) => ({ $typeName: 'weft.plan.v1.Header' as const, name, value }));
  return create(HeaderOperationsSchema, {
    requestSet: pairs(h.requestSet),
    requestAdd: pairs(h.requestAdd),
    requestRemove: [...h.requestRemove],
    responseSet: pairs(h.responseSet),
    responseAdd: pairs(h.responseAdd),
    responseRemove: [...h.responseRemove],
  });
}
