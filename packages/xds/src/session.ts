/**
 * The server's half of one delta xDS stream, without I/O: what the client asked for, what it holds, what it is owed.
 * The change that makes the client's state the wanted one travels as one response for each type, answered by one ACK
 * or NACK; meanwhile nothing more of that type is sent, so that a slow client is owed at most one response a type.
 * A client may take everything and name some beside it: that changes nothing of what it gets, only who looks at the names
 * (AdsStream.names) may serve it sooner.
 */
import { WeftError } from '@weft/base';
import { type Diff, diff, type Named, NO_RESOURCES, type Resource, type Resources } from './diff.ts';
import type { DeltaResponse } from './encode.ts';
import type { DeltaDiscoveryRequest } from './gen/envoy/service/discovery/v3/discovery_pb.js';

/** Bounds on what a client can make the server remember. */
const MAX_NAMES = 20_000;
const MAX_NAME_LENGTH = 1024;

export interface TypeStatus {
  /** Responses sent, and nonce order of the newest; 0: nothing was sent yet. */
  sent: number;
  /** The label (see `set`) of the state that the client last accepted. */
  acked: string | undefined;
  /** The label of the newest state that was sent. */
  offered: string | undefined;
  /** The reason of the last NACK, until a later ACK. */
  error: string | undefined;
  /** A response waits for its answer. */
  pending: boolean;
  /** The client accepted all that is wanted now. */
  current: boolean;
  subscribed: boolean;
}

/**
 * A state in parts with different names: what one client alone gets, and what many share. A shared part is the same
 * object for all of them, so that a stream costs no memory and no work for it beyond a pointer.
 */
export type Layers = readonly Resources[];

interface Outstanding {
  nonce: string;
  /** What the client holds once it says ACK, where it was sent all of it. */
  layers: Layers;
  whole: boolean;
  /** What it changes. */
  changes: readonly Diff[];
  generation: number;
  label: string;
}

interface TypeState {
  wanted: Layers;
  label: string;
  generation: number;
  /** Whether `set` was called: before it nothing is known, and nothing is sent. */
  known: boolean;
  subscribed: boolean;
  wildcard: boolean;
  names: Set<string>;
  /** Asked for again, or left while everything is taken: sent with the next response, whatever the client holds. */
  again: Set<string>;
  /** What a client that takes everything has acknowledged, whole. */
  heldLayers: Layers | undefined;
  /** Instead of that: what the client holds by its own word, or asked for by name: name → version. */
  held: Map<string, string>;
  /** Subscribed by name and told to be absent. */
  absent: Set<string>;
  outstanding: Outstanding | undefined;
  rejectedGeneration: number;
  ackedGeneration: number;
  /** A (re)subscription is always answered, with an empty response if there is nothing new. */
  mustAnswer: boolean;
  sent: number;
  acked: string | undefined;
  offered: string | undefined;
  error: string | undefined;
}

export class DeltaSession {
  readonly #types = new Map<string, TypeState>();
  #nonce = 0;

