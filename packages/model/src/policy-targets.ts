/** Which workloads a policy is for: by its selector, or by the Gateways, GatewayClasses and Services that it names. */
import { servesGateway } from './gateway.ts';
import { labelsMatch } from './hosts.ts';
import { targetPortOn } from './inbound-ports.ts';
import { servicesSelecting } from './lookup.ts';
import type { Model } from './types/model.ts';
import type { Labels } from './types/resource.ts';
import type { Instance } from './types/runtime.ts';
import type { AuthorizationPolicyModel, AuthorizationRuleModel } from './types/security.ts';

export interface PolicyTargetModel {
  readonly field: string;
  readonly kind: 'Gateway' | 'GatewayClass' | 'Service';
  readonly name: string;
}

/** What policies with a selector or targets have. */
export interface Targeting {
  readonly namespace: string;
  readonly selector: Labels | undefined;
  /** In the place of a selector; undefined or empty: none. */
  readonly targets?: readonly PolicyTargetModel[];
}

export interface PolicyWorkload {
  readonly namespace: string;
  readonly labels: Labels;
  readonly ports?: Instance['ports'];
}

/** Ports of the workload that a policy is for: all, or those by which a Service that it names reaches the workload. */
export type Reach = 'all' | ReadonlySet<number>;

/**
 * Undefined: not for this workload. With a selector: a policy of the root namespace reaches the whole mesh, any other its
 * own namespace. Targets are of the policy's own namespace; GatewayClasses are of no namespace, and named from the root
 * namespace alone.
 */
export function policyReach(model: Model, policy: Targeting, workload: PolicyWorkload): Reach | undefined {
  const { namespace, targets } = policy;
  if (!targets || targets.length === 0) {
    const near = namespace === model.rootNamespace || namespace === workload.namespace;
    return near && labelsMatch(policy.selector ?? {}, workload.labels) ? 'all' : undefined;
  }
  const ports = new Set<number>();
  for (const { kind, name } of targets) {
    if (kind === 'Service') {
      for (const service of servicesSelecting(model, workload)) {
        if (service.namespace !== namespace || service.name !== name || service.external) continue;
        for (const port of service.ports) {
          const target = targetPortOn(port, { ports: workload.ports ?? [] });
          if (target !== undefined) ports.add(target);
        }
      }
      continue;
    }
    const meant = model.gateways.some((g) => {
      if (!g.gatewayApi || !servesGateway(g, workload)) return false;
      if (kind === 'Gateway') return g.namespace === namespace && g.name === name;
      return namespace === model.rootNamespace && g.className === name;
    });
    if (meant) return 'all';
  }
  return ports.size > 0 ? ports : undefined;
}

/** A rule that holds for some ports alone; undefined: for none of those that it names. */
function limited(rule: AuthorizationRuleModel, ports: ReadonlySet<number>): AuthorizationRuleModel | undefined {
  if (rule.to.length === 0) return { ...rule, to: [{ ...NO_OPERATION, ports: [...ports].map(String) }] };
  const to = rule.to.flatMap((o) => {
    const both = o.ports.length === 0 ? [...ports] : [...ports].filter((p) => o.ports.some((x) => Number(x) === p));
    return both.length === 0 ? [] : [{ ...o, ports: both.map(String) }];
  });
  return to.length === 0 ? undefined : { ...rule, to };
}

const NO_OPERATION = {
  ...{ hosts: [], notHosts: [], ports: [], notPorts: [] },
  ...{ methods: [], notMethods: [], paths: [], notPaths: [] },
};

const ANYTHING_ELSE = { field: 'spec.targetRefs', from: [], when: [] };

/**
 * A workload's policies, with rules for just the ports that they are for. Where no ALLOW policy is for the whole workload,
 * one more rule leaves the ports of which none says anything as open as they are without.
 */
export function policiesWithin(
  model: Model,
  policies: readonly AuthorizationPolicyModel[],
  workload: PolicyWorkload,
): AuthorizationPolicyModel[] {
  const open = { shadow: new Set<number>(), real: new Set<number>() };
  const whole = { shadow: false, real: false };
  const out: AuthorizationPolicyModel[] = [];
  for (const policy of policies) {
    const reach = policyReach(model, policy, workload);
    if (reach === undefined) continue;
    const kind = policy.dryRun ? 'shadow' : 'real';
    if (reach === 'all') {
      if (policy.action === 'ALLOW') whole[kind] = true;
      out.push(policy);
      continue;
    }
    if (policy.action === 'ALLOW') for (const port of reach) open[kind].add(port);
    out.push({ ...policy, rules: policy.rules.flatMap((rule) => limited(rule, reach) ?? []) });
  }
  for (const kind of ['real', 'shadow'] as const) {
    if (whole[kind] || open[kind].size === 0) continue;
    const i = out.findIndex((p) => p.action === 'ALLOW' && p.dryRun === (kind === 'shadow'));
    const notPorts = [...open[kind]].map(String);
    const rest = { ...ANYTHING_ELSE, to: [{ ...NO_OPERATION, notPorts }] };
    out[i] = { ...out[i], rules: [...out[i].rules, rest] };
  }
  return out;
}
