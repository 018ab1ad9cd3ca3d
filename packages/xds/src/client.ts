/** Delta ADS over gRPC, the client's side: keeps one stream up and answers each change. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Clock, type Logger, type Random, silentLogger, systemClock, systemRandom, type Timer } from '@weft/base';
import type { ServerAddress } from './channel.ts';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { GrpcCall, type Pings } from './grpc-call.ts';
import { DELTA_PATH } from './paths.ts';

const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 4000;
/** A server answers each subscription, so silence after connecting means that it is not well. */
const FIRST_RESPONSE_MS = 30_000;
const MAX_RESPONSE_BYTES = 256 * 1024 * 1024;

/** What one response changes; applied whole or not at all. */
export interface Change {
  updated: { name: string; version: string; bytes: Uint8Array }[];
  removed: string[];
  /** The server's label of the state it makes: an epoch. */
  label: string;
}

export type AdsState = 'connecting' | 'connected' | 'disconnected' | 'stopped';

export interface AdsClientOptions {
  /** Where to dial for each connection, with the certificates of that moment. */
  connect(): ServerAddress;
  node: { id: string; cluster: string; metadata?: Record<string, string> };
  types: readonly string[];
  /** Applies a change whole. Throwing means NACK with the error's message; the old state is kept. */
  onUpdate(type: string, change: Change): void | Promise<void>;
  onState?(state: AdsState, detail: string): void;
  /** What is held from before, e.g. from disk: type → name → version. */
  initial?: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** How a server is noticed that hangs. */
  pings?: Pings;
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
  readonly #named = new Map<string, ReadonlySet<string>>();
  #generation = 0;
  #state: AdsState = 'stopped';
  #attempt = 0;
  #call: GrpcCall | undefined;
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
    this.#run(++this.#generation);
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
    this.#run(this.#generation);
  }

  /**
   * Asks for these by name, in place of those before, beside everything of the type: what changes of them the server may
   * send first. Kept over connections; each change of them is a request, which the server answers.
   */
  name(type: string, names: Iterable<string>): void {
    const before = this.#named.get(type) ?? new Set<string>();
    const now = new Set(names);
    this.#named.set(type, now);
    const resourceNamesSubscribe = [...now].filter((n) => !before.has(n));
    const resourceNamesUnsubscribe = [...before].filter((n) => !now.has(n));
    if (!this.#call || resourceNamesSubscribe.length + resourceNamesUnsubscribe.length === 0) return;
    const request = { typeUrl: type, resourceNamesSubscribe, resourceNamesUnsubscribe };
    this.#call.send(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, request)));
  }

  #drop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#call?.close();
    this.#call = undefined;
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

  #run(generation: number): void {
    this.#to('connecting', '');
    const ended = (detail: string): void => {
      if (generation === this.#generation) this.#again(detail);
    };
    // One after the other, in their order, however long applying takes.
    let applied: Promise<void> = Promise.resolve();
    const answer = async (call: GrpcCall, bytes: Uint8Array): Promise<void> => {
      if (generation !== this.#generation) return;
      this.#timer?.cancel();
      this.#attempt = 0;
      this.#to('connected', '');
      // Parts are views of the message: a copy of its own, not of what came with it in one read.
      const message = fromBinary(DeltaDiscoveryResponseSchema, new Uint8Array(bytes));
      const request = await this.#apply(message);
      if (generation === this.#generation) call.send(toBinary(DeltaDiscoveryRequestSchema, request));
    };
    try {
      const { pings, connect } = this.#options;
      const events = {
        onMessage: (bytes: Uint8Array) => {
          applied = applied.then(() => answer(call, bytes)).catch((error) => ended(String(error)));
        },
        // What came before the end is still applied.
        onClose: (error?: Error) =>
          void applied.then(() => ended(error?.message ?? 'the control plane ended the stream')),
      };
      const call = new GrpcCall(connect(), DELTA_PATH, MAX_RESPONSE_BYTES, this.#clock, events, pings);
      this.#call = call;
      for (const request of this.#firstRequests()) call.send(toBinary(DeltaDiscoveryRequestSchema, request));
      this.#timer = this.#clock.after(FIRST_RESPONSE_MS, () => ended('no answer from the control plane'));
    } catch (error) {
      // No certificate yet, or none that can be used.
      const detail = error instanceof Error ? error.message : String(error);
      void applied.then(() => ended(detail));
    }
  }

  #again(detail: string): void {
    const generation = ++this.#generation;
    this.#drop();
    this.#to('disconnected', detail);
    const waitMs =
      Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(this.#attempt++, 10)) *
      (0.5 + 0.5 * this.#random.next());
    this.#logger.warn({ detail, waitMs: Math.round(waitMs) }, 'no xDS stream; keeping the last plan');
    this.#timer = this.#clock.after(waitMs, () => {
      if (generation === this.#generation) this.#run(generation);
    });
  }

  *#firstRequests(): Generator<DeltaDiscoveryRequest> {
    const { node } = this.#options;
    let first = true;
    for (const [type, held] of this.#held) {
      const named = this.#named.get(type);
      yield create(DeltaDiscoveryRequestSchema, {
        node: first ? { id: node.id, cluster: node.cluster, metadata: node.metadata ?? {} } : undefined,
        typeUrl: type,
        resourceNamesSubscribe: named?.size ? ['*', ...named] : [],
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
        // What was asked for by name comes again, whether it changed or not.
        if (version !== '' && held.get(name) === version) continue;
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
