import type { Snapshot } from '@weft/engine';
import type { Placed } from '../net/in-flight.ts';
import { noDecisions, type Observer, type Reporter, type TcpRecord } from '../observe/types.ts';
import type { Holder } from '../overload/overload.ts';
import { DURATION_DETAIL, IDLE_DETAIL, type Splice, type SpliceEnd } from './splice.ts';

/** A running tunnel, so that a drain can wait for it and end it at its deadline. */
export interface TcpSession extends Holder, Placed {
  destroy(detail: string): void;
  /** Ends it where the plan does not allow it any more; of tunnels that come in. */
  rejudge?(snapshot: Snapshot): void;
}

/** The session of a splice. */
export function sessionOf(splice: () => Splice): TcpSession {
  return {
    place: -1,
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

/** What its end makes of a connection's record; one for want of bytes or by age is counted (LIMITS.md). */
export function noteEnd(record: TcpRecord, end: SpliceEnd, observer: Observer): void {
  record.bytesIn = end.fromA;
  record.bytesOut = end.fromB;
  record.details = end.detail;
  if (end.broken === 'a') record.flags = 'DC';
  else if (end.broken === 'b') record.flags = 'UC';
  else if (end.detail === IDLE_DETAIL) observer.count('tcp_idle_timeout');
  else if (end.detail === DURATION_DETAIL) {
    record.flags = 'DT';
    observer.count('tcp_max_duration');
  }
}
