/**
 * A copy of a request that goes to another cluster beside the original, body chunks as they pass. Its answer is thrown
 * away, and it never holds the original up: a mirror that does not keep up is dropped and counted.
 */
import {
  acquireRequest,
  type ClusterView,
  type EndpointView,
  type MirrorDecision,
  mirrorAuthority,
  onEnd,
  onResult,
  onStart,
  pickEndpoint,
  releaseRequest,
} from '@weft/engine';
import { type Head, ignoreAll, own, type ResetCode, type Stream, type StreamHandler } from '@weft/wire';
import type { Core, InFlight } from '../core.ts';
import { field, setPseudo } from '../http/headers.ts';
import type { RequestCopy } from '../http/request-body.ts';
import type { Deadline, TimerOwner } from '../net/timers.ts';
import type { Asker, InsideTunnels, Lane } from '../upstream/lane.ts';
import { addMeshHeaders, poolFor } from './upstream.ts';

export class Mirror implements RequestCopy, StreamHandler, Asker, TimerOwner, InFlight {
  /** It is over: what still comes of the request is not wanted. */
  abandoned = false;
  inside: InsideTunnels | undefined;
  place = -1;
  readonly #core: Core;
  readonly #cluster: ClusterView | undefined;
  readonly #h2: boolean;
  #head!: Head;
  #endpoint: EndpointView | undefined;
  #counted = false;
  #stream: Stream | undefined;
  #deadline: Deadline | undefined;
  /** What came before there was a stream to send it on. */
  #held: Uint8Array[] = [];
  #trailers: Head | undefined;
  #requestEnded = false;
  /** Bytes that wait: held, or given to a stream that had no room. */
  #behind = 0;
  #blocked = false;
  #status = 0;
  #active = true;
  #idleSinceMs = 0;

  constructor(core: Core, decision: MirrorDecision, h2: boolean) {
    this.#core = core;
    this.#cluster = decision.cluster;
    this.#h2 = h2;
  }

  /** `head`: as it is sent to the original's destination; not kept. `timeoutMs` as the route's, 0: none. */
  prepare(head: Head, timeoutMs: number): this {
    const core = this.#core;
    const cluster = this.#cluster;
    core.observer.count('mirror_requests');
    // Copies are the first to go where a limit is met.
    if (
      core.overload.level > 0 ||
      core.exchanges.size >= core.limits.maxRequests ||
      (cluster && !acquireRequest(cluster))
    ) {
      this.abandoned = true;
      core.observer.count('mirror_dropped');
      return this;
    }
    this.#counted = cluster !== undefined;
    const picked = cluster ? pickEndpoint(core.snapshot!, cluster, core.random, core.nowMs()) : 'none';
    if (!cluster || picked === 'none') {
      this.#end('mirror_failed');
      return this;
    }
    this.#head = head.slice();
    setPseudo(this.#head, ':authority', mirrorAuthority(field(head, ':authority') ?? ''));
    this.#endpoint = picked;
    onStart(picked);
    core.exchanges.add(this);
    if (timeoutMs > 0) this.#deadline = core.timers.add(timeoutMs, this);
    return this;
  }

  begin(held: readonly Uint8Array[], trailers: Head | undefined, ended: boolean): void {
    for (const chunk of held) this.data(chunk, false);
    if (this.abandoned) return;
    this.#trailers = trailers;
    this.#requestEnded = ended;
    poolFor(this.#core, this.#cluster as ClusterView, this.#endpoint as EndpointView, this.#h2).ask(this);
  }

  data(chunk: Uint8Array, end: boolean): void {
    if (this.abandoned) return;
    if (end) this.#requestEnded = true;
    if (!this.#stream) {
      if (chunk.length > 0) this.#held.push(own(chunk));
      this.#wait(chunk.length);
      return;
    }
    if (!this.#stream.sendData(chunk, end)) this.#blocked = true;
    if (this.#blocked) this.#wait(chunk.length);
    else this.#active = true;
  }

  trailers(fields: Head): void {
    if (this.abandoned) return;
    this.#requestEnded = true;
    this.#trailers = fields;
    this.#stream?.sendTrailers(fields);
  }

  cut(): void {
    if (!this.#requestEnded) this.#end(undefined);
  }

  onLane(lane: Lane): void {
    const held = this.#held;
    if (lane.weft) addMeshHeaders(this.#core, this.#head, this.#endpoint as EndpointView);
    const whole = this.#requestEnded && !this.#trailers;
    const stream = lane.request(this.#head, whole && held.length === 0, this);
    this.#stream = stream;
    this.#held = [];
    this.#behind = 0;
    for (let i = 0; i < held.length && !this.abandoned; i++) {
      if (!stream.sendData(held[i], whole && i === held.length - 1)) this.#blocked = true;
      if (this.#blocked) this.#wait(held[i].length);
    }
    if (this.#trailers && !this.abandoned) stream.sendTrailers(this.#trailers);
  }

  onUnavailable(): void {
    this.#judge('connect');
    this.#end('mirror_failed');
  }

  onHead(_stream: Stream, head: Head, end: boolean): void {
    this.#active = true;
    this.#status = Number(field(head, ':status'));
    if (end) this.#answered();
  }

  onData(_stream: Stream, _chunk: Uint8Array, end: boolean): void {
    this.#active = true;
    if (end) this.#answered();
  }

  onTrailers(): void {
    this.#answered();
  }

  onReset(_stream: Stream, _code: ResetCode): void {
    this.#stream = undefined;
    this.#judge('reset');
    this.#end('mirror_failed');
  }

  onDrain(): void {
    this.#active = true;
    this.#blocked = false;
    this.#behind = 0;
  }

  onTimer(): void {
    this.#judge('timeout');
    this.#end('mirror_failed');
  }

  get heldBytes(): number {
    return this.#behind;
  }

  shed(): void {
    this.#end('mirror_dropped');
  }

  tick(nowMs: number): void {
    if (this.#active) {
      this.#active = false;
      this.#idleSinceMs = nowMs;
    } else if (nowMs - this.#idleSinceMs >= this.#core.limits.streamIdleTimeoutMs) this.onTimer();
  }

  #wait(bytes: number): void {
    this.#behind += bytes;
    if (this.#behind > this.#core.limits.mirrorBufferBytes) this.#end('mirror_dropped');
  }

  #answered(): void {
    this.#judge(undefined);
    if (this.#requestEnded) this.#stream = undefined;
    this.#end(undefined);
  }

  #judge(local: 'connect' | 'reset' | 'timeout' | undefined): void {
    const { nowMs, random } = this.#core;
    if (this.abandoned || !this.#endpoint || !this.#cluster) return;
    onResult(this.#endpoint, this.#cluster, { status: this.#status, local }, nowMs(), random);
  }

  #end(counter: string | undefined): void {
    if (this.abandoned) return;
    this.abandoned = true;
    if (counter) this.#core.observer.count(counter);
    this.#core.exchanges.delete(this);
    this.#deadline?.cancel();
    this.#held = [];
    if (this.#endpoint) onEnd(this.#endpoint);
    if (this.#counted) releaseRequest(this.#cluster as ClusterView);
    const stream = this.#stream;
    this.#stream = undefined;
    if (!stream) return;
    stream.handler = ignoreAll;
    stream.reset('cancel');
  }
}
