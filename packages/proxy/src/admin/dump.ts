import { X509Certificate } from 'node:crypto';
import { toJson } from '@bufbuild/protobuf';
import {
  EndpointsSchema,
  type Part,
  PartSchema,
  Protocol,
  ReferenceSchema,
  WORKLOADS_HOST,
  withoutKeys,
} from '@weft/plan';
import type { AdminState } from './state.ts';

/** What the admin port shows of a plan, as plain values. A gateway's keys are left out. */

function partsOf(state: AdminState, kind: NonNullable<Part['kind']['case']>): unknown[] {
  const out: unknown[] = [];
  for (const [name, part] of [...state.parts].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    if (part.kind.case !== kind) continue;
    const json = toJson(PartSchema, withoutKeys(part)) as Record<string, unknown>;
    out.push({ resource: name, ...(json[kind] as object) });
  }
  return out;
}

export function dumpPlan(state: AdminState): unknown {
  return {
    instance: state.bootstrap.instance,
    mesh: state.bootstrap.mesh,
    epoch: state.epoch,
    parts: [...state.parts].map(([resource, part]) => ({
      resource,
      ...(toJson(PartSchema, withoutKeys(part)) as object),
    })),
    endpoints: [...state.endpoints.values()].map((e) => toJson(EndpointsSchema, e)),
    references: [...state.references.values()].flatMap((r) => r.entries.map((e) => toJson(ReferenceSchema, e))),
  };
}

/** Ports of this workload with the rule that sets their mTLS mode, and the addresses that are served outbound. */
export function dumpListeners(state: AdminState): unknown {
  const outbound: unknown[] = [];
  for (const part of state.parts.values()) {
    if (part.kind.case !== 'service') continue;
    const { host, addresses, headless, ports } = part.kind.value;
    outbound.push({
      host,
      addresses,
      headless,
      ports: ports.map((p) => ({ port: p.port, name: p.name, protocol: p.protocol })),
    });
  }
  return { inbound: partsOf(state, 'inbound'), outbound, gateway: gatewayListeners(state) };
}

/** A gateway's ports; their routes are told by dumpRoutes. */
function gatewayListeners(state: AdminState): unknown[] {
  const out: unknown[] = [];
  for (const { kind } of state.parts.values()) {
    if (kind.case !== 'gateway') continue;
    const { port, servers } = kind.value;
    for (const { ref, hosts, tls, virtualHosts, protocol: carries } of servers) {
      const served = hosts.length > 0 ? hosts : virtualHosts.map((h) => h.host);
      const opaque = carries === Protocol.TCP || carries === Protocol.TLS;
      const protocol = opaque ? (tls ? 'TLS' : Protocol[carries]) : tls ? 'HTTPS' : 'HTTP';
      out.push({ port, protocol, hosts: served.length > 0 ? served : ['*'], secret: tls?.secret ?? '', ref });
    }
  }
  return out;
}

export function dumpRoutes(state: AdminState): unknown {
  return {
    services: partsOf(state, 'service'),
    gateways: partsOf(state, 'gateway'),
    authorization: partsOf(state, 'authorization'),
  };
}

export function dumpClusters(state: AdminState): unknown {
  return { clusters: partsOf(state, 'cluster') };
}

export function dumpEndpoints(state: AdminState): unknown {
  const status = new Map<string, unknown>();
  for (const s of state.endpointStatus?.() ?? []) {
    status.set(`${s.host}:${s.port} ${s.instance} ${s.address}`, {
      health: s.unhealthy ? 'UNHEALTHY' : s.ejected ? 'EJECTED' : s.draining ? 'DRAINING' : 'HEALTHY',
      activeRequests: s.activeRequests,
    });
  }
  const services: unknown[] = [];
  for (const [resource, e] of state.endpoints) {
    if (e.host === WORKLOADS_HOST) continue;
    const json = toJson(EndpointsSchema, e) as { endpoints?: object[] };
    services.push({
      resource,
      host: e.host,
      port: e.port,
      endpoints: (json.endpoints ?? []).map((endpoint, i) => {
        const { instance, address, port, draining } = e.endpoints[i];
        const known = status.get(`${e.host}:${e.port} ${instance} ${address}:${port}`);
        return { ...endpoint, state: known ?? { health: draining ? 'DRAINING' : 'HEALTHY', activeRequests: 0 } };
      }),
    });
  }
  return { services };
}

/**
 * The workload's own certificate with its chain, those that a gateway shows to visitors, and the roots of every trust
 * domain that is believed, what is revoked, and what this proxy's clock says. ACTIVE: in use; WARMING: awaited, or not usable. Never a key.
 */
export function dumpCertificates(state: AdminState): unknown {
  const nowMs = state.wallMs();
  const certificates: unknown[] = [ownCertificate(state, nowMs)];
  for (const [resource, { kind }] of state.parts) {
    if (kind.case !== 'secret') continue;
    const { certificatePem, caPem } = kind.value;
    // One without a certificate says who is believed.
    const [chainPem, type] = certificatePem === '' ? [caPem, { type: 'CA' }] : [certificatePem, TYPE_CHAIN];
    try {
      const c = new X509Certificate(chainPem);
      const names = c.subjectAltName ?? c.subject;
      certificates.push({ resource, names, ...type, state: 'ACTIVE', ...facts(c, nowMs), chainPem });
    } catch {
      certificates.push({ resource, names: 'cannot be read', ...type, state: 'WARMING', valid: false });
    }
  }
  const bundle = state.certificate?.bundle;
  const trustBundle = (bundle?.domains ?? []).flatMap((trustDomain) =>
    (bundle?.rootsOf(trustDomain) ?? []).map((root) => ({
      resource: 'ROOTCA',
      type: 'CA',
      trustDomain,
      state: 'ACTIVE',
      ...facts(root, nowMs),
      fingerprint: root.fingerprint256,
      pem: root.toString(),
    })),
  );
  const revocations = bundle?.revocations;
  const revoked = { certificates: revocations?.certificates ?? [], ids: [...(revocations?.ids ?? [])] };
  return { certificates, trustBundle, revoked, nowMs };
}

const TYPE_CHAIN = { type: 'Cert Chain' };

function ownCertificate(state: AdminState, nowMs: number): unknown {
  const own = state.certificate;
  if (!own) return { resource: 'default', ...TYPE_CHAIN, state: 'WARMING', valid: false };
  return {
    resource: 'default',
    spiffeId: own.spiffeId,
    ...TYPE_CHAIN,
    state: 'ACTIVE',
    valid: own.notBeforeMs <= nowMs && nowMs < own.notAfterMs,
    serial: own.serial,
    notBefore: new Date(own.notBeforeMs).toISOString(),
    notAfter: new Date(own.notAfterMs).toISOString(),
    chainPem: own.chainPem,
  };
}

function facts(c: X509Certificate, nowMs: number) {
  return {
    valid: c.validFromDate.getTime() <= nowMs && nowMs < c.validToDate.getTime(),
    serial: c.serialNumber.toLowerCase(),
    notBefore: c.validFromDate.toISOString(),
    notAfter: c.validToDate.toISOString(),
  };
}
