/** From the mesh to the bytes of one proxy's resources. */
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { compile, compileEndpoints, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { ENDPOINTS_TYPE, EndpointsSchema, PART_TYPE, PartSchema, REFERENCES_TYPE, ReferencesSchema } from '@weft/plan';
import type { Resources } from '@weft/xds';

/**
 * Types in sending order: what a reference stands for before what carries it, and clusters before their endpoints.
 */
export const TYPES = [REFERENCES_TYPE, PART_TYPE, ENDPOINTS_TYPE] as const;

/** Equal bytes have equal versions, also across restarts of the control plane: a proxy that returns gets only news. */
function resource(bytes: Uint8Array) {
  return { version: createHash('sha256').update(bytes).digest('base64url').slice(0, 22), bytes };
}

/** The same for every proxy. */
export function renderEndpoints(model: Model, runtime: MeshRuntime): Resources {
  const out = new Map<string, { version: string; bytes: Uint8Array }>();
  for (const [name, endpoints] of compileEndpoints(model, runtime))
    out.set(name, resource(toBinary(EndpointsSchema, endpoints)));
  return out;
}

export function renderPlan(
  model: Model,
  runtime: MeshRuntime,
  instance: Instance,
  epoch: number,
): { parts: Resources; references: Resources } {
  const compiled = compile(model, runtime, instance);
  const parts = new Map<string, { version: string; bytes: Uint8Array }>();
  for (const [name, part] of compiled.parts) parts.set(name, resource(toBinary(PartSchema, part)));
  const references = create(ReferencesSchema, { epoch: BigInt(epoch), entries: compiled.references });
  return { parts, references: new Map([['references', resource(toBinary(ReferencesSchema, references))]]) };
}
