/** From the mesh to the bytes that proxies get: made once for all who get the same, and again only where it changed. */
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  changeOf,
  clientClass,
  compileEndpoints,
  compileOwn,
  compileReached,
  compileServiceEndpoints,
  compileTold,
  compileWorkload,
  hostCovers,
  type Instance,
  type MeshRuntime,
  type Model,
  type ModelChange,
  orderOfServices,
  resourceOfRef,
  type ServiceModel,
  type ServicePiece,
  serviceHost,
  servicesSelecting,
  sharedPieces,
} from '@weft/model';
import {
  ENDPOINTS_TYPE,
  type Endpoints,
  EndpointsSchema,
  PART_TYPE,
  type Part,
  PartSchema,
  REFERENCES_TYPE,
  type Reference,
  ReferencesSchema,
  workloadName,
} from '@weft/plan';
import type { Layers, Resource, Resources } from '@weft/xds';

/**
 * Types in sending order: what a reference stands for before what carries it, and clusters before their endpoints.
 */
export const TYPES = [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE] as const;

interface Plan {
  readonly parts: Resources;
  readonly references: Resources;
}

/** A service's piece of a class's plan, as bytes. */
interface Piece {
  readonly parts: Resources;
  /** By the resource that they stand for. */
  readonly references: ReadonlyMap<string, readonly Reference[]>;
  readonly leadsTo: readonly string[];
}

/** What all clients of a class get, and the pieces it was made of, by the service's place in the model. */
interface Shared {
  plan: Plan;
  /** An epoch came since the plan was made; pieces that it may have changed are gone. */
  stale: boolean;
  told: Map<number, Piece>;
  clusters: Map<number, Piece>;
  /** Of the plan, in order. */
  pieces: ReadonlySet<Piece>;
}

interface Own {
  readonly instance: Instance;
  readonly parts: Resources;
  readonly entries: readonly Reference[];
  /** A limit in it is that of several replicas: how many there are matters. */
  readonly counts: boolean;
  epoch: number;
  references: Resources;
}

/** Of so many classes the resources are looked through for equal ones: most classes differ in few. */
const ALIKE = 3;

const NOTHING: Resources = new Map();

/** What one proxy is to hold. Layers that proxies share are the same object in each. */
export interface ProxyResources {
  readonly parts: Layers;
  readonly references: Layers;
  readonly endpoints: Layers;
}

export class Renderer {
  #model: Model | undefined;
  #epoch: number | undefined;
  #runtime: MeshRuntime | undefined;
  #endpoints: Resources = NOTHING;
  readonly #shared = new Map<string, Shared>();
  #trust: Resources = NOTHING;
  readonly #own = new Map<string, Own>();

  /**
   * A new epoch: what it may have changed is made again; what comes out with the same bytes stays the same object. `moved`:
   * instances or addresses of names may be others too.
   */
  epoch(model: Model, runtime: MeshRuntime, epoch: number, moved = true): void {
    const before = this.#runtime;
    const change = this.#model && before && sameRuntime(before, runtime) ? changeOf(this.#model, model) : undefined;
    this.#model = model;
    this.#runtime = runtime;
    this.#epoch = epoch;
    const covered = change ? coveredServices(model, change.hosts) : new Set<number>();
    for (const [key, shared] of this.#shared) {
      // Nobody of the class asked since the last epoch.
      if (shared.stale) this.#shared.delete(key);
      else outdate(shared, change, covered);
    }
    for (const [name, own] of this.#own) {
      // Gateways have routes of their own.
      const counted = moved && own.counts;
      const stays =
        change && !counted && !own.instance.gateway && !own.entries.some((r) => change.touched.has(resourceOfRef(r)));
      if (!stays) this.#own.delete(name);
    }
    if (change && !moved) {
      const services = [...covered].map((place) => model.services[place]!);
      this.#takeEndpoints(bytesOf(compileServiceEndpoints(model, runtime, services)), []);
    } else this.#endpoints = encoded(bytesOf(compileEndpoints(model, runtime)), [this.#endpoints]);
  }

