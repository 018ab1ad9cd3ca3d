/** Which server of a gateway port, and which of its virtual hosts, serves a connection and a request. */
import { type GatewayListener, type GatewayServer, Protocol, type VirtualHost } from '@weft/plan';
import { canonicalAuthority } from './canonical.ts';
import {
  type CompiledHttpRoutes,
  type CompiledTcpRoute,
  type CompiledTlsRoute,
  compileHttpRoutes,
  compileTcpRoute,
  compileTlsRoutes,
} from './compile.ts';
import type { ClusterView, RouteView, TcpRouteView } from './views.ts';

/** A table of hosts: exact ones first, then `*.suffix` with the longest suffix, then `*`. The first of a host has it. */
export class HostTable<T> {
  readonly #exact = new Map<string, T>();
  /** By `.suffix`. */
  readonly #suffixes = new Map<string, T>();
  #any: T | undefined;

  add(host: string, value: T): void {
    const name = host.toLowerCase();
    if (name === '*') this.#any ??= value;
    else if (!name.startsWith('*')) {
      if (!this.#exact.has(name)) this.#exact.set(name, value);
    } else if (!this.#suffixes.has(name.slice(1))) this.#suffixes.set(name.slice(1), value);
  }

  /** `host` in lower case; '' finds only `*`. */
  find(host: string): T | undefined {
    const exact = this.#exact.get(host);
    if (exact !== undefined || this.#suffixes.size === 0) return exact ?? this.#any;
    for (let dot = host.indexOf('.', 1); dot >= 0; dot = host.indexOf('.', dot + 1)) {
      const found = this.#suffixes.get(host.slice(dot));
      if (found !== undefined) return found;
    }
    return this.#any;
  }
}

export interface GatewayServerView {
  readonly server: GatewayServer;
  readonly hosts: HostTable<RouteView>;
  /** Of opaque connections; undefined where it carries requests. */
  readonly opaque: TcpRouteView | undefined;
}

export interface GatewayPortView {
  readonly listener: GatewayListener;
  /** By the server's ref. */
  readonly servers: ReadonlyMap<string, GatewayServerView>;
  /** The one that holds all that comes without TLS; undefined: the ClientHello chooses. */
  readonly plain: GatewayServerView | undefined;
  /** Of servers with TLS, by server name. */
  readonly names: HostTable<GatewayServerView>;
}

const NO_ROUTES: CompiledHttpRoutes = { http: [], index: undefined };

interface CompiledServer {
  readonly hosts: ReadonlyMap<VirtualHost, CompiledHttpRoutes>;
  readonly tcp: readonly CompiledTcpRoute[];
  readonly tls: readonly CompiledTlsRoute[];
}

/** What of a listener does not depend on other parts, by server. */
export type CompiledGateway = ReadonlyMap<GatewayServer, CompiledServer>;

export function compileGatewayListener(listener: GatewayListener): CompiledGateway {
  const out = new Map<GatewayServer, CompiledServer>();
  for (const server of listener.servers) {
    const hosts = new Map(server.virtualHosts.map((host) => [host, compileHttpRoutes(host.http)]));
    out.set(server, { hosts, tcp: server.tcp.map(compileTcpRoute), tls: compileTlsRoutes(server.tlsRoutes) });
  }
  return out;
}

/** TLS is what a server's connections begin with, ended by it or not. */
function choosesByName(server: GatewayServer): boolean {
  return server.tls !== undefined || server.protocol === Protocol.TLS;
}

export function gatewayPortView(
  listener: GatewayListener,
  compiled: CompiledGateway,
  clusters: ReadonlyMap<string, ClusterView>,
): GatewayPortView {
  const servers = new Map<string, GatewayServerView>();
  const names = new HostTable<GatewayServerView>();
  let plain: GatewayServerView | undefined;
  for (const server of listener.servers) {
    const parts = compiled.get(server);
    const hosts = new HostTable<RouteView>();
    for (const host of server.virtualHosts)
      hosts.add(host.host, { ...(parts?.hosts.get(host) ?? NO_ROUTES), clusters, pinned: undefined, host: host.host });
    const carriesBytes = server.protocol === Protocol.TCP || server.protocol === Protocol.TLS;
    const opaque = carriesBytes
      ? { host: '', tcp: parts?.tcp ?? [], tls: parts?.tls ?? [], clusters, pinned: undefined }
      : undefined;
    const view = { server, hosts, opaque };
    servers.set(server.ref, view);
    if (choosesByName(server)) for (const host of server.hosts) names.add(host, view);
    else plain ??= view;
  }
  return { listener, servers, plain, names };
}

/** The server for a ClientHello; '' where it names none. Undefined: nobody's, the connection is not answered. */
export function findGatewayServer(port: GatewayPortView, serverName: string): GatewayServerView | undefined {
  const name = serverName.toLowerCase();
  return port.names.find(name.endsWith('.') ? name.slice(0, -1) : name);
}

/** The routes for a request's authority, whatever port that names; '' (HTTP/1.0 has none) finds only `*`. */
export function findVirtualHost(server: GatewayServerView, authority: string): RouteView | undefined {
  return server.hosts.find(authority === '' ? '' : (canonicalAuthority(authority)?.host ?? ''));
}
