/** Routes of a VirtualService, with those of its delegates in the places where it names them (one level). */
import { isSeenFrom } from './hosts.ts';
import type { Model } from './types/model.ts';
import type { HttpMatchModel, HttpRouteModel, StringMatchModel, VirtualServiceModel } from './types/route.ts';

/** The VirtualService without hosts that a route hands over to; undefined: there is none that the rule may use. */
export function delegateOf(
  model: Model,
  from: VirtualServiceModel,
  route: HttpRouteModel,
): VirtualServiceModel | undefined {
  const { delegate } = route;
  if (!delegate) return undefined;
  return model.virtualServices.find(
    (vs) =>
      vs.name === delegate.name &&
      vs.namespace === delegate.namespace &&
      vs.hosts.length === 0 &&
      isSeenFrom(vs, from.namespace),
  );
}

const expanded = new WeakMap<Model, Map<VirtualServiceModel, readonly HttpRouteModel[]>>();

/** In order. A route of a delegate has the conditions of both, and what it does not say itself from the root's route. */
export function httpRoutesOf(model: Model, vs: VirtualServiceModel): readonly HttpRouteModel[] {
  if (!vs.http.some((r) => r.delegate)) return vs.http;
  let known = expanded.get(model);
  if (!known) expanded.set(model, (known = new Map()));
  let routes = known.get(vs);
  if (!routes) {
    routes = vs.http.flatMap((root) => {
      if (!root.delegate) return [root];
      const delegate = delegateOf(model, vs, root);
      // A delegate's own delegates are none: one level.
      const own = delegate?.http.filter((r) => !r.delegate) ?? [];
      return own.flatMap((leaf) => mergeDelegated(vs, root, delegate as VirtualServiceModel, leaf) ?? []);
    });
    known.set(vs, routes);
  }
  return routes;
}

/** Undefined: no request could meet the conditions of both. */
export function mergeDelegated(
  rootOwner: VirtualServiceModel,
  root: HttpRouteModel,
  owner: VirtualServiceModel,
  leaf: HttpRouteModel,
): HttpRouteModel | undefined {
  const match: HttpMatchModel[] = [];
  const conditions = leaf.match.length > 0 ? leaf.match : [undefined];
  for (const m of root.match.length > 0 ? root.match : [undefined]) {
    for (const n of conditions) {
      if (!m || !n) {
        if (n) match.push({ ...n, owner });
        else if (m) match.push({ ...m, owner: rootOwner });
        continue;
      }
      const both = mergeMatch(m, n);
      if (both) match.push({ ...both, owner });
    }
  }
  if (match.length === 0 && root.match.length + leaf.match.length > 0) return undefined;
  const inherits = INHERITED.filter((key) => leaf[key] === undefined && root[key] !== undefined);
  const mirrors = leaf.mirrors.length > 0 ? leaf.mirrors : root.mirrors;
  return {
    ...leaf,
    ...Object.fromEntries(inherits.map((key) => [key, root[key]])),
    name: [root.name, leaf.name].filter((n) => n !== '').join('-'),
    match,
    mirrors,
    owner,
    inherited: { owner: rootOwner, field: root.field, keys: inherits, mirrors: mirrors === root.mirrors },
  };
}

/** What a route says of itself, and leaves to the root's where it does not. */
const INHERITED = ['rewrite', 'cors', 'timeoutMs', 'retries', 'fault', 'headers'] as const;

function mergeMatch(root: HttpMatchModel, leaf: HttpMatchModel): HttpMatchModel | undefined {
  if (root.uri && leaf.uri && root.ignoreUriCase !== leaf.ignoreUriCase) return undefined;
  if (root.port !== 0 && leaf.port !== 0 && root.port !== leaf.port) return undefined;
  if (root.sourceNamespace && leaf.sourceNamespace && root.sourceNamespace !== leaf.sourceNamespace) return undefined;
  for (const [key, value] of Object.entries(leaf.sourceLabels))
    if (Object.hasOwn(root.sourceLabels, key) && root.sourceLabels[key] !== value) return undefined;
  const gateways =
    root.gateways.length === 0 || leaf.gateways.length === 0
      ? [...root.gateways, ...leaf.gateways]
      : leaf.gateways.filter((g) => root.gateways.includes(g));
  if (gateways.length === 0 && root.gateways.length > 0) return undefined;
  const merged: Record<string, StringMatchModel | undefined> = {};
  for (const key of ['uri', 'method', 'authority', 'scheme'] as const) {
    const narrow = narrower(root[key], leaf[key]);
    if (narrow === 'conflict') return undefined;
    merged[key] = narrow;
  }
  return {
    ...leaf,
    ...merged,
    // Both lists hold, each of their conditions for itself.
    headers: [...root.headers, ...leaf.headers],
    withoutHeaders: [...root.withoutHeaders, ...leaf.withoutHeaders],
    queryParams: [...root.queryParams, ...leaf.queryParams],
    ignoreUriCase: root.uri ? root.ignoreUriCase : leaf.ignoreUriCase,
    port: leaf.port || root.port,
    sourceLabels: { ...root.sourceLabels, ...leaf.sourceLabels },
    sourceNamespace: leaf.sourceNamespace || root.sourceNamespace,
    gateways,
  };
}

/** The delegate's condition where it lies within the root's. Of patterns nobody can tell: two of them conflict, as in Istio. */
function narrower(
  root: StringMatchModel | undefined,
  leaf: StringMatchModel | undefined,
): StringMatchModel | undefined | 'conflict' {
  if (!root || root.type === 'present') return leaf ?? root;
  if (!leaf || leaf.type === 'present') return root;
  if (root.type === 'regex' || leaf.type === 'regex') return 'conflict';
  if (root.type === 'exact') return leaf.type === 'exact' && leaf.value === root.value ? leaf : 'conflict';
  return leaf.value.startsWith(root.value) ? leaf : 'conflict';
}
