/** What changes from one state of resources to another: found once, however many streams take the same step. */
import type { Resource as ResourceMessage } from './gen/envoy/service/discovery/v3/discovery_pb.js';

export interface Resource {
  /** Changes exactly when the bytes do. */
  version: string;
  bytes: Uint8Array;
}

export type Resources = ReadonlyMap<string, Resource>;

export interface Diff {
  /** Ready to be sent, the same objects to every stream. */
  readonly updated: readonly ResourceMessage[];
  readonly removed: readonly string[];
}

export const NO_RESOURCES: Resources = new Map();
const NONE: Diff = Object.freeze({ updated: [], removed: [] });
/** to → type → from. States are never changed once they were given to a session. */
const known = new WeakMap<Resources, Map<string, WeakMap<Resources, Diff>>>();

export function diff(type: string, from: Resources, to: Resources): Diff {
  if (from === to) return NONE;
  let byType = known.get(to);
  if (!byType) known.set(to, (byType = new Map()));
  let byFrom = byType.get(type);
  if (!byFrom) byType.set(type, (byFrom = new WeakMap()));
  let found = byFrom.get(from);
  if (!found) byFrom.set(from, (found = compare(type, from, to)));
  return found;
}

function compare(type: string, from: Resources, to: Resources): Diff {
  const updated: ResourceMessage[] = [];
  const removed: string[] = [];
  for (const [name, resource] of to) {
    if (from.get(name)?.version !== resource.version) updated.push(message(type, name, resource));
  }
  for (const name of from.keys()) if (!to.has(name)) removed.push(name);
  return { updated, removed };
}

export function message(type: string, name: string, resource: Resource): ResourceMessage {
  return {
    $typeName: 'envoy.service.discovery.v3.Resource',
    name,
    version: resource.version,
    aliases: [],
    resource: { $typeName: 'google.protobuf.Any', typeUrl: type, value: resource.bytes },
  };
}
