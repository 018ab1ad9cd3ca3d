/** `connectionPool` of a traffic policy, of a Sidecar, and the keep-alive of the mesh settings. */
import type { ConnectionPoolModel, TcpKeepaliveModel } from '@weft/model';
import type { ObjectSchema } from '../schema.ts';
import { bool, type Plain, uint32 } from './common.ts';

export const tcpKeepalive: ObjectSchema = {
  t: 'object',
  fields: {
    probes: { t: 'int', min: 1, max: 127 },
    time: { t: 'duration', minMs: 1000 },
    interval: { t: 'duration', minMs: 1000 },
  },
};

const http2KeepAlive: ObjectSchema = {
  t: 'object',
  fields: { interval: { t: 'duration', minMs: 1000 }, timeout: { t: 'duration', minMs: 1000 } },
  required: ['interval'],
};

export const connectionPool: ObjectSchema = {
  t: 'object',
  fields: {
    tcp: {
      t: 'object',
      fields: {
        maxConnections: { t: 'int', min: 1, max: 4_294_967_295 },
        connectTimeout: { t: 'duration', minMs: 1 },
        idleTimeout: { t: 'duration', minMs: 1 },
        maxConnectionDuration: { t: 'duration', minMs: 1 },
        tcpKeepalive,
      },
    },
    http: {
      t: 'object',
      fields: {
        http1MaxPendingRequests: uint32,
        http2MaxRequests: uint32,
        maxRequestsPerConnection: uint32,
        maxRetries: uint32,
        idleTimeout: { t: 'duration', minMs: 1 },
        h2UpgradePolicy: { t: 'string', enum: ['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE'] },
        useClientProtocol: bool,
        maxConcurrentStreams: { t: 'int', min: 1, max: 2_147_483_647 },
        http2KeepAlive,
      },
    },
  },
};

/** Undefined: the mesh's. */
const UPGRADE = { DEFAULT: undefined, DO_NOT_UPGRADE: false, UPGRADE: true };

export function poolOf(p: Plain): ConnectionPoolModel {
  return {
    maxConnections: p.tcp?.maxConnections,
    connectTimeoutMs: p.tcp?.connectTimeout,
    maxPendingRequests: p.http?.http1MaxPendingRequests,
    maxRequests: p.http?.http2MaxRequests,
    maxRequestsPerConnection: p.http?.maxRequestsPerConnection,
    maxRetries: p.http?.maxRetries,
    idleTimeoutMs: p.http?.idleTimeout ?? p.tcp?.idleTimeout,
    tcpIdleTimeoutMs: p.tcp?.idleTimeout,
    maxConnectionDurationMs: p.tcp?.maxConnectionDuration,
    maxConcurrentStreams: p.http?.maxConcurrentStreams,
    h2Upgrade: UPGRADE[(p.http?.h2UpgradePolicy ?? 'DEFAULT') as keyof typeof UPGRADE],
    useClientProtocol: p.http?.useClientProtocol ?? false,
    http2PingIntervalMs: p.http?.http2KeepAlive?.interval,
    http2PingTimeoutMs: p.http?.http2KeepAlive?.timeout,
    keepalive: p.tcp?.tcpKeepalive && keepaliveOf(p.tcp.tcpKeepalive),
  };
}

export function keepaliveOf(k: Plain): TcpKeepaliveModel {
  return { probes: k.probes, timeMs: k.time, intervalMs: k.interval };
}
