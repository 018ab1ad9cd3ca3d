/** Port 15014: the control plane's own metrics in Prometheus' text form, with istiod's names where they exist. */
import { createServer } from 'node:http';
import type { Authority } from '@weft/identity';
import type { CertificateIssuer } from './ca/service.ts';
import type { MeshTrust } from './ca/trust.ts';
import type { RateShares } from './collect/rate-shares.ts';
import type { Listen } from './config.ts';
import type { Hosts } from './hosts/registry.ts';
import type { Mesh } from './mesh.ts';
import type { ProxyState, Pusher } from './push/pusher.ts';
import type { RpcServer } from './rpc.ts';

export interface MetricsSources {
  mesh: Mesh;
  pusher: Pusher;
  issuer: CertificateIssuer;
  authority: Authority;
  trust: MeshTrust;
  rpc: RpcServer;
  rates: RateShares;
  hosts: Hosts;
}

const STATES: ProxyState[] = ['SYNCED', 'STALE', 'NOT SENT', 'ERROR', 'DISCONNECTED'];

export function renderMetrics(sources: MetricsSources): string {
  const { mesh, pusher, issuer, authority, trust, rpc, rates, hosts } = sources;
  const lines: string[] = [];
  const add = (name: string, type: string, help: string, samples: [labels: string, value: number][]) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) lines.push(`${name}${labels} ${value}`);
  };
  const one = (value: number): [string, number][] => [['', value]];
  const status = pusher.status();
  add('weft_epoch', 'gauge', 'Epoch of the configuration in use.', one(mesh.epoch));
  add(
    'weft_config_refused',
    'gauge',
    '1 while the files are refused and an older epoch serves.',
    one(mesh.refused ? 1 : 0),
  );
  add('pilot_xds', 'gauge', 'Connected proxies.', one(status.filter((p) => p.status !== 'DISCONNECTED').length));
  add(
    'weft_proxies',
    'gauge',
    'Proxies by state.',
    STATES.map((s) => [`{status="${s}"}`, status.filter((p) => p.status === s).length]),
  );
  add('pilot_xds_pushes', 'counter', 'Plans offered to proxies.', one(pusher.counters.pushes));
  add('weft_xds_turns', 'counter', 'Of these, endpoints that the proxy had not named.', one(pusher.counters.inTurn));
  add('weft_xds_waiting', 'gauge', 'Proxies that wait for their turn to hear of such endpoints.', one(pusher.waiting));
  add('pilot_total_xds_rejects', 'counter', 'Changes that a proxy refused.', one(pusher.counters.rejects));
  add('pilot_services', 'gauge', 'Services of the epoch.', one(mesh.model?.services.length ?? 0));
  add('citadel_server_csr_count', 'counter', 'Certificate requests.', one(issuer.counters.csrs));
  add('citadel_server_success_cert_issuance_count', 'counter', 'Certificates issued.', one(issuer.counters.issued));
  add(
    'citadel_server_csr_parsing_err_count',
    'counter',
    'Requests that could not be used.',
    one(issuer.counters.parseErrors),
  );
  add(
    'citadel_server_authentication_failure_count',
    'counter',
    'Callers without a right to a certificate.',
    one(issuer.counters.authenticationFailures),
  );
  const strangers = rpc.counters.anonymousRefused;
  add('weft_anonymous_refused', 'counter', 'Connections without a certificate past their bound.', one(strangers));
  const failures = issuer.counters.externalFailures;
  add('weft_ca_external_failures', 'counter', 'Requests that an external CA did not sign.', one(failures));
  add('weft_ca_jwt_issued', 'counter', 'JSON Web Tokens issued to workloads.', one(issuer.counters.tokens));
  add(
    'citadel_server_root_cert_expiry_timestamp',
    'gauge',
    'When the root ends, in seconds since 1970.',
    one(authority.rootNotAfterMs / 1000),
  );
  add('weft_hosts_lost', 'counter', 'Hosts that were not heard of for the lease.', one(hosts.counters.lost));
  add('weft_hosts_refused', 'counter', 'Calls of hosts without a right to them.', one(hosts.counters.refused));
  const keys = mesh.keySets.counters;
  add('weft_jwks_fetches', 'counter', 'Key sets of token issuers that were asked for.', one(keys.fetches));
  add('weft_jwks_failures', 'counter', 'Of these, those that gave no keys.', one(keys.failures));
  add('weft_jwks_refetches_limited', 'counter', 'Missed keys that were fetched later than at once.', one(keys.limited));
  const { limits, sent, callersRefused } = rates.counters;
  add('weft_rate_limits_shared', 'gauge', 'Rate limits that replicas share.', one(limits));
  add('weft_rate_limit_shares', 'counter', 'Shares of rate limits that replicas were sent.', one(sent));
  const undivided = 'Callers whose rate was not divided, as too many callers of the limit have one that is.';
  add('weft_rate_limit_callers_undivided', 'counter', undivided, one(callersRefused));
  const seconds = (ms: number) => (ms - Date.now()) / 1000;
  const left = 'Seconds until the root that signs ends.';
  add('citadel_server_root_cert_expiry_seconds', 'gauge', left, one(seconds(authority.rootNotAfterMs)));
  const signer = 'Seconds until the certificate that signs ends: the root, or the intermediate.';
  add('citadel_server_cert_chain_expiry_seconds', 'gauge', signer, one(seconds(authority.signerNotAfterMs)));
  const phases = (['stable', 'distribute', 'issue'] as const).map((p): [string, number] => [
    `{phase="${p}"}`,
    authority.phase === p ? 1 : 0,
  ]);
  add('weft_ca_rotation_phase', 'gauge', 'How far the root is replaced.', phases);
  add('weft_ca_revoked', 'gauge', 'Certificates and identities that are revoked.', one(trust.revoked.length));
  return `${lines.join('\n')}\n`;
}

export async function startMetrics(
  listen: Listen,
  sources: MetricsSources,
): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(renderMetrics(sources));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : listen.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
