import type { Snapshot } from '@weft/engine';
import { noDecisions, type Reporter, type TcpRecord } from '../observe/types.ts';
import type { Holder } from '../overload/overload.ts';
import type { Splice } from './splice.ts';

/** A running tunnel, so that a drain can wait for it and end it at its deadline. */
export interface TcpSession extends Holder {
  destroy(detail: string): void;
  /** Ends it where the plan does not allow it any more; of tunnels that come in. */
  rejudge?(snapshot: Snapshot): void;
}

/** The session of a splice. An idle end is counted: it is a limit (LIMITS.md). */
export function sessionOf(splice: () => Splice): TcpSession {
  return {
    get heldBytes() {
      return splice().heldBytes;
    },
    shed: () => splice().destroy('overload'),
    destroy: (detail) => splice().destroy(detail),
  };
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
    verdict: undefined,
    port: 0,
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
    decisions: noDecisions(),
  };
}