  /** `types` in the order in which changes are sent: what refers before what is referred to, as Envoy's CDS before EDS. */
  constructor(types: readonly string[]) {
    for (const type of types) {
      this.#types.set(type, {
        wanted: [],
        label: '',
        generation: 0,
        known: false,
        subscribed: false,
        wildcard: false,
        names: new Set(),
        again: new Set(),
        heldLayers: undefined,
        held: new Map(),
        absent: new Set(),
        outstanding: undefined,
        rejectedGeneration: -1,
        ackedGeneration: -1,
        mustAnswer: false,
        sent: 0,
        acked: undefined,
        offered: undefined,
        error: undefined,
      });
    }
  }

  /**
   * The whole wanted state of one type; `label` names it in status (an epoch). Returns whether it differs from what was
   * wanted before. The maps may not be changed afterwards.
   */
  set(type: string, layers: Layers, label = ''): boolean {
    const state = this.#state(type);
    const changed = !state.known || steps(state.wanted, layers).some(isStep);
    state.known = true;
    state.label = label;
    if (changed) {
      state.wanted = layers;
      state.generation++;
    } else if (!state.outstanding && state.acked !== undefined && state.error === undefined) {
      // Nothing to send: the client holds the new state already.
      state.acked = label;
      state.offered = label;
    } else if (state.outstanding?.generation === state.generation) {
      state.outstanding.label = label;
      state.offered = label;
    }
    return changed;
  }

  /**
   * Takes a request in; throws `xds/…` where the client breaks the protocol, and the stream must end. Returns whether it
   * asks for something by name.
   */
  receive(request: DeltaDiscoveryRequest): boolean {
    const state = this.#state(request.typeUrl);
    this.#answer(state, request);
    if (!state.subscribed) {
      state.subscribed = true;
      state.mustAnswer = true;
      const names = request.resourceNamesSubscribe;
      state.wildcard = names.length === 0 || names.includes('*');
      const initial = Object.entries(request.initialResourceVersions);
      if (state.wildcard && initial.length === 0) state.heldLayers = [];
      for (const [name, version] of initial) {
        checkName(name, state.held.size);
        state.held.set(name, version);
      }
      for (const name of names) this.#subscribe(state, name, true);
    } else {
      for (const name of request.resourceNamesSubscribe) this.#subscribe(state, name, false);
    }
    for (const name of request.resourceNamesUnsubscribe) this.#unsubscribe(state, name);
    return request.resourceNamesSubscribe.length > 0;
  }

  /** What the client asked for by name, beside everything or instead of it. */
  names(type: string): ReadonlySet<string> {
    return this.#state(type).names;
  }

  /** The responses that are due, in the order of the types. */
  pull(): DeltaResponse[] {
    const responses: DeltaResponse[] = [];
    for (const [type, state] of this.#types) {
      const response = this.#due(type, state);
      if (response) responses.push(response);
    }
    return responses;
  }

  status(type: string): TypeStatus {
    const { sent, acked, offered, error, outstanding, subscribed, ackedGeneration, generation } = this.#state(type);
    const current = ackedGeneration === generation && error === undefined;
    return { sent, acked, offered, error, pending: outstanding !== undefined, subscribed, current };
  }

  #state(type: string): TypeState {
    const state = this.#types.get(type);
    if (!state) {
      const known = [...this.#types.keys()].join(', ');
      throw new WeftError(
        'xds/unknown-type',
        `resource type ${JSON.stringify(type.slice(0, 200))} is not served here: ask for one of ${known}`,
      );
    }
    return state;
  }

  #subscribe(state: TypeState, name: string, first: boolean): void {
    if (name === '*') {
      state.wildcard = true;
    } else {
      checkName(name, state.names.size);
      state.names.add(name);
      state.absent.delete(name);
      // Asking again for a name means: send it again, except when the client says which version it has.
      if (!first || state.heldLayers) state.again.add(name);
    }
    state.mustAnswer = true;
  }

  #unsubscribe(state: TypeState, name: string): void {
    if (name === '*') {
      state.wildcard = false;
      byName(state);
      return;
    }
    if (!state.names.delete(name)) return;
    state.absent.delete(name);
    if (state.wildcard) {
      // It cannot know whether everything has that in it: it is told.
      state.again.add(name);
      state.mustAnswer = true;
    } else {
      state.again.delete(name);
      state.held.delete(name);
    }
  }

  #answer(state: TypeState, request: DeltaDiscoveryRequest): void {
    const outstanding = state.outstanding;
    if (!outstanding || request.responseNonce !== outstanding.nonce) return;
    state.outstanding = undefined;
    if (request.errorDetail) {
      state.error = (request.errorDetail.message || `code ${request.errorDetail.code}`).slice(0, 4096);
      // The same again would be refused again: the next try is the next change.
      state.rejectedGeneration = outstanding.generation;
      return;
    }
    if (state.wildcard && outstanding.whole) {
      state.heldLayers = outstanding.layers;
      state.held.clear();
    } else {
      for (const { updated, removed } of outstanding.changes) {
        for (const { name, resource } of updated) state.held.set(name, resource.version);
        for (const name of removed) {
          state.held.delete(name);
          if (state.names.has(name)) state.absent.add(name);
        }
      }
    }
    state.acked = outstanding.label;
    state.ackedGeneration = outstanding.generation;
    state.error = undefined;
  }

  #due(type: string, state: TypeState): DeltaResponse | undefined {
    if (!state.subscribed || !state.known || state.outstanding || state.rejectedGeneration === state.generation)
      return undefined;
    const { heldLayers, label, wildcard: whole } = state;
    const changes = (heldLayers ? steps(heldLayers, state.wanted) : [changeByName(state)]).filter(isStep);
    if (heldLayers && state.again.size > 0) changes.push(sameAgain(state, heldLayers));
    if (changes.length === 0 && !state.mustAnswer) return undefined;
    state.mustAnswer = false;
    state.again.clear();
    const nonce = `${++this.#nonce}`;
    state.outstanding = { nonce, layers: state.wanted, whole, changes, generation: state.generation, label };
    state.sent++;
    state.offered = label;
    return { typeUrl: type, systemVersionInfo: label, nonce, changes };
  }
}

