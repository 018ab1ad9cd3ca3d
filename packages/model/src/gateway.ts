/** What a gateway workload serves: its ports, their certificates, and the routes of each host. */
import { create } from '@bufbuild/protobuf';
import {
  ClientCertificate,
  type GatewayListener,
  GatewayListenerSchema,
  type GatewayServer,
  GatewayServerSchema,
  type GatewayTls,
  GatewayTlsSchema,
  type HttpRoute,
  HttpRouteSchema,
  Protocol,
  RedirectSchema,
  type Secret,
  SecretSchema,
  secretName,
  type TcpRoute,
  type TlsRoute,
  type VirtualHost,
  VirtualHostSchema,
} from '@weft/plan';
import { attaches, listenerNames, rankedRoutes } from './api-routes.ts';
import { credentialsOf } from './clusters.ts';
import type { Compilation } from './compilation.ts';
import {
  tcpRoute,
  tlsRoutes as tlsRoutesOf,
  virtualServiceTcpRoutes,
  virtualServiceTlsRoutes,
} from './connection-routes.ts';
import { commonHost, isSeenFrom, labelsMatch, resolveHost, serviceSelects } from './hosts.ts';
import { httpRoute, virtualServiceRoutes } from './http-routes.ts';
import { targetPortOn } from './inbound-ports.ts';
import { meshConfigOf, TLS_VERSIONS } from './mesh-config.ts';
import type { RefTable } from './refs.ts';
import type { AuthorityModel, GatewayModel, GatewayServerModel, GatewayTlsMode, SecretModel } from './types/gateway.ts';
import type { ApiRouteModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { VirtualServiceModel } from './types/route.ts';
import type { Instance } from './types/runtime.ts';

/** `namespace/name`, by which VirtualServices name a Gateway. */
export function gatewayName(gateway: Pick<GatewayModel, 'namespace' | 'name'>): string {
  return `${gateway.namespace}/${gateway.name}`;
}

/** The Gateways that a gateway workload serves, in file order. */
export function gatewaysOf(model: Model, workload: Pick<Instance, 'namespace' | 'labels'>): GatewayModel[] {
  return model.gateways.filter((g) => servesGateway(g, workload));
}

/** Whether a gateway workload is one of those that a Gateway selects. */
export function servesGateway(gateway: GatewayModel, workload: Pick<Instance, 'namespace' | 'labels'>): boolean {
  if (gateway.gatewayApi && gateway.namespace !== workload.namespace) return false;
  return labelsMatch(gateway.selector, workload.labels);
}

/**
 * Where a gateway workload listens for a port of a Gateway: at the targetPort of the first Service that selects the
 * workload and has this port, as on Kubernetes; at the port itself where no Service has it.
 */
export function listeningPort(
  model: Model,
  workload: Pick<Instance, 'namespace' | 'labels' | 'ports'>,
  port: number,
): number {
  for (const service of model.services) {
    if (!serviceSelects(service, workload)) continue;
    for (const p of service.ports) {
      if (p.port !== port || p.transport !== 'TCP') continue;
      const target = targetPortOn(p, workload);
      if (target !== undefined) return target;
    }
  }
  return port;
}

/** Hosts that a VirtualService has on a server, in the order of the VirtualService's. */
export function boundHosts(model: Model, server: GatewayServerModel, vs: VirtualServiceModel): string[] {
  const out = new Set<string>();
  for (const written of vs.hosts) {
    const host = resolveHost(written, vs.namespace, model.domain);
    for (const own of server.hosts) {
      if (own.namespace !== '*' && own.namespace !== vs.namespace) continue;
      const common = commonHost(own.host, host);
      if (common !== undefined) out.add(common);
    }
  }
  return [...out];
}

/** Whether a server ends the TLS of strangers, with a certificate of its own. */
export function endsTls(server: GatewayServerModel): boolean {
  return server.tls !== undefined && server.tls.mode !== 'PASSTHROUGH' && server.tls.mode !== 'ISTIO_MUTUAL';
}

/** What a server takes; servers of one port take the same, since nothing else tells their connections apart. */
export function serverKind(server: GatewayServerModel): 'TLS' | 'ISTIO_MUTUAL' | 'TCP' | 'HTTP' {
  if (server.tls?.mode === 'ISTIO_MUTUAL') return 'ISTIO_MUTUAL';
  if (server.tls) return 'TLS';
  return server.opaque ? 'TCP' : 'HTTP';
}

/**
 * Whether workloads of the mesh reach a port of a gateway workload by their own mTLS, which proves who they are. Not
 * where the gateway ends its visitors' TLS: that is between the application and the gateway.
 */
export function meshReaches(
  model: Model,
  workload: Pick<Instance, 'namespace' | 'labels' | 'ports'>,
  port: number,
): boolean {
  const servers = gatewaysOf(model, workload)
    .flatMap((g) => g.servers)
    .filter((s) => listeningPort(model, workload, s.port) === port);
  return servers.length > 0 && !servers.some(endsTls);
}

export function compileGateway(
  c: Compilation,
  instance: Instance,
): { listeners: GatewayListener[]; secrets: Map<string, Secret> } {
  const { model, refs } = c;
  const listeners = new Map<number, GatewayListener>();
  const secrets = new Map<string, Secret>();
  for (const gateway of gatewaysOf(model, instance)) {
    for (const server of gateway.servers) {
      const port = listeningPort(model, instance, server.port);
      let listener = listeners.get(port);
      if (!listener) listeners.set(port, (listener = create(GatewayListenerSchema, { port })));
      const made = create(GatewayServerSchema, {
        ref: refs.use(gateway, server.field),
        protocol: declared(server),
        meshOnly: server.tls?.mode === 'ISTIO_MUTUAL',
      });
      if (!server.opaque) made.virtualHosts = virtualHosts(c, instance, gateway, server);
      else Object.assign(made, opaqueRoutes(c, instance, gateway, server));
      if (serverKind(server) !== 'TLS') {
        mergePlain(listener, made);
        continue;
      }
      made.hosts = [...new Set(server.hosts.map((h) => h.host))];
      if (endsTls(server)) {
        if (!server.opaque) made.protocol = Protocol.UNSPECIFIED;
        const { pairs, authority } = certificatesOf(c, instance.namespace, gateway, server, secrets);
        made.tls = tlsOf(model, server, pairs, authority);
      } else made.protocol = Protocol.TLS;
      listener.servers.push(made);
    }
  }
  for (const listener of listeners.values())
    for (const server of listener.servers) for (const host of server.virtualHosts) host.http = catchAllLast(host.http);
  for (const name of credentialsOf(model, instance).keys()) {
    const credential = credentialPart(model, name, instance.namespace, refs);
    if (!credential) continue;
    hold(secrets, credential);
  }
  return { listeners: [...listeners.values()].sort((a, b) => a.port - b.port), secrets };
}

function declared(server: GatewayServerModel): Protocol {
  if (server.opaque) return Protocol.TCP;
  if (server.grpcWeb) return Protocol.GRPC_WEB;
  return server.http2 ? Protocol.HTTP2 : Protocol.HTTP;
}

/** Plaintext servers of one port are one: nothing but the host tells them apart. */
function mergePlain(listener: GatewayListener, server: GatewayServer): void {
  const plain = listener.servers.find((s) => !s.tls && s.protocol !== Protocol.TLS);
  if (!plain) {
    listener.servers.push(server);
    return;
  }
  // What one of them says holds where all say it.
  if (server.protocol !== plain.protocol) plain.protocol = Protocol.HTTP;
  // The first route takes every connection.
  if (plain.tcp.length === 0) plain.tcp.push(...server.tcp);
  for (const host of server.virtualHosts) {
    const same = plain.virtualHosts.find((h) => h.host === host.host);
    if (same) same.http.push(...host.http);
    else plain.virtualHosts.push(host);
  }
}

/** Routes of a server that carries connections: one for all, or by the names that TLS clients ask for. */
function opaqueRoutes(
  c: Compilation,
  client: Instance,
  gateway: GatewayModel,
  server: GatewayServerModel,
): { tcp: TcpRoute[]; tlsRoutes: TlsRoute[] } {
  const { model } = c;
  const tcp: TcpRoute[] = [];
  const tlsRoutes: TlsRoute[] = [];
  const { port } = server;
  if (gateway.gatewayApi) {
    for (const from of model.apiRoutes) {
      if (!from.parents.some((p) => attaches(model, from, p, gateway, server))) continue;
      if (from.tcp.length > 0 && tcp.length === 0) tcp.push(tcpRoute(c, from, from.tcp[0], port));
      const names = listenerNames(server, from);
      if (names.length === 0) continue;
      for (const route of from.tls) {
        const match = route.match.map((m) => ({ ...m, sniHosts: names }));
        tlsRoutes.push(...tlsRoutesOf(c, from, route, match, port));
      }
    }
    return { tcp, tlsRoutes };
  }
  const name = gatewayName(gateway);
  for (const vs of model.virtualServices) {
    if (!vs.gateways.includes(name) || !isSeenFrom(vs, client.namespace)) continue;
    const bound = boundHosts(model, server, vs);
    if (bound.length === 0) continue;
    if (server.tls?.mode !== 'PASSTHROUGH') {
      if (tcp.length === 0) tcp.push(...virtualServiceTcpRoutes(c, client, vs, name, port));
      continue;
    }
    for (const route of virtualServiceTlsRoutes(c, client, vs, name, port)) {
      // Names that another server or nobody has are not this one's to route.
      route.sniHosts = route.sniHosts.flatMap((sni) => bound.flatMap((host) => commonHost(host, sni) ?? []));
      if (route.sniHosts.length > 0) tlsRoutes.push(route);
    }
  }
  return { tcp, tlsRoutes };
}

/** Routes of several VirtualServices for one host stand together; one without a match would hide those behind it. */
function catchAllLast(routes: HttpRoute[]): HttpRoute[] {
  return [...routes.filter((r) => r.match.length > 0), ...routes.filter((r) => r.match.length === 0)];
}

function virtualHosts(
  c: Compilation,
  client: Instance,
  gateway: GatewayModel,
  server: GatewayServerModel,
): VirtualHost[] {
  if (server.httpsRedirect) {
    const hosts = [...new Set(server.hosts.map((h) => h.host))];
    const http = () => [redirectRoute(gateway, server, c.refs)];
    return hosts.map((host) => create(VirtualHostSchema, { host, http: http() }));
  }
  if (gateway.gatewayApi) return listenerHosts(c, gateway, server);
  const found = new Map<string, HttpRoute[]>();
  const name = gatewayName(gateway);
  for (const vs of c.model.virtualServices) {
    if (!vs.gateways.includes(name) || !isSeenFrom(vs, client.namespace)) continue;
    for (const host of boundHosts(c.model, server, vs)) {
      const routes = virtualServiceRoutes(c, client, vs, name, server.port);
      const there = found.get(host);
      if (there) there.push(...routes);
      else found.set(host, routes);
    }
  }
  return [...found].map(([host, http]) => create(VirtualHostSchema, { host, http }));
}

/** Of a listener of the Gateway API. Its own name has an entry even without a route: no wider listener answers for it. */
function listenerHosts(c: Compilation, gateway: GatewayModel, server: GatewayServerModel): VirtualHost[] {
  const { model } = c;
  const found = new Map<string, ApiRouteModel[]>(server.hosts.map((h) => [h.host, []]));
  for (const route of model.apiRoutes) {
    if (!route.parents.some((p) => attaches(model, route, p, gateway, server))) continue;
    for (const host of listenerNames(server, route)) {
      const there = found.get(host);
      if (there) there.push(route);
      else found.set(host, [route]);
    }
  }
  return [...found].map(([host, routes]) => {
    const http = rankedRoutes(routes, server.port).map(({ from, route }) =>
      httpRoute(c, from, route, route.match, { ms: 0, ref: '' }, server.port),
    );
    return create(VirtualHostSchema, { host, http });
  });
}

/** 301 to https, at the port where this Gateway has it. */
function redirectRoute(gateway: GatewayModel, server: GatewayServerModel, refs: RefTable): HttpRoute {
  const secure = gateway.servers.filter((s) => s.tls).map((s) => s.port);
  const port = secure.length === 0 || secure.includes(443) ? 443 : secure[0];
  return create(HttpRouteSchema, {
    ref: refs.use(gateway, `${server.field}.tls.httpsRedirect`),
    name: 'https-redirect',
    redirect: create(RedirectSchema, { scheme: 'https', code: 301, port }),
  });
}

const CLIENTS: Partial<Record<GatewayTlsMode, ClientCertificate>> = {
  MUTUAL: ClientCertificate.REQUIRED,
  OPTIONAL_MUTUAL: ClientCertificate.OPTIONAL,
};

/** What a server says of its own goes before the mesh's settings. */
function tlsOf(model: Model, server: GatewayServerModel, pairs: readonly string[], authority: string): GatewayTls {
  const tls = server.tls!;
  const defaults = meshConfigOf(model)?.tlsDefaults;
  // A server that ends at 1.2 does not begin above it.
  const unsaid = tls.minVersion === 'TLS_AUTO' && tls.maxVersion !== 'TLSV1_2';
  return create(GatewayTlsSchema, {
    secret: pairs[0],
    moreSecrets: pairs.slice(1),
    authority,
    minVersion: TLS_VERSIONS[unsaid && defaults ? defaults.minVersion : tls.minVersion],
    maxVersion: TLS_VERSIONS[tls.maxVersion],
    cipherSuites: [...(tls.cipherSuites.length > 0 ? tls.cipherSuites : (defaults?.cipherSuites ?? []))],
    curves: [...(defaults?.curves ?? [])],
    clientCertificate: CLIENTS[tls.mode] ?? ClientCertificate.UNSPECIFIED,
    subjectAltNames: [...tls.subjectAltNames],
    certificateHashes: [...tls.certificateHashes],
    keyHashes: [...tls.keyHashes],
  });
}

/** One Secret may serve several purposes, each of which needs a part of it. */
function hold(secrets: Map<string, Secret>, part: Secret): void {
  const same = secrets.get(part.name);
  if (!same) secrets.set(part.name, part);
  else {
    if (same.keyPem === '') Object.assign(same, { certificatePem: part.certificatePem, keyPem: part.keyPem });
    if (same.caPem === '') Object.assign(same, { caPem: part.caPem, crlPem: part.crlPem });
  }
}

/** Names of the parts that a server's TLS is made of, for a workload of `namespace`. What is there goes to `secrets`. */
function certificatesOf(
  { model, refs }: Compilation,
  namespace: string,
  gateway: GatewayModel,
  server: GatewayServerModel,
  secrets: Map<string, Secret>,
): { pairs: string[]; authority: string } {
  const { credentials, files } = server.tls!;
  // Files have no name of their own: that of the server, which no Secret can have.
  const own = `secret/${gatewayName(gateway)}#${server.field}`;
  const pairs = files.map(({ field, certificatePem, keyPem }, i) => {
    const name = i === 0 ? own : `${own}.${i}`;
    hold(secrets, create(SecretSchema, { ref: refs.use(gateway, field), name, certificatePem, keyPem }));
    return name;
  });
  for (const credential of credentials) {
    const place = credential.namespace || namespace;
    const name = secretName(place, credential.name);
    pairs.push(name);
    const found = model.secrets.find((s) => s.name === credential.name && s.namespace === place);
    if (!found) continue;
    const { certificatePem, keyPem } = found;
    hold(secrets, create(SecretSchema, { ref: refs.use(found), name, certificatePem, keyPem }));
  }
  const judge = clientAuthority(model, server, namespace);
  const { authorities } = server.tls!;
  // Somebody who is named and not here is nobody: the server's own Secret does not stand in.
  if (!judge) return { pairs, authority: authorities.length > 0 ? `${own}.ca` : '' };
  const { secret, caPem, crlPem } = judge;
  const authority = secret ? secretName(secret.namespace, secret.name) : `${own}.ca`;
  const field = authorities[0]?.field ?? `${server.field}.tls.caCertificates`;
  const ref = secret ? refs.use(secret) : refs.use(gateway, field);
  hold(secrets, create(SecretSchema, { ref, name: authority, caPem, crlPem }));
  return { pairs, authority };
}

/** Who judges the clients of a server. */
interface Judge {
  /** Undefined: files, ConfigMaps or several Secrets. */
  readonly secret: SecretModel | undefined;
  readonly caPem: string;
  readonly crlPem: string;
}

/**
 * Who signs clients' certificates, and what of that is revoked: files, those who are named for it (all of them must be
 * there), or `<name>-cacert` or the Secret itself of the first credential. Undefined: nobody is asked, or nobody is known.
 */
export function clientAuthority(model: Model, server: GatewayServerModel, namespace: string): Judge | undefined {
  const { credentials, authorities, caPem, crlPem, mode } = server.tls!;
  if (mode !== 'MUTUAL' && mode !== 'OPTIONAL_MUTUAL') return undefined;
  if (caPem !== '') return { secret: undefined, caPem, crlPem };
  if (authorities.length > 0) {
    const found = authorities.map((authority) => authorityOf(model, authority, namespace));
    if (!found.every((judge) => judge !== undefined)) return undefined;
    if (found.length === 1) return found[0];
    const lines = (of: (judge: Judge) => string): string => found.map(of).filter(Boolean).join('\n');
    return { secret: undefined, caPem: lines((j) => j.caPem), crlPem: lines((j) => j.crlPem) };
  }
  const [first] = credentials;
  if (!first) return undefined;
  return (
    authorityOf(model, { ...first, kind: 'Secret', name: `${first.name}-cacert` }, namespace) ??
    authorityOf(model, { ...first, kind: 'Secret' }, namespace)
  );
}

/** `namespace`: the gateway workload's. Undefined: there is none of the name, or it has no CA. */
export function authorityOf(model: Model, { kind, name, ...of }: AuthorityModel, namespace: string): Judge | undefined {
  const place = of.namespace || namespace;
  const here = (r: { name: string; namespace: string }): boolean => r.name === name && r.namespace === place;
  const secret = kind === 'Secret' ? model.secrets.find(here) : undefined;
  const found = secret ?? (kind === 'ConfigMap' ? model.configMaps.find(here) : undefined);
  return found && found.caPem !== '' ? { secret, caPem: found.caPem, crlPem: secret?.crlPem ?? '' } : undefined;
}

/** What a gateway begins TLS with: a certificate, a CA, or both. */
function credentialPart(model: Model, name: string, namespace: string, refs: RefTable): Secret | undefined {
  const find = (n: string) => model.secrets.find((s) => s.name === n && s.namespace === namespace);
  const own = find(name);
  const authority = find(`${name}-cacert`) ?? own;
  const from = own ?? authority;
  if (!from) return undefined;
  return create(SecretSchema, {
    ref: refs.use(from),
    name: secretName(namespace, name),
    certificatePem: own?.certificatePem ?? '',
    keyPem: own?.keyPem ?? '',
    caPem: authority?.caPem ?? '',
    crlPem: authority?.crlPem ?? '',
  });
}
