/** What a proxy is told at its start, and how it reads it. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { WeftError } from '@weft/base';
import { type ProxyLimits, type ProxyMode, readLimits } from './limits.ts';
import type { WorkloadApiBind } from './workload-api/server.ts';

export interface Bind {
  host: string;
  port: number;
}

/** A probe that the kubelet or `weft up` would ask the application; the proxy asks it in its place on 15020. */
export interface ProbeSpec {
  httpGet?: { path: string; port: number; scheme?: string; headers?: { name: string; value: string }[] };
  tcpSocket?: { port: number };
  grpc?: { port: number; service: string };
  timeoutMs?: number;
}

/** The JSON that `WEFT_BOOTSTRAP` names. Mode 0600: it may hold secrets. */
export interface Bootstrap {
  mesh: string;
  instance: string;
  trustDomain: string;
  /** Who this proxy is to become; any other certificate is refused. Absent: who the control plane says. */
  spiffeId?: string;
  /** One use, exchanged for a certificate; may be absent where the identity folder holds a valid one. */
  token?: string;
  /** Where another one will be, once the certificate has ended without a successor (a machine that slept for long). */
  tokenFile?: string;
  rootPem: string;
  /** host:port of the control plane's TLS port (15012). */
  controlAddress: string;
  identityDir: string;
  snapshotDir: string;
  capture: 'transparent' | 'explicit';
  /** The workload's own IP address. */
  address: string;
  /** Its IPv6 address, where it has one beside that of IPv4. */
  address6?: string;
  /** Where the listeners are. Explicit capture has no `inbound`; a gateway neither of the first two: its plan says its ports. */
  bind: {
    outbound?: Bind;
    inbound?: Bind;
    mesh?: Bind;
    admin?: Bind;
    probes?: Bind;
    health?: Bind;
    metrics?: Bind;
    dns?: Bind;
  };
  /** Of this machine, to workloads of the mesh on others; absent: there are none. */
  entrance?: Bind;
  /** Password that explicit-mode clients send in Proxy-Authorization (user name is free). */
  proxySecret?: string;
  /** Where the application gets its own identity (SPIFFE Workload API); absent: nowhere. */
  workloadApi?: WorkloadApiBind;
  probes?: Record<string, ProbeSpec>;
  /** Where DNS questions that are not about the mesh go; empty: SERVFAIL at once. */
  dnsUpstreams?: { host: string; port: number }[];
  uid?: number;
  gid?: number;
  logLevel?: string;
  /** False: no access log on stdout. Default true. */
  accessLog?: boolean;
  /** Bounds that differ from their defaults (LIMITS.md). */
  limits?: Partial<ProxyLimits>;
}

/**
 * Reads and checks a bootstrap file, for a proxy of this mode.
 * Throws WeftError `bootstrap.*` naming the file and the field.
 */
export function readBootstrap(path: string, mode: ProxyMode = 'sidecar'): Bootstrap {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new WeftError('bootstrap.unreadable', `${path}: cannot read the proxy's bootstrap: ${String(cause)}`, {
      cause,
    });
  }
  if (typeof value !== 'object' || value === null) throw invalid(path, '', 'must be an object');
  const b = value as Record<string, unknown>;
  for (const name of [
    'mesh',
    'instance',
    'trustDomain',
    'rootPem',
    'controlAddress',
    'identityDir',
    'snapshotDir',
    'address',
  ]) {
    if (typeof b[name] !== 'string' || b[name] === '') throw invalid(path, name, 'must be a string that is not empty');
  }
  if (b.address6 !== undefined && isIP(String(b.address6)) !== 6)
    throw invalid(path, 'address6', 'must be an IPv6 address');
  if (b.capture !== 'transparent' && b.capture !== 'explicit')
    throw invalid(path, 'capture', 'must be transparent or explicit');
  const bind = b.bind as Record<string, unknown> | undefined;
  if (typeof bind !== 'object' || bind === null) throw invalid(path, 'bind', 'must be an object');
  checkBind(path, 'bind.outbound', bind.outbound, mode === 'sidecar');
  checkBind(path, 'bind.mesh', bind.mesh, true);
  for (const name of ['inbound', 'admin', 'probes', 'health', 'metrics', 'dns'])
    checkBind(path, `bind.${name}`, bind[name], false);
  checkBind(path, 'entrance', b.entrance, false);
  for (const name of ['uid', 'gid']) {
    if (b[name] !== undefined && !(Number.isInteger(b[name]) && (b[name] as number) > 0))
      throw invalid(path, name, 'must be a positive number');
  }
  checkWorkloadApi(path, b.workloadApi);
  readLimits(b.limits, path, mode);
  b.limits = withOwnLimits(b.limits, mode);
  return value as Bootstrap;
}

/** With those of WEFT_PROXY_LIMITS (JSON), which go before; throws where they are wrong. */
export function withOwnLimits(limits: unknown, mode: ProxyMode): Partial<ProxyLimits> | undefined {
  const given = process.env.WEFT_PROXY_LIMITS;
  if (!given) return limits as Partial<ProxyLimits> | undefined;
  let own: unknown;
  try {
    own = JSON.parse(given);
  } catch (cause) {
    throw new WeftError('bootstrap.invalid', `WEFT_PROXY_LIMITS is no JSON: ${String(cause)}`, { cause });
  }
  readLimits(own, 'WEFT_PROXY_LIMITS', mode);
  const both = { ...(limits as object | undefined), ...(own as object | undefined) };
  readLimits(both, 'WEFT_PROXY_LIMITS', mode);
  return both;
}

function checkWorkloadApi(path: string, value: unknown): void {
  if (value === undefined || value === null) return;
  const { socket, uids, ownNetwork } = value as Record<string, unknown>;
  if (typeof socket !== 'string' || !socket.startsWith('/'))
    throw invalid(path, 'workloadApi.socket', 'must be an absolute path');
  if (!Array.isArray(uids) || !uids.every((u) => Number.isInteger(u) && (u as number) >= 0))
    throw invalid(path, 'workloadApi.uids', 'must be a list of user numbers');
  if (typeof ownNetwork !== 'boolean') throw invalid(path, 'workloadApi.ownNetwork', 'must be true or false');
}

function checkBind(path: string, field: string, value: unknown, required: boolean): void {
  if (value === undefined || value === null) {
    if (required) throw invalid(path, field, 'is missing');
    return;
  }
  const v = value as { host?: unknown; port?: unknown };
  if (typeof v.host !== 'string') throw invalid(path, `${field}.host`, 'must be an IP address');
  if (!Number.isInteger(v.port) || (v.port as number) < 0 || (v.port as number) > 65_535) {
    throw invalid(path, `${field}.port`, 'must be a port number');
  }
}

function invalid(path: string, field: string, what: string): WeftError {
  return new WeftError('bootstrap.invalid', `${path}: ${field || 'the file'} ${what}`);
}
