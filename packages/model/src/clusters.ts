/** Destinations: which DestinationRule holds for a client, and the cluster it makes of a service port (features: B-6, B-8). */
import { create } from '@bufbuild/protobuf';
import {
  ClientTls,
  type Cluster,
  ClusterSchema,
  ConnectionPoolSchema,
  LbPolicy,
  type OutlierDetection,
  OutlierDetectionSchema,
  outboundClusterName,
  type TlsOrigination,
  TlsOriginationSchema,
} from '@weft/plan';
import { hostCovers, hostSpecificity, resolveHost, serviceHost } from './hosts.ts';
import type { RefTable } from './refs.ts';
import type {
  ConnectionPoolModel,
  DestinationRuleModel,
  Model,
  OutlierDetectionModel,
  ServiceModel,
  ServicePortModel,
  SubsetModel,
  TlsOriginationModel,
  TrafficPolicyModel,
} from './types.ts';

/** What the rules of one level say together about one host. */
export interface EffectiveRule {
  /** The rule whose top-level policy counts. */
  readonly policyRule: DestinationRuleModel | undefined;
  readonly subsets: readonly { readonly rule: DestinationRuleModel; readonly subset: SubsetModel }[];
}

const NONE: EffectiveRule = { policyRule: undefined, subsets: [] };

/**
 * Looks in the client's namespace, then the service's, then the root namespace; within the first that has a rule for the host
 * the most specific host wins, and levels are never merged. Several rules for the same host in one namespace: their
 * subsets are joined (the first of a name counts) and the first top-level policy counts.
 */
export function destinationRuleFor(model: Model, clientNamespace: string, service: ServiceModel): EffectiveRule {
  const host = serviceHost(service, model.domain);
  for (const level of new Set([clientNamespace, service.namespace, model.rootNamespace])) {
    let best = -1;
    let rules: DestinationRuleModel[] = [];
    for (const rule of model.destinationRules) {
      if (rule.namespace !== level) continue;
      const pattern = resolveHost(rule.host, rule.namespace, model.domain);
      if (!hostCovers(pattern, host)) continue;
      const score = hostSpecificity(pattern);
      if (score > best) {
        best = score;
        rules = [];
      }
      if (score === best) rules.push(rule);
    }
    if (rules.length === 0) continue;
    const subsets: { rule: DestinationRuleModel; subset: SubsetModel }[] = [];
    for (const rule of rules) {
      for (const subset of rule.subsets) {
        if (!subsets.some((s) => s.subset.name === subset.name)) subsets.push({ rule, subset });
      }
    }
    return { policyRule: rules.find((r) => r.trafficPolicy) ?? rules[0], subsets };
  }
  return NONE;
}

const LB = {
  LEAST_REQUEST: LbPolicy.LEAST_REQUEST,
  ROUND_ROBIN: LbPolicy.ROUND_ROBIN,
  RANDOM: LbPolicy.RANDOM,
};

const TLS = {
  DISABLE: ClientTls.DISABLE,
  ISTIO_MUTUAL: ClientTls.ISTIO_MUTUAL,
  SIMPLE: ClientTls.SIMPLE,
  MUTUAL: ClientTls.MUTUAL,
};

/** The default cluster of a service port, and one for each subset. */
export function compileClusters(
  model: Model,
  domain: string,
  clientNamespace: string,
  service: ServiceModel,
  port: ServicePortModel,
  refs: RefTable,
): Cluster[] {
  const effective = destinationRuleFor(model, clientNamespace, service);
  const host = serviceHost(service, domain);
  const make = (entry: { rule: DestinationRuleModel; subset: SubsetModel } | undefined): Cluster => {
    const subset = entry?.subset;
    // A section given in the subset replaces the rule's section whole, as in Istio.
    const layers: { rule: DestinationRuleModel; policy: TrafficPolicyModel }[] = [];
    if (entry?.subset.trafficPolicy) layers.push({ rule: entry.rule, policy: entry.subset.trafficPolicy });
    if (effective.policyRule?.trafficPolicy) {
      layers.push({ rule: effective.policyRule, policy: effective.policyRule.trafficPolicy });
    }
    const lb = layers.find((l) => l.policy.loadBalancer)?.policy.loadBalancer;
    const pool = layers.find((l) => l.policy.connectionPool)?.policy.connectionPool;
    const outlier = layers.find((l) => l.policy.outlierDetection);
    const tls = layers.find((l) => l.policy.tlsMode);
    return create(ClusterSchema, {
      name: outboundClusterName(port.port, subset?.name ?? '', host),
      ref: entry ? refs.use(entry.rule, entry.subset.field) : refs.use(service, port.field),
      host,
      port: port.port,
      subset: subset?.name ?? '',
      subsetLabels: { ...subset?.labels },
      lb: lb ? LB[lb] : LbPolicy.UNSPECIFIED,
      outlier: outlier?.policy.outlierDetection
        ? outlierOf(outlier.policy.outlierDetection, refs.use(outlier.rule, `${outlier.policy.field}.outlierDetection`))
        : undefined,
      pool: poolOf(pool),
      tls: tls?.policy.tlsMode ? TLS[tls.policy.tlsMode] : ClientTls.UNSPECIFIED,
      tlsRef: tls ? refs.use(tls.rule, `${tls.policy.field}.tls.mode`) : '',
      serviceName: service.name,
      serviceNamespace: service.namespace,
      origination: tls?.policy.origination ? originationOf(tls.policy.origination) : undefined,
    });
  };
  return [make(undefined), ...effective.subsets.map(make)];
}

function originationOf(o: TlsOriginationModel): TlsOrigination {
  return create(TlsOriginationSchema, { ...o, subjectAltNames: [...o.subjectAltNames] });
}

/** A block with no fields means Istio's defaults. */
function outlierOf(o: OutlierDetectionModel, ref: string): OutlierDetection {
  const base = o.baseEjectionTimeMs ?? 30_000;
  return create(OutlierDetectionSchema, {
    ref,
    consecutive5xx: o.consecutive5xxErrors ?? 5,
    consecutiveGatewayErrors: o.consecutiveGatewayErrors ?? 0,
    intervalMs: o.intervalMs ?? 10_000,
    baseEjectionMs: base,
    maxEjectionMs: Math.max(300_000, base),
    maxEjectionPercent: o.maxEjectionPercent ?? 10,
    minHealthPercent: o.minHealthPercent ?? 0,
    splitLocalOrigin: o.splitExternalLocalOriginErrors,
    consecutiveLocalOrigin: o.consecutiveLocalOriginFailures ?? 5,
  });
}

function poolOf(p: ConnectionPoolModel | undefined) {
  return create(ConnectionPoolSchema, {
    maxConnections: p?.maxConnections ?? 0,
    maxPending: p?.maxPendingRequests ?? 0,
    maxRequests: p?.maxRequests ?? 0,
    maxRetries: p?.maxRetries ?? 0,
    connectTimeoutMs: p?.connectTimeoutMs ?? 10_000,
    idleTimeoutMs: p?.idleTimeoutMs ?? 3_600_000,
    maxRequestsPerConnection: p?.maxRequestsPerConnection ?? 0,
  });
}
