/** Destinations: which DestinationRule holds for a client, and the cluster it makes of a service port. */
import { create } from '@bufbuild/protobuf';
import {
  ClientTls,
  type Cluster,
  ClusterSchema,
  ConnectionPoolSchema,
  type FailureAccrual,
  FailureAccrualSchema,
  type OutlierDetection,
  OutlierDetectionSchema,
  outboundClusterName,
  secretName,
  type TcpFault,
  TcpFaultSchema,
  TcpKeepaliveSchema,
  type TlsOrigination,
  TlsOriginationSchema,
} from '@weft/plan';
import { backendPoliciesOf } from './backend-policies.ts';
import { compileBalancing, hashesAddress, localityOf } from './balancing.ts';
import type { Compilation } from './compilation.ts';
import { healthCheckOf } from './health-checks.ts';
import { isExportedTo, labelsMatch, resolveHost, serviceHost } from './hosts.ts';
import { rulesByNamespace } from './lookup.ts';
import { type MeshConfigModel, meshConfigOf } from './mesh-config.ts';
import { planProtocol } from './protocols.ts';
import type { RefTable } from './refs.ts';
import type {
  ConnectionPoolModel,
  DestinationRuleModel,
  OutlierDetectionModel,
  OutlierRatesModel,
  SubsetModel,
  TlsOriginationModel,
  TrafficPolicyModel,
} from './types/destination-rule.ts';
import type { BackendTlsPolicyModel } from './types/gateway-api.ts';
import type { Model } from './types/model.ts';
import type { Instance } from './types/runtime.ts';
import type { ServiceModel, ServicePortModel } from './types/service.ts';

/** What the rules of one level say together about one host. */
export interface EffectiveRule {
  /** The rule whose top-level policy counts. */
  readonly policyRule: DestinationRuleModel | undefined;
  readonly subsets: readonly { readonly rule: DestinationRuleModel; readonly subset: SubsetModel }[];
}

const NONE: EffectiveRule = { policyRule: undefined, subsets: [] };

/** Who asks: a DestinationRule may hold for some clients only. */
export type Client = Pick<Instance, 'namespace' | 'labels'>;

/**
 * Looks in the client's namespace, then the service's, then the root namespace; within the first that has a rule for the host
 * the most specific host wins, and levels are never merged. Another namespace's rule must be exported to the client's,
 * and one with a workloadSelector holds for the clients it selects in its own namespace, before those without. Several rules for the same host in one namespace: their
 * subsets are joined (the first of a name counts) and the first top-level policy counts.
 */
