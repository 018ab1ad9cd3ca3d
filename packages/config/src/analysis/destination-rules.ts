/** DestinationRules: subsets, TLS that nobody checks or takes, old fields (IST0002, 0128, 0129, 0173, KIA0201, 0206, 0209). */
import {
  type DestinationRuleModel,
  hostCovers,
  labelsMatch,
  mtlsFor,
  refOf,
  resolveHost,
  type ServiceModel,
  serviceHost,
  serviceSelects,
  type TrafficPolicyModel,
  targetPortOn,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import type { Lint } from './lint.ts';

/** Old forms of fields that are still read. */
const OLD: readonly (readonly [path: string, instead: string])[] = [
  ['loadBalancer.warmupDurationSecs', 'warmup.duration'],
  ['loadBalancer.consistentHash.minimumRingSize', 'consistentHash.ringHash.minimumRingSize'],
];

export function lintDestinationRules(l: Lint): void {
  const defined = new Map<string, DestinationRuleModel>();
  for (const rule of l.model.destinationRules) {
    if (!l.intact(rule)) continue;
    twice(l, rule, defined);
    for (const policy of [rule.trafficPolicy, ...rule.subsets.map((s) => s.trafficPolicy)]) {
      if (policy) onePolicy(l, rule, policy);
    }
    subsets(l, rule);
    mutualMeetsDisable(l, rule);
  }
}

function twice({ model, report }: Lint, rule: DestinationRuleModel, defined: Map<string, DestinationRuleModel>): void {
  const host = resolveHost(rule.host, rule.namespace, model.domain);
  const of = JSON.stringify([rule.namespace, host, rule.workloadSelector ?? null]);
  const claims = [
    ...(rule.trafficPolicy || rule.subsets.length === 0 ? [['', 'spec.host'] as const] : []),
    ...rule.subsets.map((s) => [s.name, s.field] as const),
  ];
  for (const [subset, field] of claims) {
    const key = `${of} ${subset}`;
    const other = defined.get(key);
    if (!other) defined.set(key, rule);
    else if (other !== rule) {
      const what = subset ? `the subset "${subset}" of ${host}` : host;
      const message = `${what} already has the DestinationRule ${other.name} (${other.source.file}:${other.source.line}): the first counts`;
      report(rule, 'KIA0201', message, field);
    }
  }
}

function onePolicy({ model, report }: Lint, rule: DestinationRuleModel, policy: TrafficPolicyModel): void {
  for (const [path, instead] of OLD) {
    const field = `${policy.field}.${path}`;
    if (model.positions.get(refOf(rule))?.has(field)) report(rule, 'IST0002', `is the old form of ${instead}`, field);
  }
  const unverified = 'insecureSkipVerify: whoever answers is believed. Give caCertificates instead';
  if (policy.origination?.insecureSkipVerify) {
    report(rule, 'IST0128', unverified, `${policy.field}.tls.insecureSkipVerify`);
  }
  for (const [port, own] of policy.portLevel) {
    if (own.origination?.insecureSkipVerify) report(rule, 'IST0129', `port ${port}: ${unverified}`, `${own.field}.tls`);
  }
}

function services({ model }: Lint, rule: DestinationRuleModel): ServiceModel[] {
  const pattern = resolveHost(rule.host, rule.namespace, model.domain);
  return model.services.filter((s) => hostCovers(pattern, serviceHost(s, model.domain)));
}

function subsets(l: Lint, rule: DestinationRuleModel): void {
  const { model, report, intact } = l;
  const providers = model.processes.filter((p) => services(l, rule).some((s) => serviceSelects(s, p)));
  for (const s of rule.subsets) {
    if (Object.keys(s.labels).length === 0) {
      report(rule, 'KIA0209', `the subset "${s.name}" has no labels: it is the whole service`, s.field);
    } else if (providers.length > 0 && providers.every(intact)) {
      if (providers.some((p) => labelsMatch(s.labels, p.labels))) continue;
      const have = list(
        providers.map((p) => `${p.name} {${pairs(p.labels)}}`),
        'none',
      );
      const message = `the subset "${s.name}" {${pairs(s.labels)}} matches no process. Processes: ${have}`;
      report(rule, 'IST0173', message, s.field);
    }
  }
}

function mutualMeetsDisable(l: Lint, rule: DestinationRuleModel): void {
  const { model, report } = l;
  const policy = rule.trafficPolicy;
  if (policy?.tlsMode !== 'ISTIO_MUTUAL' || model.peerAuthentications.some((p) => !l.intact(p))) return;
  for (const service of services(l, rule)) {
    for (const process of model.processes) {
      if (!serviceSelects(service, process)) continue;
      const ports = process.ports.map((p) => ({ number: p.port, name: p.name }));
      for (const port of service.ports) {
        const target = targetPortOn(port, { ports });
        const mtls = target === undefined ? undefined : mtlsFor(model, process, target);
        if (mtls?.mode !== 'DISABLE' || !mtls.policy) continue;
        const { namespace, name, source } = mtls.policy;
        const message = `clients would send the mesh's TLS to ${process.name}, whose port ${target} takes none by the PeerAuthentication ${namespace}/${name} (${source.file}:${source.line})`;
        report(rule, 'KIA0206', message, `${policy.field}.tls.mode`);
        return;
      }
    }
  }
}
