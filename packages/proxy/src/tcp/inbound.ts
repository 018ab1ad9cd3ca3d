/** An opaque connection that arrives at a workload, from a tunnel or in plaintext. */
import { hostPort } from '@weft/base';
import { type AuthorizationResult, authenticatePort, authorize, type Snapshot, takeRate } from '@weft/engine';
import type { Inbound } from '@weft/plan';
import type { Core } from '../core.ts';
import { inboundService } from '../inbound/port.ts';
import type { LinkPeer } from '../link/server.ts';
import { dialTcp } from '../net/dial.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { withKeepalive } from '../net/keepalive.ts';
import type { HoldSink, Pipe } from '../net/pipe.ts';
import { noteAuthorization } from '../observe/authorization-notes.ts';
import type { PeerInfo, TcpRecord } from '../observe/types.ts';
import { judgeConnection } from './admission.ts';
import { noteEnd, sessionOf, type TcpSession, tcpRecord } from './session.ts';
import { Splice, type SpliceEnd } from './splice.ts';

export interface InboundTcp {
  core: Core;
  snapshot: Snapshot;
  inbound: Inbound;
  port: number;
  peer: LinkPeer | undefined;
  source: PeerInfo | undefined;
  remoteAddress: string;
  remotePort: number;
  sni: string;
  sessions: InFlightList<TcpSession>;
  /** The application answers the connect: the tunnel may be accepted. Returns the pipe and what it has held. */
  accept(): { pipe: Pipe; hold: HoldSink | undefined };
  /** `denied`: by a policy; else the application could not be reached. */
  refuse(denied: boolean): void;
}

function judge(t: InboundTcp, snapshot: Snapshot, approved: readonly string[]): AuthorizationResult {
  return authorize(snapshot, {
    ...(approved.length > 0 && { approved }),
    principal: t.peer?.principal,
    remoteIp: t.remoteAddress,
    destPort: t.port,
    localIp: t.core.options.address,
    sni: t.sni || undefined,
  });
}

/** A plan came: what it does not let in ends, though an earlier plan did. */
function rejudge(
  t: InboundTcp,
  snapshot: Snapshot,
  r: TcpRecord,
  session: TcpSession,
  approved: readonly string[],
): void {
  const verdict = judge(t, snapshot, approved);
  const detail = verdict.allow ? 'mtls_required' : verdict.details;
  if (verdict.allow && authenticatePort(snapshot, t.port, { mtls: t.peer !== undefined })) return;
  r.authzRef = verdict.ref;
  r.decisions.authorization = verdict.ref;
  r.authzPolicy = verdict.policy;
  r.verdict = verdict;
  t.core.observer.count('authorization_ended');
  session.destroy(detail);
}

/** Authorizes, dials the application, and joins. */
export function inboundTcp(t: InboundTcp): void {
  const { remoteAddress, remotePort, port, sni } = t;
  judgeConnection(
    t.core,
    t.snapshot,
    { remoteAddress, remotePort, principal: t.peer?.principal, port, sni },
    (snapshot, approved) => judge(t, snapshot, approved),
    (verdict, approved, flags) => decided(t, verdict, approved, flags),
  );
}

function decided(t: InboundTcp, verdict: AuthorizationResult, approved: readonly string[], flags: string): void {
  const { core, inbound } = t;
  const r = tcpRecord('destination');
  const startMs = core.nowMs();
  r.source = t.source;
  r.destination = core.self;
  r.service = inboundService(inbound);
  r.cluster = `inbound|${t.port}||`;
  r.downstreamRemote = hostPort(t.remoteAddress, t.remotePort);
  r.sni = t.sni;
  r.startWallMs = core.wallMs();
  r.mtls = t.peer !== undefined;
  r.epoch = core.epoch;
  r.flags = flags;
  r.authzRef = verdict.ref;
  r.authzPolicy = verdict.policy;
  r.verdict = verdict;
  r.port = t.port;
  r.decisions.authentication = inbound.mtlsRef;
  r.decisions.authorization = verdict.ref;
  if (!verdict.allow || verdict.audit || verdict.shadow) {
    const asked = { principal: t.peer?.principal, remote: t.remoteAddress, port: t.port };
    noteAuthorization(core, verdict, { ...asked, method: '', path: '' });
  }
  core.observer.tcpOpen(r);
  const close = (): void => {
    r.durationMs = core.nowMs() - startMs;
    core.observer.tcpClose(r);
  };
  if (!verdict.allow) {
    r.details = verdict.details;
    core.observer.count('inbound_tcp_denied');
    t.refuse(true);
    close();
    return;
  }
  const limit = t.snapshot.connectionLimits.get(inbound.port);
  const rate = limit ? takeRate(limit, t.peer?.principal, core.nowMs()) : 'allow';
  r.decisions.limit = limit?.limit.ref ?? '';
  if (limit && rate !== 'allow') {
    r.flags = 'RL';
    r.details = 'local_rate_limited';
    r.routeRef = limit.limit.ref;
    core.observer.count(rate === 'total' ? 'connections_limited_total' : 'connections_limited_identity');
    t.refuse(true);
    close();
    return;
  }
  if (!core.portUse.acquire(inbound, 'connections')) {
    r.flags = 'UO';
    r.details = 'overflow';
    core.observer.count('inbound_overflow');
    t.refuse(true);
    close();
    return;
  }
  const left = (): void => {
    core.portUse.release(inbound, 'connections');
    close();
  };
  const { pool } = inbound;
  const host = inbound.dialAddress || core.options.address;
  const port = inbound.dialPort || t.port;
  r.upstreamHost = hostPort(host, port);
  const connector = withKeepalive(core.options.connector, () => pool?.keepalive);
  dialTcp(connector, host, port, pool?.connectTimeoutMs || 10_000, core.timers, {
    connected: (up) => {
      const { pipe, hold } = t.accept();
      const session: TcpSession = sessionOf(() => splice);
      session.rejudge = (snapshot) => rejudge(t, snapshot, r, session, approved);
      t.sessions.add(session);
      const over = (end: SpliceEnd): void => {
        t.sessions.delete(session);
        noteEnd(r, end, core.observer);
        left();
      };
      const idleMs = pool?.tcpIdleTimeoutMs || core.limits.tcpIdleTimeoutMs;
      const splice = new Splice(pipe, up, core.ticker, over, idleMs, pool?.maxConnectionDurationMs);
      up.sink = splice.b;
      if (hold) hold.release(pipe, splice.a);
      else pipe.sink = splice.a;
      pipe.resumeReading();
      // A plan may have come while an authorizer or the application was asked.
      if (core.snapshot && core.snapshot !== t.snapshot) session.rejudge(core.snapshot);
    },
    failed: (_reason, detail) => {
      r.flags = 'UF';
      r.details = detail;
      t.refuse(false);
      left();
    },
  });
}
