/**
 * Which routes of the Gateway API hold where. Their rules are those of VirtualServices from there on: see routes.ts.
 *
 * On a service they go before a VirtualService. A route in the service's own namespace (producer) holds for all clients;
 * one in another namespace (consumer) holds for clients of that namespace alone, and there in place of the producer's.
 */
import { commonHost, labelsMatch, serviceHost } from './hosts.ts';
import { findService, perModel } from './lookup.ts';
import type { GatewayModel, GatewayServerModel } from './types/gateway.ts';
import type { ApiRouteModel, RouteParentModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { HttpRouteModel } from './types/route.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

/** Routes by the service that they are attached to, in the model's order. */
const routesByService = perModel((model): ReadonlyMap<ServiceModel, ReadonlySet<ApiRouteModel>> => {
  const table = new Map<ServiceModel, Set<ApiRouteModel>>();
  for (const route of model.apiRoutes) {
    for (const parent of route.parents) {
      const service = parent.kind === 'Service' ? findService(model, serviceHost(parent, model.domain)) : undefined;
      if (!service) continue;
      const there = table.get(service);
      if (there) there.add(route);
      else table.set(service, new Set([route]));
    }
  }
  return table;
});

/** Whether a parent of kind Service means this port of it. */
export function meansPort(parent: RouteParentModel, service: ServiceModel, port: ServicePortModel): boolean {
  if (parent.kind !== 'Service' || parent.name !== service.name || parent.namespace !== service.namespace) return false;
  if (parent.port !== 0 && parent.port !== port.port) return false;
  return parent.sectionName === '' || parent.sectionName === port.name;
}

/** The routes of a service port for clients of a namespace, oldest first. Empty: none is attached. */
export function routesOfService(
  model: Model,
  client: { readonly namespace: string },
  service: ServiceModel,
  port: ServicePortModel,
  what: 'http' | 'tcp' | 'tls',
): ApiRouteModel[] {
  const all = [...(routesByService(model).get(service) ?? [])].filter(
    (r) => r[what].length > 0 && r.parents.some((p) => meansPort(p, service, port)),
  );
  const consumers = all.filter((r) => r.namespace === client.namespace);
  return consumers.length > 0 ? consumers : all.filter((r) => r.namespace === service.namespace);
}

/**
 * The matches of several routes for one host, the most specific first. `port`: the listener's or service's, to which a
 * redirect goes that names neither a port nor a scheme.
 */
export function rankedRoutes(
  routes: readonly ApiRouteModel[],
  port: number,
): { from: ApiRouteModel; route: HttpRouteModel }[] {
  const list = routes.flatMap((from) => from.http.map(({ rank, route }) => ({ from, rank, route })));
  // Sorting is stable: among equals the older route stands first, and within it the earlier rule.
  list.sort((a, b) => compareRanks(a.rank, b.rank));
  return list.map(({ from, route }) => {
    const { redirect } = route;
    if (redirect?.port !== 0) return { from, route };
    return { from, route: { ...route, redirect: { ...redirect, port } } };
  });
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  const i = a.findIndex((n, k) => n !== b[k]);
  return i < 0 ? 0 : (b[i] ?? 0) - a[i];
}

/** Whether a listener takes a route by this parent; hostnames are looked at by listenerNames. */
export function attaches(
  model: Model,
  route: ApiRouteModel,
  parent: RouteParentModel,
  gateway: GatewayModel,
  server: GatewayServerModel,
): boolean {
  return meansListener(parent, gateway, server) && allows(model, route, gateway, server);
}

/** Whether a parent of kind Gateway names this listener. */
export function meansListener(parent: RouteParentModel, gateway: GatewayModel, server: GatewayServerModel): boolean {
  if (parent.kind !== 'Gateway' || !gateway.gatewayApi) return false;
  if (parent.name !== gateway.name || parent.namespace !== gateway.namespace) return false;
  if (parent.port !== 0 && parent.port !== server.port) return false;
  return parent.sectionName === '' || parent.sectionName === server.portName;
}

/** Whether a listener lets the kind and namespace of a route in. */
export function allows(model: Model, route: ApiRouteModel, gateway: GatewayModel, server: GatewayServerModel): boolean {
  const allowed = server.allowedRoutes;
  if (!allowed?.kinds.includes(route.kind)) return false;
  const { from } = allowed;
  if (from === 'All') return true;
  if (from === 'Same') return route.namespace === gateway.namespace;
  const namespace = model.namespaces.find((n) => n.name === route.namespace);
  // Kubernetes gives every namespace this label.
  return labelsMatch(from, { ...namespace?.labels, 'kubernetes.io/metadata.name': route.namespace });
}

/** The hosts that a route has on a listener: what both have in common. */
export function listenerNames(server: GatewayServerModel, route: ApiRouteModel): string[] {
  const own = server.hosts.map((h) => h.host);
  if (route.hostnames.length === 0) return own;
  const out = new Set<string>();
  for (const a of own)
    for (const b of route.hostnames) {
      const host = commonHost(a, b);
      if (host !== undefined) out.add(host);
    }
  return [...out];
}

/** Whether a ReferenceGrant lets a resource of the Gateway API name something in another namespace. */
export function isGranted(
  model: Model,
  from: { readonly kind: string; readonly namespace: string },
  to: { readonly kind: 'Service' | 'Secret' | 'ConfigMap'; readonly namespace: string; readonly name: string },
): boolean {
  if (from.namespace === to.namespace) return true;
  return model.referenceGrants.some(
    (g) =>
      g.namespace === to.namespace &&
      g.from.some(
        (f) => f.group === 'gateway.networking.k8s.io' && f.kind === from.kind && f.namespace === from.namespace,
      ) &&
      g.to.some((t) => t.group === '' && t.kind === to.kind && (t.name === '' || t.name === to.name)),
  );
}
