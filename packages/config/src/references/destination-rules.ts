/** DestinationRules: hosts and Secrets that they name, what has no effect, and TLS that a PeerAuthentication refuses. */
import {
  credentialsIn,
  type DestinationRuleModel,
  hostCovers,
  labelsMatch,
  mtlsFor,
  resolveHost,
  serviceHost,
  targetPortOn,
} from '@weft/model';
import { list } from '../words.ts';
import type { Known } from './known.ts';

export function checkDestinationRule(known: Known, rule: DestinationRuleModel): void {
  if (!known.ok(rule)) return;
  const pattern = resolveHost(rule.host, rule.namespace, known.model.domain);
  if (pattern.startsWith('*')) {
    if (!known.hosts().some((h) => hostCovers(pattern, h))) {
      known.report(rule, 'WEFT-NO-SERVICE', `no service has a host like ${rule.host}`, 'spec.host', 'warning');
    }
  } else if (!known.serviceOf(rule, rule.host, 'spec.host')) return;
  const blocks = [rule.trafficPolicy, ...rule.subsets.map((s) => s.trafficPolicy)];
  for (const policy of blocks) {
    const header = 'opaque connections begin with the header; it is not sent';
    if (policy?.proxyProtocol) opaqueOnly(known, rule, `${policy.field}.proxyProtocol`, pattern, header);
    const way = 'opaque connections go through a forward proxy; requests are sent as ever';
    if (policy?.tunnel) opaqueOnly(known, rule, `${policy.field}.tunnel`, pattern, way);
  }
  checkCredentials(known, rule);
  if (known.model.peerAuthentications.some((p) => !known.ok(p))) return;
  for (const [i, policy] of blocks.entries()) {
    if (policy?.tlsMode && policy.tlsMode !== 'ISTIO_MUTUAL')
      strictMeets(
        known,
        policy.tlsMode === 'DISABLE' ? 'plaintext' : 'TLS of their own',
        rule,
        policy.field,
        pattern,
        rule.subsets[i - 1]?.labels,
      );
  }
}

/** Secrets that gateways begin TLS with stand in their namespaces; sidecars are sent none. */
function checkCredentials(known: Known, rule: DestinationRuleModel): void {
  const names = new Set(credentialsIn(rule));
  if (names.size === 0) return;
  const gateways = new Set(known.model.processes.filter((p) => p.gateway).map((p) => p.namespace));
  const secrets = known.model.secrets.filter((s) => gateways.has(s.namespace));
  for (const name of names) {
    if (secrets.some((s) => s.name === name || s.name === `${name}-cacert`)) continue;
    const have = list(
      secrets.map((s) => `${s.namespace}/${s.name}`),
      'none',
    );
    const message = `no gateway has a Secret ${name} in its namespace: credentialName is for gateways (sidecars take files). Secrets there: ${have}`;
    known.report(rule, 'WEFT-NO-SECRET', message, 'spec');
  }
}

/** Requests of many clients share a connection: what is said before it would hold for one of them. */
function opaqueOnly(known: Known, rule: DestinationRuleModel, field: string, pattern: string, what: string): void {
  for (const service of known.model.services) {
    if (!hostCovers(pattern, serviceHost(service, known.model.domain))) continue;
    const http = service.ports.filter((p) => ['http', 'http2', 'grpc', 'grpc-web'].includes(p.protocol));
    if (http.length === 0) continue;
    const ports = list(
      http.map((p) => `${p.port} (${p.protocol})`),
      'none',
    );
    const message = `${what} on these ports of ${service.name}: ${ports}`;
    known.report(rule, 'WEFT-NO-EFFECT', message, field, 'warning');
  }
}

/** A port that takes the mesh's TLS alone, and clients that are told to send it `what`. */
function strictMeets(
  known: Known,
  what: string,
  rule: DestinationRuleModel,
  field: string,
  pattern: string,
  subset: Readonly<Record<string, string>> | undefined,
): void {
  for (const service of known.model.services) {
    if (!hostCovers(pattern, serviceHost(service, known.model.domain))) continue;
    for (const process of known.providers(service)) {
      if (subset && !labelsMatch(subset, process.labels)) continue;
      for (const port of service.ports) {
        const ports = process.ports.map((p) => ({ number: p.port, name: p.name }));
        const target = targetPortOn(port, { ports });
        const mtls = target === undefined ? undefined : mtlsFor(known.model, process, target);
        if (mtls?.mode !== 'STRICT' || !mtls.policy) continue;
        const { policy } = mtls;
        const where = `${policy.namespace}/${policy.name} (${policy.source.file}:${policy.source.line})`;
        const message = `clients would send ${what} to ${process.name}, whose port ${target} is STRICT by the PeerAuthentication ${where}`;
        known.report(rule, 'WEFT-MTLS-CONFLICT', message, `${field}.tls.mode`);
        return;
      }
    }
  }
}