  /** What these names have now, and names that are no longer. */
  #takeEndpoints(fresh: ReadonlyMap<string, Uint8Array>, gone: readonly string[]): void {
    const all = new Map(this.#endpoints);
    for (const name of gone) all.delete(name);
    for (const [name, resource] of encoded(fresh, [this.#endpoints])) all.set(name, resource);
    this.#endpoints = same(all, this.#endpoints) ? this.#endpoints : all;
  }

  /** Instances came, changed or went; `changed` holds them as they were and as they are; `renamed`: services with other addresses. */
  instances(runtime: MeshRuntime, changed: readonly Instance[], renamed: readonly ServiceModel[] = []): void {
    this.#runtime = runtime;
    const model = this.#model;
    if (!model) return;
    // Those of a Server are in one namespace.
    const namespaces = new Set(changed.map((i) => i.namespace));
    for (const [name, own] of this.#own)
      if (own.counts && namespaces.has(own.instance.namespace)) this.#own.delete(name);
    const services = new Set<ServiceModel>([...renamed, ...changed.flatMap((i) => servicesSelecting(model, i))]);
    const fresh = bytesOf(compileServiceEndpoints(model, runtime, services));
    const gone: string[] = [];
    const now = new Map(runtime.instances.map((i) => [i.name, i]));
    for (const { name } of changed) {
      const instance = now.get(name);
      const workload = instance && compileWorkload(instance);
      if (workload) fresh.set(workloadName(name), toBinary(EndpointsSchema, workload));
      else gone.push(workloadName(name));
    }
    this.#takeEndpoints(fresh, gone);
  }

  /** The part of whom to believe, which no epoch changes. */
  trust(part: Uint8Array): void {
    this.#trust = encoded(new Map([['trust', part]]), [this.#trust]);
  }

  /** The epoch that is made; undefined: none yet. */
  get epochMade(): number | undefined {
    return this.#epoch;
  }

  get endpoints(): Resources {
    return this.#endpoints;
  }

  of(instance: Instance): ProxyResources {
    const model = this.#model as Model;
    const runtime = this.#runtime as MeshRuntime;
    const shared = this.#sharedOf(model, runtime, instance);
    const own = this.#ownOf(model, runtime, instance);
    return {
      parts: [own.parts, shared.parts, this.#trust],
      references: [own.references, shared.references],
      endpoints: [this.#endpoints],
    };
  }

  #sharedOf(model: Model, runtime: MeshRuntime, client: Instance): Plan {
    const key = clientClass(model, runtime, client);
    let shared = this.#shared.get(key);
    if (shared && !shared.stale) return shared.plan;
    if (!shared) {
      const plan = { parts: NOTHING, references: NOTHING };
      shared = { plan, stale: true, told: new Map(), clusters: new Map(), pieces: new Set() };
      this.#shared.set(key, shared);
    }
    const alike = [shared.plan];
    for (const other of this.#shared.values()) {
      if (other !== shared && alike.push(other.plan) > ALIKE) break;
    }
    const parts = alike.map((plan) => plan.parts);
    const places = orderOfServices(model);
    const kept = (
      before: ReadonlyMap<number, Piece>,
      now: Map<number, Piece>,
      make: (service: ServiceModel) => ServicePiece,
    ) => {
      return (service: ServiceModel): Piece => {
        const place = places.get(service) as number;
        const piece = before.get(place) ?? pieceOf(make(service), parts);
        now.set(place, piece);
        return piece;
      };
    };
    const told = new Map<number, Piece>();
    const clusters = new Map<number, Piece>();
    const pieces = new Set(
      sharedPieces(
        model,
        client,
        kept(shared.told, told, (service) => compileTold(model, runtime, client, service)),
        kept(shared.clusters, clusters, (service) => compileReached(model, runtime, client, service)),
      ),
    );
    const added = without(pieces, shared.pieces);
    const gone = without(shared.pieces, pieces);
    const dirty = new Set([...added, ...gone].flatMap((piece) => [...piece.references.keys()]));
    shared.plan = {
      parts: joined(pieces, added, gone, shared.plan.parts),
      references: referencesOf(pieces, dirty, alike),
    };
    Object.assign(shared, { told, clusters, pieces });
    shared.stale = false;
    return shared.plan;
  }

  #ownOf(model: Model, runtime: MeshRuntime, instance: Instance): Own {
    let own = this.#own.get(instance.name);
    if (own?.instance !== instance) {
      const { parts, references: entries } = compileOwn(model, runtime, instance);
      const bytes = new Map([...parts].map(([name, part]) => [name, toBinary(PartSchema, part)]));
      const counts = [...parts.values()].some(countsReplicas);
      own = { instance, parts: encoded(bytes, []), entries, counts, epoch: -1, references: NOTHING };
      this.#own.set(instance.name, own);
    }
    const epoch = this.#epoch as number;
    if (own.epoch !== epoch) {
      own.references = encoded(ownReferences(own.entries, epoch), []);
      own.epoch = epoch;
    }
    return own;
  }

  /** Whether the parts that an instance's proxy has alone are as they were made last: they go by what it is, at times by who is beside it. */
  isKept(instance: Instance | undefined): boolean {
    return instance !== undefined && this.#own.get(instance.name)?.instance === instance;
  }

  forget(name: string): void {
    this.#own.delete(name);
  }
}

function countsReplicas({ kind }: Part): boolean {
  if (kind.case !== 'inbound') return false;
  const { rateLimit, connectionLimit } = kind.value;
  return (rateLimit?.replicas ?? 0) > 0 || (connectionLimit?.replicas ?? 0) > 0;
}

/** Whether what plans read of it beside the model is the same. Instances and addresses of names are in endpoints alone. */
function sameRuntime(a: MeshRuntime, b: MeshRuntime): boolean {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof MeshRuntime>;
  for (const key of keys) {
    if (key === 'instances' || key === 'resolved' || a[key] === b[key]) continue;
    if (!(a[key] instanceof Map && b[key] instanceof Map)) return false;
    // Its values are strings, or lists of them.
    if (JSON.stringify([...(a[key] as Map<string, unknown>)]) !== JSON.stringify([...(b[key] as Map<string, unknown>)]))
      return false;
  }
  return true;
}

function coveredServices(model: Model, hosts: readonly string[]): Set<number> {
  const covered = new Set<number>();
  const patterns = [...new Set(hosts)];
  for (const [place, service] of model.services.entries()) {
    const host = serviceHost(service, model.domain);
    if (patterns.some((p) => hostCovers(p, host))) covered.add(place);
  }
  return covered;
}

/** Takes the pieces away that the change may reach, or whose rules stand elsewhere now. */
function outdate(shared: Shared, change: ModelChange | undefined, covered: ReadonlySet<number>): void {
  shared.stale = true;
  if (!change) {
    shared.told.clear();
    shared.clusters.clear();
    return;
  }
  for (const pieces of [shared.told, shared.clusters]) {
    for (const [place, piece] of pieces) {
      if (covered.has(place) || touches(piece, change.touched)) pieces.delete(place);
    }
  }
}

function touches(piece: Piece, touched: ReadonlySet<string>): boolean {
  if (touched.size === 0) return false;
  for (const name of piece.references.keys()) if (touched.has(name)) return true;
  return false;
}

function pieceOf(compiled: ServicePiece, alike: readonly Resources[]): Piece {
  const bytes = new Map([...compiled.parts].map(([name, part]) => [name, toBinary(PartSchema, part)]));
  const references = Map.groupBy(compiled.references, resourceOfRef);
  return { parts: encoded(bytes, alike), references, leadsTo: compiled.leadsTo };
}

function without(some: ReadonlySet<Piece>, others: ReadonlySet<Piece>): Piece[] {
  return [...some].filter((piece) => !others.has(piece));
}

/** The parts of all pieces: those of `before` without what only `gone` had, and with what was added. */
function joined(
  pieces: ReadonlySet<Piece>,
  added: readonly Piece[],
  gone: readonly Piece[],
  before: Resources,
): Resources {
  const parts = new Map(before);
  const lost = new Set(gone.flatMap((piece) => [...piece.parts.keys()]));
  for (const name of lost) parts.delete(name);
  for (const piece of added) {
    for (const [name, resource] of piece.parts) {
      parts.set(name, resource);
      lost.delete(name);
    }
  }
  // What a piece that stays has too.
  if (lost.size > 0) for (const piece of pieces) for (const [n, r] of piece.parts) if (lost.has(n)) parts.set(n, r);
  return same(parts, before) ? before : parts;
}

/**
 * One for each written resource: lines that move in one file move nothing of the others. `dirty`: the others are as they
 * were in the plan before.
 */
function referencesOf(pieces: ReadonlySet<Piece>, dirty: ReadonlySet<string>, alike: readonly Plan[]): Resources {
  const before = alike[0]!.references;
  if (dirty.size === 0) return before;
  const groups = new Map<string, Map<string, Reference>>();
  for (const piece of pieces) {
    for (const name of smaller(piece.references, dirty)) {
      const entries = dirty.has(name) ? piece.references.get(name) : undefined;
      if (!entries) continue;
      let group = groups.get(name);
      if (!group) groups.set(name, (group = new Map()));
      for (const entry of entries) group.set(entry.ref, entry);
    }
  }
  const out = new Map(before);
  for (const name of dirty) if (!groups.has(name)) out.delete(name);
  const bytes = new Map<string, Uint8Array>();
  for (const [name, group] of groups) {
    const entries = [...group.values()];
    bytes.set(name, toBinary(ReferencesSchema, create(ReferencesSchema, { entries })));
  }
  const others = alike.map((plan) => plan.references);
  for (const [name, resource] of encoded(bytes, others)) out.set(name, resource);
  return same(out, before) ? before : out;
}

/** The keys that are fewer: both are looked through for what they share. */
function smaller(a: ReadonlyMap<string, unknown>, b: ReadonlySet<string>): Iterable<string> {
  return a.size < b.size ? a.keys() : b;
}

/** The epoch travels in what each proxy has for itself, so that an epoch that changes nothing costs next to nothing. */
function ownReferences(references: readonly Reference[], epoch: number): Map<string, Uint8Array> {
  const value = create(ReferencesSchema, { epoch: BigInt(epoch), entries: [...references] });
  return new Map([['own', toBinary(ReferencesSchema, value)]]);
}

function bytesOf(endpoints: ReadonlyMap<string, Endpoints>): Map<string, Uint8Array> {
  return new Map([...endpoints].map(([name, value]) => [name, toBinary(EndpointsSchema, value)]));
}

/**
 * Equal bytes have equal versions, also across restarts of the control plane: a proxy that returns gets only news. What
 * has the bytes that it has in one of `alike` is that; where all of it is the first's, so is the whole.
 */
function encoded(bytes: ReadonlyMap<string, Uint8Array>, alike: readonly Resources[]): Resources {
  const out = new Map<string, Resource>();
  for (const [name, value] of bytes)
    out.set(name, known(name, value, alike) ?? { version: versionOf(value), bytes: value });
  return alike[0] && same(out, alike[0]) ? alike[0] : out;
}

function known(name: string, bytes: Uint8Array, alike: readonly Resources[]): Resource | undefined {
  for (const resources of alike) {
    const resource = resources.get(name);
    if (resource && Buffer.compare(resource.bytes, bytes) === 0) return resource;
  }
  return undefined;
}

function versionOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
}

function same(a: Resources, b: Resources): boolean {
  if (a.size !== b.size) return false;
  for (const [name, resource] of a) if (b.get(name) !== resource) return false;
  return true;
}
