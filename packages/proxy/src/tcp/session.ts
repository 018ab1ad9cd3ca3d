import type { Reporter, TcpRecord } from '../observe/types.ts';

/** A running tunnel, so that a drain can wait for it and end it at its deadline. */
export interface TcpSession {
  destroy(detail: string): void;
}

export function tcpRecord(reporter: Reporter): TcpRecord {
  return {
    reporter,
    source: undefined,
    destination: undefined,
    service: undefined,
    routeRef: '',
    authzRef: '',
    authzPolicy: '',
    cluster: '',
    upstreamHost: '',
    downstreamRemote: '',
    sni: '',
    flags: '',
    details: '',
    bytesIn: 0,
    bytesOut: 0,
    startWallMs: 0,
    durationMs: 0,
    mtls: false,
    epoch: 0n,
  };
}