function isStep(change: Diff): boolean {
  return change.updated.length > 0 || change.removed.length > 0;
}

/** The change of each layer; a layer that one side lacks is empty there. */
function steps(from: Layers, to: Layers): Diff[] {
  const out: Diff[] = [];
  for (let i = 0; i < Math.max(from.length, to.length); i++) {
    out.push(diff(from[i] ?? NO_RESOURCES, to[i] ?? NO_RESOURCES));
  }
  return out;
}

/** From now on it is kept name by name what this client holds. */
function byName(state: TypeState): void {
  for (const layer of state.heldLayers ?? []) for (const [name, { version }] of layer) state.held.set(name, version);
  state.heldLayers = undefined;
}

/** Of what was asked for again, what is as the client holds it: a step between layers leaves it out. */
function sameAgain({ again, wanted }: TypeState, held: Layers): Diff {
  const updated: Named[] = [];
  const removed: string[] = [];
  for (const name of again) {
    const resource = find(wanted, name);
    if (resource?.version !== find(held, name)?.version) continue;
    if (resource) updated.push({ name, resource });
    else removed.push(name);
  }
  return { updated, removed };
}

function find(layers: Layers, name: string): Resource | undefined {
  for (const layer of layers) {
    const found = layer.get(name);
    if (found) return found;
  }
  return undefined;
}

function changeByName(state: TypeState): Diff {
  const updated: Named[] = [];
  const removed: string[] = [];
  const isWanted = (name: string): boolean => state.wanted.some((layer) => layer.has(name));
  for (const layer of state.wanted) {
    for (const [name, resource] of layer) {
      if (!state.wildcard && !state.names.has(name)) continue;
      if (state.held.get(name) !== resource.version || state.again.has(name)) updated.push({ name, resource });
    }
  }
  for (const name of state.held.keys()) if (!isWanted(name)) removed.push(name);
  for (const name of state.names) {
    if (!isWanted(name) && !state.held.has(name) && !state.absent.has(name)) removed.push(name);
  }
  return { updated, removed };
}

function checkName(name: string, count: number): void {
  if (name.length > MAX_NAME_LENGTH) {
    throw new WeftError(
      'xds/name-too-long',
      `a resource name of ${name.length} characters was asked for: at most ${MAX_NAME_LENGTH} are allowed`,
    );
  }
  if (count >= MAX_NAMES) {
    throw new WeftError('xds/too-many-names', `more than ${MAX_NAMES} resource names were asked for on one stream`);
  }
}
