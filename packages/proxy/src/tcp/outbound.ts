/** An opaque connection that leaves a workload: one endpoint per connection, another one only before the first byte. */
import { isIP } from 'node:net';
import { hostPort } from '@weft/base';
import {
  type AuthorizationResult,
  acquireConnection,
  affinityHash,
  type ClusterView,
  CONNECT_ATTEMPTS,
  drawTcpFault,
  type EndpointView,
  meshed,
  onEnd,
  onResult,
  onStart,
  pickEndpoint,
  releaseConnection,
  routeTcp,
  routeTls,
  type ServicePortView,
  type Snapshot,
  type TcpDecision,
  type TcpFaultDecision,
  type TcpRouteView,
  withheld,
} from '@weft/engine';
import { PASSTHROUGH_CLUSTER } from '@weft/plan';
import { type Head, type ProxyAddresses, proxyHeader } from '@weft/wire';
import type { Core } from '../core.ts';
import { openTunnel } from '../link/tunnel.ts';
import { type Connector, type DialResult, dialTcp } from '../net/dial.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { PacedPipe } from '../net/paced.ts';
import type { HoldSink, Pipe } from '../net/pipe.ts';
import { noteAuthorization } from '../observe/authorization-notes.ts';
import type { Decisions } from '../observe/types.ts';
import { connectorFor, WITHHELD_DETAIL } from '../outbound/upstream.ts';
import { type Judge, judgeConnection } from './admission.ts';
import { throughForwardProxy } from './forward-proxy.ts';
import { noteEnd, sessionOf, type TcpSession, tcpRecord } from './session.ts';
import { Splice, type SpliceEnd } from './splice.ts';

const NO_HEAD: Head = [];

function decidedBy(d: Decisions, decision: TcpDecision): void {
  d.route = decision.ref;
  d.destination = decision.destinationRef;
  const cluster = decision.cluster?.cluster;
  if (!cluster) return;
  d.cluster = cluster.ref;
  d.balancer = cluster.lbRef;
  d.outlier = cluster.outlier?.ref ?? cluster.failureAccrual?.ref ?? '';
  d.transport = cluster.tlsRef;
}

const CONNECT_TIMEOUT_MS = 10_000;

export interface TcpTarget {
  /** Of a service. */
  view?: ServicePortView;
  /** Of a server of a gateway, in the place of a service's: the service is the one that the route leads to. */
  routes?: TcpRouteView;
  /** What was dialled; where there are no routes it is passed on as it is. */
  host: string;
  port: number;
  /** The connection begins with TLS; the name its client asks for, '' for none. */
  sni?: string;
  /** At a gateway: who calls, and whether policies let it in; asked again with each new plan. */
  gate?: TcpGate;
  /** It is over, whoever ended it. */
  onOver?(): void;
}

export interface TcpGate {
  /** Of the caller; undefined: it has shown no certificate of the mesh. */
  readonly principal: string | undefined;
  readonly judge: Judge;
}

/** Carries `down` to where the plan says. `early` are bytes that came before; `session` counts it for a drain. */
export class OutboundTcp {
  #closed = false;
  #core: Core;
  #snapshot: Snapshot;
  #down: Pipe;
  #hold: HoldSink;
  #target: TcpTarget;
  #view: TcpRouteView | undefined;
  #cluster: ClusterView | undefined;
  #endpoint: EndpointView | undefined;
  #tried: EndpointView[] = [];
  #record = tcpRecord('source');
  #sessions: InFlightList<TcpSession>;
  #session: TcpSession | undefined;
  /** External authorizers that have let it in. */
  #approved: readonly string[] = [];
  #counted = false;
  #opened = false;
  /** A fault's; 0: none. */
  #bytesPerSecond = 0;
  #startMs: number;

  constructor(
    core: Core,
    snapshot: Snapshot,
    down: Pipe,
    hold: HoldSink,
    target: TcpTarget,
    sessions: InFlightList<TcpSession>,
  ) {
    this.#core = core;
    this.#snapshot = snapshot;
    this.#down = down;
    this.#hold = hold;
    this.#target = target;
    this.#sessions = sessions;
    this.#startMs = core.nowMs();
    const r = this.#record;
    r.source = core.self;
    this.#view = target.routes ?? target.view;
    r.downstreamRemote = hostPort(down.remoteAddress, down.remotePort);
    r.sni = target.sni ?? '';
    r.startWallMs = core.wallMs();
    r.epoch = core.epoch;
  }

