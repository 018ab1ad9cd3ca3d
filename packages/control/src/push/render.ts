/** From the mesh to the bytes that proxies get: made once for all who get the same, and again only where it changed. */
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type Compiled,
  clientClass,
  compileEndpoints,
  compileOwn,
  compileServiceEndpoints,
  compileShared,
  compileWorkload,
  type Instance,
  type MeshRuntime,
  type Model,
  type ServiceModel,
  servicesSelecting,
} from '@weft/model';
import {
  ENDPOINTS_TYPE,
  type Endpoints,
  EndpointsSchema,
  PART_TYPE,
  PartSchema,
  REFERENCES_TYPE,
  type Reference,
  ReferencesSchema,
  workloadName,
} from '@weft/plan';
import type { Layers, Resources } from '@weft/xds';

/**
 * Types in sending order: what a reference stands for before what carries it, and clusters before their endpoints.
 */
export const TYPES = [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE] as const;

interface Plan {
  readonly parts: Resources;
  readonly references: Resources;
}

const NOTHING: Resources = new Map();

/** What one proxy is to hold. Layers that proxies share are the same object in each. */
export interface ProxyResources {
  readonly parts: Layers;
  readonly references: Layers;
  readonly endpoints: Layers;
}

export class Renderer {
  #model: Model | undefined;
  #epoch = 0;
  #runtime: MeshRuntime | undefined;
  #endpoints: Resources = NOTHING;
  /** By client class, of the current epoch; those of the one before serve to find what did not change. */
  #shared = new Map<string, Plan>();
  #oldShared = new Map<string, Plan>();
  #trust: Resources = NOTHING;
  #own = new Map<string, { instance: Instance; plan: Plan }>();

  /** A new epoch: everything is looked at again; what comes out with the same bytes stays the same object. */
  epoch(model: Model, runtime: MeshRuntime, epoch: number): void {
    this.#model = model;
    this.#runtime = runtime;
    this.#epoch = epoch;
    this.#oldShared = this.#shared;
    this.#shared = new Map();
    this.#own.clear();
    this.#endpoints = encoded(bytesOf(compileEndpoints(model, runtime)), this.#endpoints);
  }

  /** Instances came, changed or went; `changed` holds them as they were and as they are; `renamed`: services with other addresses. */
  instances(runtime: MeshRuntime, changed: readonly Instance[], renamed: readonly ServiceModel[] = []): void {
    this.#runtime = runtime;
    const model = this.#model;
    if (!model) return;
    const services = new Set<ServiceModel>([...renamed, ...changed.flatMap((i) => servicesSelecting(model, i))]);
    const fresh = bytesOf(compileServiceEndpoints(model, runtime, services));
    const all = new Map(this.#endpoints);
    const now = new Map(runtime.instances.map((i) => [i.name, i]));
    for (const { name } of changed) {
      const instance = now.get(name);
      const workload = instance && compileWorkload(instance);
      if (workload) fresh.set(workloadName(name), toBinary(EndpointsSchema, workload));
      else all.delete(workloadName(name));
    }
    for (const [name, resource] of encoded(fresh, this.#endpoints)) all.set(name, resource);
    this.#endpoints = same(all, this.#endpoints) ? this.#endpoints : all;
  }

  /** The part of whom to believe, which no epoch changes. */
  trust(part: Uint8Array): void {
    this.#trust = encoded(new Map([['trust', part]]), this.#trust);
  }

  get endpoints(): Resources {
    return this.#endpoints;
  }

  of(instance: Instance): ProxyResources {
    const model = this.#model as Model;
    const runtime = this.#runtime as MeshRuntime;
    const key = clientClass(model, runtime, instance);
    let shared = this.#shared.get(key);
    if (!shared) {
      shared = planOf(compileShared(model, runtime, instance), this.#oldShared.get(key), undefined);
      this.#shared.set(key, shared);
    }
    let own = this.#own.get(instance.name);
    if (own?.instance !== instance) {
      own = { instance, plan: planOf(compileOwn(model, runtime, instance), undefined, this.#epoch) };
      this.#own.set(instance.name, own);
    }
    return {
      parts: [own.plan.parts, shared.parts, this.#trust],
      references: [own.plan.references, shared.references],
      endpoints: [this.#endpoints],
    };
  }

  forget(name: string): void {
    this.#own.delete(name);
  }
}

function planOf(compiled: Compiled, before: Plan | undefined, epoch: number | undefined): Plan {
  const parts = new Map<string, Uint8Array>();
  for (const [name, part] of compiled.parts) parts.set(name, toBinary(PartSchema, part));
  const references = epoch === undefined ? byResource(compiled.references) : ownReferences(compiled.references, epoch);
  return { parts: encoded(parts, before?.parts), references: encoded(references, before?.references) };
}

/** The epoch travels in what each proxy has for itself, so that an epoch that changes nothing costs next to nothing. */
function ownReferences(references: readonly Reference[], epoch: number): Map<string, Uint8Array> {
  const value = create(ReferencesSchema, { epoch: BigInt(epoch), entries: [...references] });
  return new Map([['own', toBinary(ReferencesSchema, value)]]);
}

/** One piece for each written resource: lines that move in one file move nothing of the others. */
function byResource(references: readonly Reference[]): Map<string, Uint8Array> {
  const groups = new Map<string, Reference[]>();
  for (const r of references) {
    const name = `${r.kind}/${r.namespace}/${r.name}`;
    const group = groups.get(name);
    if (group) group.push(r);
    else groups.set(name, [r]);
  }
  const out = new Map<string, Uint8Array>();
  for (const [name, entries] of groups)
    out.set(name, toBinary(ReferencesSchema, create(ReferencesSchema, { entries })));
  return out;
}

function bytesOf(endpoints: ReadonlyMap<string, Endpoints>): Map<string, Uint8Array> {
  return new Map([...endpoints].map(([name, value]) => [name, toBinary(EndpointsSchema, value)]));
}

/**
 * Equal bytes have equal versions, also across restarts of the control plane: a proxy that returns gets only news. What
 * has the bytes it had before is what it was; where that is all, so is the whole.
 */
function encoded(bytes: ReadonlyMap<string, Uint8Array>, before: Resources = NOTHING): Resources {
  const out = new Map<string, { version: string; bytes: Uint8Array }>();
  for (const [name, value] of bytes) {
    const old = before.get(name);
    if (old && Buffer.compare(old.bytes, value) === 0) out.set(name, old);
    else out.set(name, { version: createHash('sha256').update(value).digest('base64url').slice(0, 22), bytes: value });
  }
  return same(out, before) ? before : out;
}

function same(a: Resources, b: Resources): boolean {
  if (a.size !== b.size) return false;
  for (const [name, resource] of a) if (b.get(name) !== resource) return false;
  return true;
}
