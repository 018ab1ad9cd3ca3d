/**
 * Asks endpoints how they are (HealthCheck), as the workload itself would: over the mesh link, with its identity, so that
 * policies of the one asked hold for checks too. When, and what follows from an answer, is the engine's to say.
 */
import {
  type ClusterView,
  dueChecks,
  type EndpointView,
  meshed,
  onHealthCheck,
  putOff,
  type Snapshot,
  withheld,
} from '@weft/engine';
import { type HealthCheck, Protocol } from '@weft/plan';
import type { Head } from '@weft/wire';
import type { Core } from '../core.ts';
import { openTunnel } from '../link/tunnel.ts';
import { type DialResult, dialTcp } from '../net/dial.ts';
import { HEALTH_PATH, healthFailure, healthRequest } from '../net/grpc-health.ts';
import { grpcCallHead } from '../net/grpc-unary.ts';
import type { Pipe } from '../net/pipe.ts';
import type { Deadline, Ticking, TimerOwner } from '../net/timers.ts';
import { SideCall } from './side-call.ts';
import { connectorFor } from './upstream.ts';

/** What is read of an answer's body; an HTTP check looks at its status alone. */
const ANSWER_BYTES = 64 * 1024;

const NO_BODY = new Uint8Array(0);
/** `:status` of an HTTP check's answer where the plan names none. */
const OK = 200;
export class HealthChecks implements Ticking {
  /** Checks that run now. */
  running = 0;
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
    core.ticker.add(this);
  }

  tick(nowMs: number): void {
    const { snapshot, draining, overload, random } = this.#core;
    // Requests come first where memory is short.
    if (!snapshot || draining || overload.level === 2) return;
    dueChecks(snapshot, nowMs, random, (cluster, endpoint, check) => this.#ask(snapshot, cluster, endpoint, check));
  }

  #ask(snapshot: Snapshot, cluster: ClusterView, endpoint: EndpointView, check: HealthCheck): void {
    const core = this.#core;
    if (this.running >= core.limits.maxHealthChecks) {
      core.observer.count('health_check_delayed');
      putOff(endpoint, core.nowMs());
      return;
    }
    this.running++;
    let told = false;
    const tell = (failure: string): void => {
      if (told) return;
      told = true;
      this.running--;
      this.#judge(cluster, endpoint, failure);
    };
    const { case: kind, value } = check.check;
    if (kind === 'tcp') {
      new ConnectionCheck(core, cluster, endpoint, tell).start(check.timeoutMs);
      return;
    }
    const { host, port, protocol } = cluster.cluster;
    const authority = `${host}:${port}`;
    const grpc = kind === 'grpc';
    const head: Head = grpc
      ? grpcCallHead(value.authority || authority, HEALTH_PATH, check.timeoutMs)
      : [':method', 'GET', ':scheme', 'http', ':authority', authority, ':path', value?.path || '/'];
    head.push('user-agent', 'weft-health-check');
    for (const h of kind === 'http' ? value.headers : []) {
      if (h.name === 'host') head[5] = h.value;
      else head.push(h.name, h.value);
    }
    const statuses = kind === 'http' ? value.statuses : [];
    const call = {
      ...{ snapshot, cluster, endpoint, head, timeoutMs: check.timeoutMs, maxAnswerBytes: ANSWER_BYTES },
      body: grpc ? healthRequest(value.service) : NO_BODY,
      h2: grpc || protocol === Protocol.HTTP2 || protocol === Protocol.GRPC,
    };
    new SideCall(core, call, (answer) => {
      if (typeof answer === 'string') tell(answer);
      else if (grpc) tell(healthFailure(answer.status, answer.head, answer.trailers, answer.body));
      else if (statuses.length > 0 ? statuses.includes(answer.status) : answer.status === OK) tell('');
      else tell(`status ${answer.status}`);
    }).start();
  }

  /** `failure`: '' where it passed. */
  #judge(cluster: ClusterView, endpoint: EndpointView, failure: string): void {
    const { snapshot, observer, random, logger, nowMs } = this.#core;
    observer.count(failure === '' ? 'health_check_passed' : 'health_check_failed');
    if (!snapshot) return;
    const change = onHealthCheck(snapshot, cluster, endpoint, failure === '', nowMs(), random);
    if (!change) return;
    observer.count(change === 'out' ? 'health_check_out' : 'health_check_in');
    const about = { cluster: cluster.name, endpoint: endpoint.endpoint.instance, failure };
    logger.info(about, change === 'out' ? 'endpoint fails its health checks' : 'endpoint passes its health checks');
  }
}

/** A connection that is made as those of clients are, and ended. */
class ConnectionCheck implements DialResult, TimerOwner {
  readonly #core: Core;
  readonly #cluster: ClusterView;
  readonly #endpoint: EndpointView;
  readonly #tell: (failure: string) => void;
  #deadline: Deadline | undefined;

  constructor(core: Core, cluster: ClusterView, endpoint: EndpointView, tell: (failure: string) => void) {
    this.#core = core;
    this.#cluster = cluster;
    this.#endpoint = endpoint;
    this.#tell = tell;
  }

  start(timeoutMs: number): void {
    const { links, sourceHeader, timers } = this.#core;
    const e = this.#endpoint.endpoint;
    if (withheld(this.#cluster, this.#endpoint)) {
      this.#tell('mtls_impossible');
      return;
    }
    this.#deadline = timers.add(timeoutMs, this);
    if (!meshed(this.#cluster, this.#endpoint)) {
      dialTcp(connectorFor(this.#core, this.#cluster), e.address, e.port, timeoutMs, timers, this);
      return;
    }
    openTunnel(links.to(this.#endpoint), e.address, e.port, sourceHeader, timeoutMs, timers, this);
  }

  connected(pipe: Pipe): void {
    this.#deadline?.cancel();
    pipe.sink = { bytes() {}, ended() {}, drained() {}, gone() {} };
    pipe.destroy('health check');
    this.#tell('');
  }

  failed(_reason: string, detail: string): void {
    this.#deadline?.cancel();
    this.#tell(detail || 'connect');
  }

  onTimer(): void {
    this.#tell('timeout');
  }
}