  start(): void {
    // Bytes wait here while the other side is being reached, but not without a bound.
    this.#down.pauseReading();
    if (this.#target.gate) this.#admit(this.#target.gate);
    else this.#route();
  }

  #route(): void {
    const r = this.#record;
    const view = this.#view;
    if (!view) {
      r.cluster = PASSTHROUGH_CLUSTER;
      r.upstreamHost = hostPort(this.#target.host, this.#target.port);
      this.#dial(this.#core.options.connector, this.#target.host, this.#target.port, CONNECT_TIMEOUT_MS);
      return;
    }
    if (this.#target.view) r.service = this.#core.serviceOf(this.#target.view);
    const { sni, host } = this.#target;
    const { random } = this.#core;
    const decision =
      sni !== undefined && view.tls.length > 0 ? routeTls(view, sni, random, host) : routeTcp(view, random, host);
    if (decision) {
      r.routeRef = decision.destinationRef;
      r.cluster = decision.clusterName;
      decidedBy(r.decisions, decision);
    }
    if (decision?.cluster) r.service ??= this.#core.serviceOfCluster(decision.cluster.cluster);
    if (!decision?.cluster) {
      this.#fail(decision ? 'NC' : 'NR', decision ? 'cluster_not_found' : 'route_not_found');
      return;
    }
    this.#cluster = decision.cluster;
    if (!acquireConnection(decision.cluster)) {
      this.#fail('UO', 'overflow');
      return;
    }
    this.#counted = true;
    const fault = drawTcpFault(decision.cluster, random);
    r.decisions.fault = fault?.ref ?? '';
    if (!fault) this.#next();
    else if (fault.delayMs === 0) this.#faulty(fault);
    else this.#core.timers.add(fault.delayMs, { onTimer: () => this.#faulty(fault) });
  }

  /** Asks the policies of a gateway. */
  #admit(gate: TcpGate): void {
    const core = this.#core;
    const { remoteAddress, remotePort } = this.#down;
    const { port, sni = '' } = this.#target;
    const { principal } = gate;
    const facts = { remoteAddress, remotePort, principal, port, sni };
    judgeConnection(core, this.#snapshot, facts, gate.judge, (verdict, approved, flags) => {
      if (this.#closed) return;
      this.#note(verdict);
      this.#approved = approved;
      if (!verdict.allow || verdict.audit || verdict.shadow) {
        noteAuthorization(core, verdict, { principal, remote: remoteAddress, port, method: '', path: '' });
      }
      if (verdict.allow) {
        this.#route();
        return;
      }
      core.observer.count('gateway_tcp_denied');
      this.#fail(flags, verdict.details);
    });
  }

  #note(verdict: AuthorizationResult): void {
    const r = this.#record;
    r.authzRef = verdict.ref;
    r.authzPolicy = verdict.policy;
    r.verdict = verdict;
    r.decisions.authorization = verdict.ref;
  }

  /** A plan came: what it does not let in ends, though an earlier plan did. */
  #rejudge(gate: TcpGate, snapshot: Snapshot, session: TcpSession): void {
    const verdict = gate.judge(snapshot, this.#approved);
    if (verdict.allow) return;
    this.#note(verdict);
    this.#core.observer.count('authorization_ended');
    session.destroy(verdict.details);
  }

  #faulty(fault: TcpFaultDecision): void {
    if (this.#closed) return;
    this.#record.routeRef = fault.ref;
    this.#core.observer.count('tcp_fault');
    if (fault.end === 'reset') this.#fail('FI', 'tcp_fault_reset');
    else if (fault.end === 'blackhole') this.#swallow();
    else {
      this.#bytesPerSecond = fault.bytesPerSecond;
      this.#next();
    }
  }