export function destinationRuleFor(model: Model, client: Client, service: ServiceModel): EffectiveRule {
  const host = serviceHost(service, model.domain);
  for (const level of new Set([client.namespace, service.namespace, model.rootNamespace])) {
    let best = -1;
    let rules: DestinationRuleModel[] = [];
    for (const { value: rule, specificity } of rulesByNamespace(model).get(level)?.covering(host) ?? []) {
      if (!holdsFor(rule, client)) continue;
      const score = 2 * specificity + (rule.workloadSelector ? 1 : 0);
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

/** Names of the Secrets that a gateway begins TLS with, by the rules that hold for it. */
export function credentialsOf(model: Model, client: Client): Map<string, DestinationRuleModel> {
  const names = new Map<string, DestinationRuleModel>();
  for (const rule of model.destinationRules) {
    if (!holdsFor(rule, client)) continue;
    for (const name of credentialsIn(rule)) if (!names.has(name)) names.set(name, rule);
  }
  return names;
}

export function credentialsIn(rule: DestinationRuleModel): string[] {
  return originationsIn(rule).flatMap((o) => o.credentialName || []);
}

/** TLS that clients begin, of all policies of a rule, for ports and subsets too. */
export function originationsIn(rule: DestinationRuleModel): TlsOriginationModel[] {
  const policies = [rule.trafficPolicy, ...rule.subsets.map((s) => s.trafficPolicy)];
  return policies.flatMap((p) => [p, ...(p?.portLevel.values() ?? [])].flatMap((l) => l?.origination ?? []));
}

function holdsFor(rule: DestinationRuleModel, client: Client): boolean {
  const own = rule.namespace === client.namespace;
  if (rule.workloadSelector && !(own && labelsMatch(rule.workloadSelector, client.labels))) return false;
  return own || isExportedTo(rule.exportTo, client.namespace);
}

const TLS = {
  DISABLE: ClientTls.DISABLE,
  ISTIO_MUTUAL: ClientTls.ISTIO_MUTUAL,
  SIMPLE: ClientTls.SIMPLE,
  MUTUAL: ClientTls.MUTUAL,
};

/** The default cluster of a service port, and one for each subset. */
export function compileClusters(
  { model, domain, refs }: Compilation,
  client: Client,
  service: ServiceModel,
  port: ServicePortModel,
): Cluster[] {
  const effective = destinationRuleFor(model, client, service);
  const host = serviceHost(service, domain);
  const backend = backendTlsFor(model, service, port);
  const settings = meshConfigOf(model);
  const automatic = settings?.autoMtls === false ? ClientTls.DISABLE : ClientTls.UNSPECIFIED;
  const make = (entry: { rule: DestinationRuleModel; subset: SubsetModel } | undefined): Cluster => {
    const subset = entry?.subset;
    // A section given in the subset replaces the rule's section whole, as in Istio.
    const layers: Layer[] = [];
    if (entry) addLayer(layers, entry.rule, entry.subset.trafficPolicy, port.port);
    if (effective.policyRule) addLayer(layers, effective.policyRule, effective.policyRule.trafficPolicy, port.port);
    const lb = layers.find((l) => l.policy.loadBalancer);
    const pool = layers.find((l) => l.policy.connectionPool)?.policy.connectionPool;
    const outlier = layers.find((l) => l.policy.outlierDetection);
    const tls = layers.find((l) => l.policy.tlsMode);
    // Ports have none of their own, and do not take this one away.
    const tunnel = entry?.subset.trafficPolicy?.tunnel
      ? { rule: entry.rule, policy: entry.subset.trafficPolicy }
      : effective.policyRule?.trafficPolicy && {
          rule: effective.policyRule,
          policy: effective.policyRule.trafficPolicy,
        };
    return create(ClusterSchema, {
      name: outboundClusterName(port.port, subset?.name ?? '', host),
      ref: entry ? refs.use(entry.rule, entry.subset.field) : refs.use(service, port.field),
      host,
      port: port.port,
      subset: subset?.name ?? '',
      subsetLabels: { ...subset?.labels },
      ...compileBalancing(
        lb?.policy.loadBalancer,
        service,
        localityOf(client.labels),
        outlier !== undefined,
        settings?.locality,
      ),
      lbRef: hashesAddress(lb?.policy.loadBalancer, service)
        ? refs.use(service, 'spec.sessionAffinity')
        : lb
          ? refs.use(lb.rule, `${lb.policy.field}.loadBalancer`)
          : service.balancing?.balancer
            ? refs.use(service, service.balancing.balancerField)
            : '',
      // A rule's outlier detection takes its place: two breakers would undo each other's ejections.
      tcpFault: tcpFaultOf(model, client, host, port.port, refs),
      failureAccrual: outlier ? undefined : accrualOf(service, refs),
      healthCheck: healthCheckOf(model, client.namespace, service, host, port, refs),
      retryBudget: layers.find((l) => l.policy.retryBudget)?.policy.retryBudget ?? policyBudget(model, service),
      outlier: outlier?.policy.outlierDetection
        ? outlierOf(
            outlier.policy.outlierDetection,
            outlier.rule.outlierRates,
            refs.use(outlier.rule, `${outlier.policy.field}.outlierDetection`),
          )
        : undefined,
      pool: poolOf(pool, settings, (entry?.rule ?? effective.policyRule)?.maxStreamDurationMs, service.failFastMs),
      tls: backend ? ClientTls.SIMPLE : tls?.policy.tlsMode ? TLS[tls.policy.tlsMode] : automatic,
      tlsRef: backend
        ? refs.use(backend, 'spec.validation')
        : tls
          ? refs.use(tls.rule, `${tls.policy.field}.tls.mode`)
          : settings && automatic === ClientTls.DISABLE
            ? refs.use(settings, `${settings.field}.enableAutoMtls`)
            : '',
      identities: backend ? [] : [...(tls?.policy.identities ?? [])],
      serviceName: service.external?.host ?? service.name,
      serviceNamespace: service.namespace,
      origination: backend
        ? originationOf(backendOrigination(model, backend), '')
        : tls?.policy.origination
          ? originationOf(namedBy(service, tls.policy.origination), client.namespace)
          : undefined,
      protocol: planProtocol(port.protocol),
      tunnel: tunnel?.policy.tunnel
        ? { ref: refs.use(tunnel.rule, `${tunnel.policy.field}.tunnel`), ...tunnel.policy.tunnel }
        : undefined,
      proxyProtocol: layers.find((l) => l.policy.proxyProtocol)?.policy.proxyProtocol ?? 0,
    });
  };
  return [make(undefined), ...effective.subsets.map(make)];
}

/** The BackendTLSPolicy of a service port: one that names the port before one for all, then the oldest. */
export function backendTlsFor(
  model: Model,
  service: ServiceModel,
  port: ServicePortModel,
): BackendTlsPolicyModel | undefined {
  const of = (section: string): BackendTlsPolicyModel | undefined =>
    model.backendTlsPolicies.find(
      (p) =>
        p.namespace === service.namespace &&
        p.targets.some((t) => t.name === service.name && t.sectionName === section),
    );
  return (port.name === '' ? undefined : of(port.name)) ?? of('');
}

function backendOrigination(model: Model, policy: BackendTlsPolicyModel): TlsOriginationModel {
  const trusted = model.configMaps.filter(
    (c) => c.namespace === policy.namespace && policy.configMaps.includes(c.name),
  );
  return {
    sni: policy.hostname,
    subjectAltNames: policy.names,
    caCertificates: '',
    caPem: trusted.map((c) => c.caPem).join('\n'),
    clientCertificate: '',
    privateKey: '',
    insecureSkipVerify: false,
  };
}

/** A rule that says no names takes those of the ServiceEntry. */
function namedBy({ external }: ServiceModel, o: TlsOriginationModel): TlsOriginationModel {
  if (o.subjectAltNames.length > 0 || o.insecureSkipVerify || !external?.subjectAltNames.length) return o;
  return { ...o, subjectAltNames: external.subjectAltNames };
}

function originationOf({ credentialName, ...o }: TlsOriginationModel, namespace: string): TlsOrigination {
  // Gateways are sent the Secret; a sidecar that is told to use one makes no connection.
  const credential = credentialName ? secretName(namespace, credentialName) : '';
  return create(TlsOriginationSchema, { ...o, credential, subjectAltNames: [...o.subjectAltNames] });
}

/** A policy of the Gateway API says the part alone: so few retries at once are always allowed, as in Istio. */
function policyBudget(model: Model, service: ServiceModel) {
  const percent = backendPoliciesOf(model, service).find((p) => p.retryPercent !== undefined)?.retryPercent;
  return percent === undefined ? undefined : { percent, minRetryConcurrency: 3 };
}

interface Layer {
  readonly rule: DestinationRuleModel;
  readonly policy: TrafficPolicyModel;
}

/** What a policy says of a port goes before what it says of all, and leaves nothing of that (no inheritance, as in Istio). */
function addLayer(layers: Layer[], rule: DestinationRuleModel, policy: TrafficPolicyModel | undefined, port: number) {
  if (!policy || layers.some((l) => isPortLevel(l))) return;
  layers.push({ rule, policy: policy.portLevel.get(port) ?? policy });
}

function isPortLevel({ policy }: Layer): boolean {
  return policy.field.includes('.portLevelSettings[');
}

/** Faults act in clients: those of the fault's own namespace. The first one counts. */
function tcpFaultOf(model: Model, client: Client, host: string, port: number, refs: RefTable): TcpFault | undefined {
  const fault = model.tcpFaults.find(
    (f) =>
      f.namespace === client.namespace &&
      resolveHost(f.host, f.namespace, model.domain) === host &&
      (f.port === 0 || f.port === port),
  );
  if (!fault) return undefined;
  const { delayPercent, delayMs, resetPercent, blackholePercent, bandwidthPercent, bandwidthBytesPerSecond } = fault;
  return create(TcpFaultSchema, {
    ref: refs.use(fault, 'spec'),
    delayPercent,
    delayMs,
    resetPercent,
    blackholePercent,
    bandwidthPercent,
    bandwidthBytesPerSecond,
  });
}

function accrualOf(service: ServiceModel, refs: RefTable): FailureAccrual | undefined {
  const { balancing } = service;
  if (!balancing?.accrual) return undefined;
  return create(FailureAccrualSchema, { ref: refs.use(service, balancing.accrualField), ...balancing.accrual });
}

/** A block with no fields means Istio's defaults. */
function outlierOf(o: OutlierDetectionModel, rates: OutlierRatesModel | undefined, ref: string): OutlierDetection {
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
    errorCodes: [...o.httpErrorCodes],
    successRateStdevFactor: rates?.stdevFactor,
    failurePercentage: rates?.failurePercentage,
    minimumHosts: rates?.minimumHosts,
    requestVolume: rates?.requestVolume,
  });
}

/** Answers to PINGs are waited for so long where a rule does not say (Envoy's own default is none). */
const PING_TIMEOUT_MS = 20_000;

/** Of connections to the workload's own application: what is not said is the proxy's own default. */
export function inboundPool(p: ConnectionPoolModel) {
  return create(ConnectionPoolSchema, {
    ...poolOf(p, undefined, undefined),
    connectTimeoutMs: p.connectTimeoutMs ?? 0,
    idleTimeoutMs: p.idleTimeoutMs ?? 0,
  });
}

function poolOf(
  p: ConnectionPoolModel | undefined,
  settings: MeshConfigModel | undefined,
  maxStreamDurationMs: number | undefined,
  failFastMs: number | undefined = undefined,
) {
  const keepalive = p?.keepalive ?? settings?.tcpKeepalive;
  return create(ConnectionPoolSchema, {
    maxConnections: p?.maxConnections ?? 0,
    maxPending: p?.maxPendingRequests ?? 0,
    maxRequests: p?.maxRequests ?? 0,
    maxRetries: p?.maxRetries ?? 0,
    connectTimeoutMs: p?.connectTimeoutMs ?? settings?.connectTimeoutMs ?? 10_000,
    idleTimeoutMs: p?.idleTimeoutMs ?? 3_600_000,
    maxRequestsPerConnection: p?.maxRequestsPerConnection ?? 0,
    maxConnectionDurationMs: p?.maxConnectionDurationMs ?? 0,
    maxConcurrentStreams: p?.maxConcurrentStreams ?? 0,
    h2Upgrade: p?.h2Upgrade ?? settings?.h2Upgrade ?? false,
    useClientProtocol: p?.useClientProtocol ?? false,
    tcpIdleTimeoutMs: p?.tcpIdleTimeoutMs ?? 0,
    keepalive: keepalive && create(TcpKeepaliveSchema, keepalive),
    http2PingIntervalMs: p?.http2PingIntervalMs,
    http2PingTimeoutMs: p?.http2PingIntervalMs === undefined ? 0 : (p.http2PingTimeoutMs ?? PING_TIMEOUT_MS),
    maxStreamDurationMs,
    failFastMs,
  });
}
