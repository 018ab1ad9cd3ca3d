/**
 * What lies between two models, as far as it says what must be compiled again. Most edits change a VirtualService or a
 * DestinationRule, or lines alone: these reach no further than the services whose hosts they cover. Whatever else changes
 * may reach anything: nobody has to keep a list of who reads what.
 */
import { resolveHost } from './hosts.ts';
import { callerLabels } from './lookup.ts';
import { resourceOfRef } from './refs.ts';
import type { DestinationRuleModel } from './types/destination-rule.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { VirtualServiceModel } from './types/route.ts';

export interface ModelChange {
  /** Services that these hosts (exact, `*.suffix` or `*`) cover may have other routes and clusters, and nothing else may. */
  readonly hosts: readonly string[];
  /** `Kind/namespace/name` of what stands at another place now, or changed. */
  readonly touched: ReadonlySet<string>;
}

/** Undefined: anything may be different. Services are then the same ones in the same order, or they are not compared. */
export function changeOf(before: Model, after: Model): ModelChange | undefined {
  const hosts: string[] = [];
  const touched = new Set<string>();
  if (before === after) return { hosts, touched };
  const keys = Object.keys(after) as (keyof Model)[];
  if (keys.length !== Object.keys(before).length) return undefined;
  for (const key of keys) {
    const old = before[key];
    const now = after[key];
    if (key === 'positions') continue;
    if (!Array.isArray(old) || !Array.isArray(now)) {
      if (old !== now) return undefined;
      continue;
    }
    if (old.length !== now.length) return undefined;
    for (let i = 0; i < now.length; i++) {
      const [a, b] = [old[i] as Resource, now[i] as Resource];
      if (a === b) continue;
      if (a.kind !== b.kind || a.namespace !== b.namespace || a.name !== b.name) return undefined;
      if (!equal(a.source, b.source)) touched.add(resourceOfRef(a));
      if (equalButSource(a, b)) continue;
      const reached = reachOf(key, a, b, after.domain);
      if (!reached) return undefined;
      hosts.push(...reached);
      touched.add(resourceOfRef(a));
    }
  }
  if (!equal(callerLabels(before), callerLabels(after))) return undefined;
  moved(before.positions, after.positions, touched);
  moved(after.positions, before.positions, touched);
  return { hosts, touched };
}

function reachOf(key: keyof Model, a: Resource, b: Resource, domain: string): string[] | undefined {
  if (key === 'destinationRules')
    return [a, b].map((r) => resolveHost((r as DestinationRuleModel).host, r.namespace, domain));
  if (key !== 'virtualServices') return undefined;
  const both = [a, b] as VirtualServiceModel[];
  // One without hosts is a delegate: it reaches whatever hands over to it.
  if (both.some((vs) => vs.hosts.length === 0)) return undefined;
  return both.flatMap((vs) => vs.hosts.map((host) => resolveHost(host, vs.namespace, domain)));
}

/** Adds the resources of which a field stands elsewhere or nowhere in `to`. */
function moved(from: Model['positions'], to: Model['positions'], touched: Set<string>): void {
  for (const [resource, fields] of from) {
    const others = to.get(resource);
    if (others === fields || touched.has(resource)) continue;
    for (const [field, at] of fields) {
      const other = others?.get(field);
      if (other && other.line === at.line && other.file === at.file) continue;
      touched.add(resource);
      break;
    }
  }
}

function equalButSource(a: Resource, b: Resource): boolean {
  return sameFields(a, b, 'source');
}

/** Values of a model: plain objects, lists, maps and sets. What is something else is equal to itself alone. */
function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return Object.is(a, b);
  const kind = Object.getPrototypeOf(a);
  if (kind !== Object.getPrototypeOf(b)) return false;
  if (Array.isArray(a)) {
    const other = b as unknown[];
    if (a.length !== other.length) return false;
    for (let i = 0; i < a.length; i++) if (!equal(a[i], other[i])) return false;
    return true;
  }
  // Their order may matter to who reads them.
  if (a instanceof Map || a instanceof Set) return equal([...a], [...(b as Iterable<unknown>)]);
  return (kind === Object.prototype || kind === null) && sameFields(a, b, undefined);
}

function sameFields(a: object, b: object, but: string | undefined): boolean {
  const names = Object.keys(a);
  const others = Object.keys(b);
  if (names.length !== others.length) return false;
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!;
    // The order of fields may matter too: labels are written as they stand.
    if (name !== others[i]) return false;
    if (name !== but && !equal((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name]))
      return false;
  }
  return true;
}
