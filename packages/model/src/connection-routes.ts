/** TCP and TLS routes of one service port for one client. */
import { create } from '@bufbuild/protobuf';
import { type TcpRoute, TcpRouteSchema, type TlsRoute, TlsRouteSchema } from '@weft/plan';
import { routesOfService } from './api-routes.ts';
import type { Client } from './clusters.ts';
import type { Compilation } from './compilation.ts';
import { virtualServiceFor } from './lookup.ts';
import { ownCluster, weighted } from './route-destinations.ts';
import { appliesTo, matchesFor } from './route-match.ts';
import type { Resource } from './types/resource.ts';
import { MESH_GATEWAY, type TcpRouteModel, type TlsRouteModel, type VirtualServiceModel } from './types/route.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

export function compileTcpRoutes(
  c: Compilation,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
): TcpRoute[] {
  for (const from of routesOfService(c.model, client, service, port, 'tcp')) {
    return [tcpRoute(c, from, from.tcp[0], port.port)];
  }
  const vs = virtualServiceFor(c.model, service, client);
  const routes = vs ? virtualServiceTcpRoutes(c, client, vs, MESH_GATEWAY, port.port) : [];
  if (routes.at(-1)?.destinationSubnets.length === 0) return routes;
  const clusters = [ownCluster(c, service, port)];
  routes.push(create(TcpRouteSchema, { ref: c.refs.use(service, port.field), clusters }));
  return routes;
}

/** The TCP routes of a VirtualService for this client on one of its gateways and port, up to one that takes all. */
export function virtualServiceTcpRoutes(
  c: Compilation,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
): TcpRoute[] {
  const routes: TcpRoute[] = [];
  for (const route of vs.tcp) {
    const match = matchesFor(route.match, client, gateway, port);
    if (!match) continue;
    const made = tcpRoute(c, vs, route, port);
    routes.push(made);
    // What was dialled is known where it was captured; at a gateway it is the gateway.
    if (match.length === 0 || gateway !== MESH_GATEWAY) return routes;
    if (match.some((m) => m.destinationSubnets.length === 0)) return routes;
    made.destinationSubnets = match.flatMap((m) => m.destinationSubnets);
  }
  return routes;
}

export function tcpRoute(c: Compilation, from: Resource, route: TcpRouteModel, port: number): TcpRoute {
  const clusters = route.route.map((d) => weighted(c, from, d, port));
  return create(TcpRouteSchema, { ref: c.refs.use(from, route.field), clusters });
}

/** Of the ports that may carry the application's own TLS. */
export function compileTlsRoutes(
  c: Compilation,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
): TlsRoute[] {
  if (port.protocol !== 'tls' && port.protocol !== 'tcp' && port.protocol !== 'detect') return [];
  const routes: TlsRoute[] = [];
  for (const from of routesOfService(c.model, client, service, port, 'tls'))
    for (const route of from.tls) routes.push(...tlsRoutes(c, from, route, route.match, port.port));
  if (routes.length > 0) return routes;
  const vs = virtualServiceFor(c.model, service, client);
  return vs ? virtualServiceTlsRoutes(c, client, vs, MESH_GATEWAY, port.port) : [];
}

/** The TLS routes of a VirtualService that hold for this client on one of its gateways and port. */
export function virtualServiceTlsRoutes(
  c: Compilation,
  client: Client,
  vs: VirtualServiceModel,
  gateway: string,
  port: number,
): TlsRoute[] {
  return vs.tls.flatMap((route) => {
    const match = route.match.filter((m) => appliesTo(m, client, gateway, port));
    // What was dialled is known where it was captured; at a gateway it is the gateway.
    const here = gateway === MESH_GATEWAY ? match : match.map((m) => ({ ...m, destinationSubnets: [] }));
    return tlsRoutes(c, vs, route, here, port);
  });
}

/** One entry for all names of matches that ask for no address, and one for each match that does. */
export function tlsRoutes(
  c: Compilation,
  from: Resource,
  route: TlsRouteModel,
  match: TlsRouteModel['match'],
  port: number,
): TlsRoute[] {
  if (match.length === 0) return [];
  const clusters = route.route.map((d) => weighted(c, from, d, port));
  const ref = c.refs.use(from, route.field);
  const routes: TlsRoute[] = [];
  const add = (names: readonly string[], destinationSubnets: string[]): void => {
    const sniHosts = names.map((h) => h.toLowerCase());
    routes.push(create(TlsRouteSchema, { ref, sniHosts, clusters, destinationSubnets }));
  };
  const anywhere = match.filter((m) => m.destinationSubnets.length === 0).flatMap((m) => m.sniHosts);
  for (const m of match) if (m.destinationSubnets.length > 0) add(m.sniHosts, [...m.destinationSubnets]);
  if (anywhere.length > 0) add(anywhere, []);
  return routes;
}
