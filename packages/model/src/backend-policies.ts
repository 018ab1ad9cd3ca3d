/** Policies of the Gateway API for a service's clients: sessions and a budget of retries. */
import { resolveHost } from './hosts.ts';
import { findService, perModel } from './lookup.ts';
import type { BackendPolicyModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { DestinationModel } from './types/route.ts';
import type { ServiceModel } from './types/service.ts';

const byService = perModel((model): ReadonlyMap<string, readonly BackendPolicyModel[]> => {
  const table = new Map<string, BackendPolicyModel[]>();
  for (const policy of model.backendPolicies) {
    for (const { name } of policy.targets) {
      const key = `${policy.namespace}/${name}`;
      const list = table.get(key);
      if (list) list.push(policy);
      else table.set(key, [policy]);
    }
  }
  return table;
});

/** Those of a service, the oldest first. */
export function backendPoliciesOf(model: Model, service: ServiceModel): readonly BackendPolicyModel[] {
  return service.external ? [] : (byService(model).get(`${service.namespace}/${service.name}`) ?? []);
}

/** Sessions of a route that has none itself: where each of its destinations is a service of one policy. */
export function sessionPolicyOf(
  model: Model,
  from: Resource,
  destinations: readonly Pick<DestinationModel, 'host'>[],
): BackendPolicyModel | undefined {
  if (model.backendPolicies.length === 0) return undefined;
  const of = (host: string): BackendPolicyModel | undefined => {
    const service = findService(model, resolveHost(host, from.namespace, model.domain));
    return service && backendPoliciesOf(model, service).find((p) => p.session);
  };
  const policies = new Set(destinations.map((d) => of(d.host)));
  return policies.size === 1 ? [...policies][0] : undefined;
}
