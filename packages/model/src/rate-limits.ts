/** Which rate limit holds for a port of a workload, and which replicas share one. */
import { create } from '@bufbuild/protobuf';
import { type RateLimit, RateLimitSchema } from '@weft/plan';
import { labelsMatch } from './hosts.ts';
import { inboundPorts } from './inbound-ports.ts';
import { type RefTable, refOf } from './refs.ts';
import type { Model } from './types/model.ts';
import type { RateLimitModel } from './types/rate-limit.ts';
import type { Instance } from './types/runtime.ts';

/** The first policy whose Server has the port. */
function rateLimitOf(
  model: Model,
  policies: readonly RateLimitModel[],
  instance: Instance,
  port: number,
): RateLimitModel | undefined {
  return policies.find((p) => limitedPort(model, p, instance) === port);
}

/** The instance's port that the policy's Server is; undefined: none of it. */
function limitedPort(model: Model, policy: RateLimitModel, instance: Instance): number | undefined {
  if (policy.namespace !== instance.namespace) return undefined;
  const server = model.servers.find((s) => s.name === policy.server && s.namespace === policy.namespace);
  if (!server || !labelsMatch(server.selector, instance.labels)) return undefined;
  return typeof server.port === 'number' ? server.port : instance.ports.find((x) => x.name === server.port)?.number;
}

export function compileRateLimit(
  c: { model: Model; instances: readonly Instance[]; instance: Instance; refs: RefTable },
  policies: readonly RateLimitModel[],
  port: number,
): RateLimit | undefined {
  const policy = rateLimitOf(c.model, policies, c.instance, port);
  if (!policy) return undefined;
  return create(RateLimitSchema, {
    ref: c.refs.use(policy, 'spec'),
    total: policy.total,
    identity: policy.identity,
    overrides: policy.overrides.map((o) => ({ ...o, accounts: [...o.accounts] })),
    // Of one that has no proxy (yet) nothing is limited.
    replicas: policy.shared ? Math.max(1, sharersOf(c.model, policies, policy, c.instances).length) : 0,
  });
}

/** By the ref that plans have of it: the limits that replicas share, and the names of those that do. */
export function sharedRateLimits(model: Model, instances: readonly Instance[]): Map<string, string[]> {
  const limits = new Map<string, string[]>();
  for (const policies of [model.httpRateLimits, model.tcpRateLimits]) {
    for (const policy of policies) {
      if (!policy.shared) continue;
      const names = sharersOf(model, policies, policy, instances).map((i) => i.name);
      limits.set(refOf(policy, 'spec'), names);
    }
  }
  return limits;
}

/** Instances that have a proxy and a port that this policy limits. */
function sharersOf(
  model: Model,
  policies: readonly RateLimitModel[],
  policy: RateLimitModel,
  instances: readonly Instance[],
): Instance[] {
  return instances.filter((i) => {
    if (!i.injected || i.gateway) return false;
    const port = limitedPort(model, policy, i);
    if (port === undefined || rateLimitOf(model, policies, i, port) !== policy) return false;
    return inboundPorts(model, i).has(port);
  });
}
