/**
 * One call that the proxy makes for itself: a request with its whole body to an endpoint of a cluster, over the mesh where
 * that is a mesh service, or to an address outside of it, and the whole answer. Tells once, within its time, of the answer or of why there is none.
 */
import {
  acquireRequest,
  type ClusterView,
  type EndpointView,
  onEnd,
  onResult,
  onStart,
  pickEndpoint,
  releaseRequest,
  type Snapshot,
} from '@weft/engine';
import { type Head, ignoreAll, own, type ResetCode, type Stream, type StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field } from '../http/headers.ts';
import type { Deadline, TimerOwner } from '../net/timers.ts';
import type { Asker, InsideTunnels, Lane } from '../upstream/lane.ts';
import { addMeshHeaders, poolFor } from './upstream.ts';

export interface SideAnswer {
  readonly status: number;
  readonly head: Head;
  readonly body: Buffer;
  readonly trailers: Head;
}

export type SideFailure = 'no_cluster' | 'no_endpoint' | 'overflow' | 'connect' | 'reset' | 'timeout' | 'too_long';

export interface SideRequest {
  readonly snapshot: Snapshot;
  readonly cluster: ClusterView | undefined;
  /** Of what is nothing of the mesh, in the place of a cluster. */
  readonly direct?: { readonly host: string; readonly port: number } | undefined;
  readonly head: Head;
  readonly body: Uint8Array;
  readonly h2: boolean;
  readonly timeoutMs: number;
  /** Bytes of the answer's body. */
  readonly maxAnswerBytes: number;
  /** It is this endpoint that is asked, whatever its state, and no request of the cluster's: only its answer counts. */
  readonly endpoint?: EndpointView;
}

export class SideCall implements StreamHandler, Asker, TimerOwner {
  /** It is over; nothing more is told. */
  abandoned = false;
  inside: InsideTunnels | undefined;
  readonly #core: Core;
  readonly #request: SideRequest;
  readonly #tell: (answer: SideAnswer | SideFailure) => void;
  #endpoint: EndpointView | undefined;
  #stream: Stream | undefined;
  #lane: Lane | undefined;
  #counted = false;
  #again = false;
  #deadline: Deadline | undefined;
  #head: Head = [];
  #status = 0;
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  constructor(core: Core, request: SideRequest, tell: (answer: SideAnswer | SideFailure) => void) {
    this.#core = core;
    this.#request = request;
    this.#tell = tell;
  }

  start(): this {
    const { cluster, direct, endpoint, timeoutMs } = this.#request;
    if (!cluster && !direct) return this.#over('no_cluster');
    if (cluster && !endpoint) {
      if (!acquireRequest(cluster)) return this.#over('overflow');
      this.#counted = true;
    }
    this.#deadline = this.#core.timers.add(timeoutMs, this);
    this.#try();
    return this;
  }

  /** Nobody waits for it any more. */
  cancel(): void {
    this.#end();
  }

  #try(): void {
    const { snapshot, cluster, direct, h2, endpoint } = this.#request;
    if (!cluster) {
      if (direct) this.#core.upstreams.pool(direct.host, direct.port, h2, undefined).ask(this);
      return;
    }
    const picked = endpoint ?? pickEndpoint(snapshot, cluster, this.#core.random, this.#core.nowMs());
    if (picked === 'none') {
      this.#over('no_endpoint');
      return;
    }
    this.#endpoint = picked;
    if (!endpoint) onStart(picked);
    poolFor(this.#core, cluster, picked, h2).ask(this);
  }

  onLane(lane: Lane): void {
    const { head, body } = this.#request;
    const sent = head.slice();
    if (lane.weft) addMeshHeaders(this.#core, sent, this.#endpoint as EndpointView);
    this.#lane = lane;
    const stream = lane.request(sent, body.length === 0, this);
    this.#stream = stream;
    if (body.length > 0 && !this.abandoned) stream.sendData(body, true);
  }

  onUnavailable(): void {
    this.#judge('connect');
    this.#over('connect');
  }

  onHead(_stream: Stream, head: Head, end: boolean): void {
    this.#head = head;
    this.#status = Number(field(head, ':status'));
    if (end) this.#answered([]);
  }

  onData(_stream: Stream, chunk: Uint8Array, end: boolean): void {
    if (this.abandoned) return;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#request.maxAnswerBytes) {
      // What it says of itself stands in its head.
      if (this.#request.endpoint) this.#tellAnswer([]);
      else this.#over('too_long');
      return;
    }
    if (chunk.length > 0) this.#chunks.push(own(chunk));
    if (end) this.#answered([]);
  }

  onTrailers(_stream: Stream, fields: Head): void {
    this.#answered(fields);
  }

  onReset(_stream: Stream, code: ResetCode): void {
    this.#stream = undefined;
    if (this.abandoned) return;
    this.#judge('reset');
    // A connection that was kept may have been closed while the request was on its way; asking twice changes nothing.
    const stale = this.#status === 0 && !this.#again && (code === 'refused' || this.#lane?.reused === true);
    if (!stale) {
      this.#over('reset');
      return;
    }
    this.#again = true;
    this.#release();
    this.#try();
  }

  onDrain(): void {}

  onTimer(): void {
    this.#judge('timeout');
    this.#over('timeout');
  }

  #judge(local: 'connect' | 'reset' | 'timeout' | undefined): void {
    const { cluster } = this.#request;
    if (this.abandoned || !this.#endpoint || !cluster || this.#request.endpoint) return;
    onResult(this.#endpoint, cluster, { status: this.#status, local }, this.#core.nowMs(), this.#core.random);
  }

  #answered(trailers: Head): void {
    if (this.abandoned) return;
    this.#judge(undefined);
    this.#stream = undefined;
    this.#tellAnswer(trailers);
  }

  #tellAnswer(trailers: Head): void {
    const answer = { status: this.#status, head: this.#head, body: Buffer.concat(this.#chunks), trailers };
    this.#end();
    this.#tell(answer);
  }

  #over(why: SideFailure): this {
    if (this.abandoned) return this;
    this.#end();
    this.#tell(why);
    return this;
  }

  #release(): void {
    if (this.#endpoint && !this.#request.endpoint) onEnd(this.#endpoint);
    this.#endpoint = undefined;
  }

  #end(): void {
    if (this.abandoned) return;
    this.abandoned = true;
    this.#deadline?.cancel();
    this.#release();
    if (this.#counted) releaseRequest(this.#request.cluster as ClusterView);
    this.#chunks = [];
    const stream = this.#stream;
    this.#stream = undefined;
    if (!stream) return;
    stream.handler = ignoreAll;
    stream.reset('cancel');
  }
}