  /** Open, and silent, until the client or a drain gives it up, or for as long as an idle connection may live. */
  #swallow(): void {
    const core = this.#core;
    const over = (): void => {
      if (this.#closed) return;
      this.#sessions.delete(session);
      idle.cancel();
      this.#fail('FI', 'tcp_fault_blackhole');
    };
    const session: TcpSession = { place: -1, heldBytes: 0, shed: over, destroy: over };
    const idle = core.timers.add(core.limits.tcpIdleTimeoutMs, { onTimer: over });
    this.#sessions.add(session);
    this.#hold.release(this.#down, { bytes() {}, ended() {}, drained() {}, gone: over });
    if (!this.#closed) this.#down.resumeReading();
  }

  #next(): void {
    const cluster = this.#cluster as ClusterView;
    const picked = pickEndpoint(
      this.#snapshot,
      cluster,
      this.#core.random,
      this.#core.nowMs(),
      this.#tried,
      // Of what a request may be hashed by, a connection has only its caller's address.
      affinityHash(cluster, NO_HEAD, this.#down.remoteAddress),
    );
    if (picked === 'none') {
      this.#fail('UH', 'no_healthy_upstream');
      return;
    }
    this.#tried.push(picked);
    this.#endpoint = picked;
    onStart(picked);
    const e = picked.endpoint;
    const r = this.#record;
    r.destination = this.#core.peerOf(e);
    r.upstreamHost = hostPort(e.address, e.port);
    r.mtls = meshed(cluster, picked);
    const timeoutMs = cluster.pool?.connectTimeoutMs || CONNECT_TIMEOUT_MS;
    if (withheld(cluster, picked)) {
      this.#core.observer.count('upstream_mtls_impossible');
      setImmediate(() => this.#again(WITHHELD_DETAIL));
      return;
    }
    if (!r.mtls) {
      this.#dial(connectorFor(this.#core, cluster), e.address, e.port, timeoutMs);
      return;
    }
    const links = this.#core.links.to(picked);
    links.connectTimeoutMs = timeoutMs;
    openTunnel(links, e.address, e.port, this.#core.sourceHeader, timeoutMs, this.#core.timers, this.#result);
  }

  #dial(connector: Connector, host: string, port: number, timeoutMs: number): void {
    dialTcp(connector, host, port, timeoutMs, this.#core.timers, this.#result);
  }

  readonly #result: DialResult = {
    connected: (pipe) => this.#reached(pipe),
    failed: (_reason, detail) => this.#again(detail),
  };

  /** At the other end of a tunnel through a forward proxy. */
  readonly #tunnelled: DialResult = {
    connected: (pipe) => this.#join(pipe),
    failed: (_reason, detail) => this.#again(detail),
  };

  #reached(up: Pipe): void {
    const cluster = this.#cluster?.cluster;
    const version = cluster?.proxyProtocol ?? 0;
    if (version > 0 && !this.#closed) up.write(proxyHeader(version === 1 ? 1 : 2, this.#addresses(up)));
    if (!cluster?.tunnel || this.#closed) {
      this.#join(up);
      return;
    }
    const timeoutMs = this.#cluster?.pool?.connectTimeoutMs || CONNECT_TIMEOUT_MS;
    throughForwardProxy(this.#core, up, cluster.tunnel, timeoutMs, this.#tunnelled);
  }

  /** Nothing was sent yet, so another endpoint may be tried. */
  #again(detail: string): void {
    if (this.#closed) return;
    const e = this.#endpoint;
    if (e && this.#cluster) {
      onEnd(e);
      onResult(e, this.#cluster, { status: 0, local: 'connect' }, this.#core.nowMs(), this.#core.random);
      this.#endpoint = undefined;
      if (this.#tried.length < CONNECT_ATTEMPTS && this.#hold.lost === undefined) {
        this.#next();
        return;
      }
      this.#fail('UF,URX', detail);
      return;
    }
    this.#fail('UF', detail);
  }

  #join(up: Pipe): void {
    if (this.#closed) {
      up.abort();
      return;
    }
    if (this.#hold.lost !== undefined) {
      up.abort();
      this.#fail('DC', 'downstream_remote_disconnect');
      return;
    }
    if (this.#endpoint && this.#cluster)
      onResult(this.#endpoint, this.#cluster, { status: 200 }, this.#core.nowMs(), this.#core.random);
    this.#open();
    let splice: Splice;
    const session: TcpSession = sessionOf(() => splice);
    this.#session = session;
    const { gate } = this.#target;
    if (gate) session.rejudge = (snapshot) => this.#rejudge(gate, snapshot, session);
    this.#sessions.add(session);
    const core = this.#core;
    const over = (end: SpliceEnd): void => {
      this.#sessions.delete(session);
      noteEnd(this.#record, end, core.observer);
      this.#close();
    };
    const pool = this.#cluster?.pool;
    const idleMs = pool?.tcpIdleTimeoutMs || core.limits.tcpIdleTimeoutMs;
    const down = this.#down;
    const rate = this.#bytesPerSecond;
    if (rate > 0) {
      const a = new PacedPipe(down, rate, core.timers, core.nowMs);
      const b = new PacedPipe(up, rate, core.timers, core.nowMs);
      splice = new Splice(a, b, core.ticker, over, idleMs, pool?.maxConnectionDurationMs);
      a.sink = splice.a;
      b.sink = splice.b;
      up.sink = b;
      this.#hold.release(down, a);
    } else {
      splice = new Splice(down, up, core.ticker, over, idleMs, pool?.maxConnectionDurationMs);
      up.sink = splice.b;
      this.#hold.release(down, splice.a);
    }
    down.resumeReading();
  }

  /** Whom the caller wanted to reach; where that was a name, whom it reaches. */
  #addresses(up: Pipe): ProxyAddresses {
    const { remoteAddress, remotePort } = this.#down;
    const { host, port } = this.#target;
    const named = isIP(host) === 0;
    const destination = named ? (this.#endpoint?.endpoint.address ?? up.remoteAddress) : host;
    return { source: remoteAddress, sourcePort: remotePort, destination, destinationPort: port };
  }

  /** Ends it from outside. */
  destroy(detail: string): void {
    if (this.#closed) return;
    if (this.#session) this.#session.destroy(detail);
    else this.#fail('', detail);
  }

  #fail(flag: string, details: string): void {
    if (this.#closed) return;
    const r = this.#record;
    r.flags = flag;
    r.details = details;
    this.#open();
    this.#down.abort();
    this.#close();
  }

  /** Told once it is known where to: what is open is counted by destination. */
  #open(): void {
    if (this.#opened) return;
    this.#opened = true;
    this.#core.observer.tcpOpen(this.#record);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#endpoint) onEnd(this.#endpoint);
    this.#endpoint = undefined;
    if (this.#counted && this.#cluster) releaseConnection(this.#cluster);
    this.#record.durationMs = this.#core.nowMs() - this.#startMs;
    this.#core.observer.tcpClose(this.#record);
    this.#target.onOver?.();
  }
}
