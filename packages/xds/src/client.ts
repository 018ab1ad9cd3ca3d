/** Delta ADS over gRPC, the client's side: keeps one stream up and answers each change. */
import { create } from '@bufbuild/protobuf';
import { createClient, type Transport } from '@connectrpc/connect';
import { type Clock, type Logger, type Random, silentLogger, systemClock, systemRandom, type Timer } from '@weft/base';
import { AggregatedDiscoveryService } from './gen/envoy/service/discovery/v3/ads_pb.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { AsyncQueue } from './queue.ts';

const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 4000;
/** A server answers each subscription, so silence after connecting means that it is not well. */
const FIRST_RESPONSE_MS = 10_000;

/** What one response changes; applied whole or not at all. */
export interface Change {
  updated: { name: string; version: string; bytes: Uint8Array }[];
  removed: string[];
  /** The server's label of the state it makes: an epoch. */
  label: string;
}

export type AdsState = 'connecting' | 'connected' | 'disconnected' | 'stopped';

export interface AdsClientOptions {
  /** Makes a transport for each connection, with the certificates of that moment; `close` ends its sockets. */
  connect(): { transport: Transport; close(): void };
  node: { id: string; cluster: string; metadata?: Record<string, string> };
  types: readonly string[];
  /** Applies a change whole. Throwing means NACK with the error's message; the old state is kept. */
  onUpdate(type: string, change: Change): void | Promise<void>;
  onState?(state: AdsState, detail: string): void;
  /** What is held from before, e.g. from disk: type → name → version. */
  initial?: ReadonlyMap<string, ReadonlyMap<string, string>>;
  clock?: Clock;
  random?: Random;
  logger?: Logger;
}

export class AdsClient {
  readonly #options: AdsClientOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #held = new Map<string, Map<string, string>>();
  #generation = 0;
  #state: AdsState = 'stopped';
  #attempt = 0;
  #close: (() => void) | undefined;
  #timer: Timer | undefined;

  constructor(options: AdsClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#logger = options.logger ?? silentLogger;
    for (const type of options.types) this.#held.set(type, new Map(options.initial?.get(type)));
  }

  get state(): AdsState {
    return this.#state;
  }

  /** Versions of what was applied: what a snapshot on disk keeps beside the bytes. */
  versions(type: string): ReadonlyMap<string, string> {
    return this.#held.get(type) ?? new Map();
  }

  start(): void {
    if (this.#state !== 'stopped') return;
    this.#attempt = 0;
    void this.#run(++this.#generation);
  }

  stop(): void {
    this.#generation++;
    this.#drop();
    this.#to('stopped', '');
  }

  /** Leaves the stream for a new one: the certificate it was made with was replaced. */
  reconnect(): void {
    if (this.#state === 'stopped') return;
    this.#generation++;
    this.#drop();
    this.#attempt = 0;
    void this.#run(this.#generation);
  }

  #drop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const close = this.#close;
    this.#close = undefined;
    close?.();
  }

  #to(state: AdsState, detail: string): void {
    if (state === this.#state) return;
    this.#state = state;
    try {
      this.#options.onState?.(state, detail);
    } catch (error) {
      this.#logger.error({ error: String(error) }, 'a listener of the xDS state failed');
    }
  }

  async #run(generation: number): Promise<void> {
    this.#to('connecting', '');
    let detail = 'the control plane ended the stream';
    let connection: { transport: Transport; close(): void } | undefined;
    const abort = new AbortController();
    const requests = new AsyncQueue<DeltaDiscoveryRequest>();
    try {
      connection = this.#options.connect();
      const opened = connection;
      this.#close = () => {
        requests.end();
        abort.abort();
        opened.close();
      };
      for (const request of this.#firstRequests()) requests.push(request);
      this.#timer = this.#clock.after(FIRST_RESPONSE_MS, () =>
        abort.abort(new Error('no answer from the control plane')),
      );
      const responses = createClient(AggregatedDiscoveryService, opened.transport).deltaAggregatedResources(requests, {
        signal: abort.signal,
      });
      for await (const response of responses) {
        if (generation !== this.#generation) return;
        this.#timer?.cancel();
        this.#attempt = 0;
        this.#to('connected', '');
        const answer = await this.#apply(response);
        if (generation !== this.#generation) return;
        requests.push(answer);
      }
    } catch (error) {
      detail = error instanceof Error ? error.message : String(error);
    } finally {
      requests.end();
      try {
        connection?.close();
      } catch {
        // It is gone either way.
      }
    }
    if (generation !== this.#generation) return;
    this.#drop();
    this.#to('disconnected', detail);
    const waitMs =
      Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(this.#attempt++, 10)) *
      (0.5 + 0.5 * this.#random.next());
    this.#logger.warn({ detail, waitMs: Math.round(waitMs) }, 'no xDS stream; keeping the last plan');
    this.#timer = this.#clock.after(waitMs, () => {
      if (generation === this.#generation) void this.#run(generation);
    });
  }

  *#firstRequests(): Generator<DeltaDiscoveryRequest> {
    const { node } = this.#options;
    let first = true;
    for (const [type, held] of this.#held) {
      yield create(DeltaDiscoveryRequestSchema, {
        node: first ? { id: node.id, cluster: node.cluster, metadata: node.metadata ?? {} } : undefined,
        typeUrl: type,
        // fromEntries defines own properties, so that no name can be taken for the prototype's.
        initialResourceVersions: Object.fromEntries(held),
      });
      first = false;
    }
  }

  /** Applies a response and makes the answer to it. */
  async #apply(response: DeltaDiscoveryResponse): Promise<DeltaDiscoveryRequest> {
    const { typeUrl: type, nonce } = response;
    const answer = create(DeltaDiscoveryRequestSchema, { typeUrl: type, responseNonce: nonce });
    const held = this.#held.get(type);
    try {
      if (!held) throw new Error(`resource type ${type.slice(0, 200)} was not asked for`);
      const change: Change = { updated: [], removed: response.removedResources, label: response.systemVersionInfo };
      for (const { name, version, resource } of response.resources) {
        if (!resource) throw new Error(`resource ${name.slice(0, 200)} has no content`);
        change.updated.push({ name, version, bytes: resource.value });
      }
      await this.#options.onUpdate(type, change);
      for (const { name, version } of change.updated) held.set(name, version);
      for (const name of change.removed) held.delete(name);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#logger.error({ type, error: message }, 'a change from the control plane was refused');
      // google.rpc.Code INVALID_ARGUMENT
      answer.errorDetail = { $typeName: 'google.rpc.Status', code: 3, message: message.slice(0, 4096), details: [] };
    }
    return answer;
  }
}
