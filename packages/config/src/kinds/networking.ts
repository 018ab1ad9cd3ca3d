/** Istio's DestinationRule. */
import { hostPort, parseIp } from '@weft/base';
import type {
  DestinationRuleModel,
  OutlierDetectionModel,
  SubsetModel,
  TlsOriginationModel,
  TrafficPolicyModel,
} from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import {
  bool,
  checkHost,
  checkName,
  exportTo,
  type FieldReport,
  type Kind,
  labels,
  labelsOf,
  nonEmpty,
  type Plain,
  percent,
  port,
  portName,
  selector,
  uint32,
} from './common.ts';
import { connectionPool, poolOf } from './connection-pool.ts';
import { loadBalancer, loadBalancerOf, retryBudget } from './load-balancer.ts';
import { maxStreamDuration, outlierRates } from './resilience.ts';

export const NETWORKING = ['networking.istio.io/v1', 'networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3'];

/** Read by the proxy, whose working folder is nobody's business. */
const file: Schema = {
  t: 'string',
  check: (v) => (v.startsWith('/') && !v.includes('\0') ? undefined : 'it is an absolute path, as the proxy sees it'),
};

const settings: ObjectSchema = {
  t: 'object',
  fields: {
    loadBalancer,
    retryBudget,
    connectionPool,
    outlierDetection: {
      t: 'object',
      fields: {
        consecutive5xxErrors: uint32,
        consecutiveGatewayErrors: uint32,
        interval: { t: 'duration', minMs: 1 },
        baseEjectionTime: { t: 'duration', minMs: 1 },
        maxEjectionPercent: { ...percent, t: 'int' } as never,
        minHealthPercent: { ...percent, t: 'int' } as never,
        splitExternalLocalOriginErrors: bool,
        consecutiveLocalOriginFailures: uint32,
        outlierDetectionHttpErrorCodes: { t: 'list', max: 500, of: { t: 'int', min: 100, max: 599 } },
      },
      replaced: { consecutiveErrors: 'consecutive5xxErrors' },
    },
    tls: {
      t: 'object',
      fields: {
        mode: { t: 'string', enum: ['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'] },
        clientCertificate: file,
        privateKey: file,
        caCertificates: file,
        caCrl: file,
        credentialName: { t: 'string', check: checkName },
        subjectAltNames: { t: 'list', max: 100, of: nonEmpty },
        sni: { t: 'string', check: (v) => (v.includes('*') ? 'it is one host name' : checkHost(v)) },
        insecureSkipVerify: bool,
      },
      required: ['mode'],
    },
  },
};

const trafficPolicy: ObjectSchema = {
  ...settings,
  fields: {
    ...settings.fields,
    proxyProtocol: { t: 'object', fields: { version: { t: 'string', enum: ['V1', 'V2'] } } },
    tunnel: {
      t: 'object',
      fields: {
        protocol: { t: 'string', enum: ['CONNECT', 'POST'] },
        targetHost: {
          t: 'string',
          check: (v) => (parseIp(v) ? undefined : v.includes('*') ? 'it is one host name' : checkHost(v)),
        },
        targetPort: port,
      },
      required: ['targetHost', 'targetPort'],
    },
    portLevelSettings: {
      t: 'list',
      max: 1000,
      of: {
        ...settings,
        fields: {
          ...settings.fields,
          port: { t: 'object', fields: { number: port }, required: ['number'] },
        },
        required: ['port'],
      },
    },
  },
};

export const destinationRuleKind: Kind<DestinationRuleModel> = {
  kind: 'DestinationRule',
  apiVersions: NETWORKING,
  spec: {
    t: 'object',
    fields: {
      host: { t: 'string', check: (v) => (v === '*' ? undefined : checkHost(v)) },
      trafficPolicy,
      exportTo,
      workloadSelector: selector,
      subsets: {
        t: 'list',
        max: 1000,
        of: { t: 'object', fields: { name: portName, labels, trafficPolicy }, required: ['name'] },
      },
    },
    required: ['host'],
  },
  specRequired: true,
  build(resource, spec, report) {
    const subsets: SubsetModel[] = [];
    for (const [i, s] of ((spec.subsets ?? []) as Plain[]).entries()) {
      if (!s?.name) continue;
      const field = `spec.subsets[${i}]`;
      if (subsets.some((x) => x.name === s.name)) {
        report('WEFT-VALUE', `the subset "${s.name}" is there twice`, `${field}.name`);
      }
      subsets.push({
        field,
        name: s.name,
        labels: labelsOf(s.labels),
        trafficPolicy: policyOf(s.trafficPolicy, `${field}.trafficPolicy`, report),
      });
    }
    const trafficPolicy = policyOf(spec.trafficPolicy, 'spec.trafficPolicy', report);
    const policies = [trafficPolicy, ...subsets.map((s) => s.trafficPolicy)];
    const hasOutlier = policies.some(
      (p) => p?.outlierDetection || [...(p?.portLevel.values() ?? [])].some((l) => l.outlierDetection),
    );
    if (!hasOutlier) for (const policy of policies) if (policy) checkFailover(policy, report);
    return {
      ...resource,
      host: spec.host ?? '',
      trafficPolicy,
      outlierRates: outlierRates(resource.annotations, hasOutlier, report),
      maxStreamDurationMs: maxStreamDuration(resource.annotations, report),
      exportTo: spec.exportTo,
      workloadSelector: spec.workloadSelector ? labelsOf(spec.workloadSelector.matchLabels) : undefined,
      subsets,
    };
  },
};

/** Localities take each other's place when endpoints are put out, and nobody puts any out. */
function checkFailover(policy: TrafficPolicyModel, report: FieldReport): void {
  for (const { field, loadBalancer } of [policy, ...policy.portLevel.values()]) {
    const { failover = [], failoverPriority = [] } = loadBalancer?.locality ?? {};
    const name = failover.length > 0 ? 'failover' : failoverPriority.length > 0 ? 'failoverPriority' : undefined;
    if (!name) continue;
    const message =
      'acts with outlierDetection alone, which the rule does not have: outlierDetection: {} has the defaults';
    report('WEFT-NO-EFFECT', message, `${field}.loadBalancer.localityLbSetting.${name}`, 'warning');
  }
}

function policyOf(p: Plain | undefined, field: string, report: FieldReport): TrafficPolicyModel | undefined {
  if (!p) return undefined;
  const portLevel = new Map<number, TrafficPolicyModel>();
  for (const [i, level] of ((p.portLevelSettings ?? []) as Plain[]).entries()) {
    const number = level?.port?.number as number | undefined;
    if (number === undefined) continue;
    const at = `${field}.portLevelSettings[${i}]`;
    if (portLevel.has(number)) report('WEFT-VALUE', `port ${number} is there twice`, `${at}.port.number`);
    portLevel.set(number, policyOf({ ...level, portLevelSettings: undefined }, at, report)!);
  }
  return {
    field,
    loadBalancer: p.loadBalancer ? loadBalancerOf(p.loadBalancer, `${field}.loadBalancer`, report) : undefined,
    connectionPool: p.connectionPool ? poolOf(p.connectionPool) : undefined,
    outlierDetection: p.outlierDetection ? outlierOf(p.outlierDetection) : undefined,
    tlsMode: p.tls?.mode,
    identities: p.tls?.mode === 'ISTIO_MUTUAL' ? identitiesOf(p.tls, `${field}.tls`, report) : [],
    origination: p.tls ? originationOf(p.tls, `${field}.tls`, report) : undefined,
    tunnel: p.tunnel?.targetHost && p.tunnel.targetPort ? tunnelOf(p.tunnel) : undefined,
    proxyProtocol: p.proxyProtocol ? (p.proxyProtocol.version === 'V2' ? 2 : 1) : undefined,
    retryBudget: p.retryBudget
      ? { percent: p.retryBudget.percent ?? 20, minRetryConcurrency: p.retryBudget.minRetryConcurrency ?? 3 }
      : undefined,
    portLevel,
  };
}

function tunnelOf(t: Plain): NonNullable<TrafficPolicyModel['tunnel']> {
  return { authority: hostPort(t.targetHost, t.targetPort), post: t.protocol === 'POST' };
}

const ORIGINATION = [
  'clientCertificate',
  'privateKey',
  'caCertificates',
  'caCrl',
  'subjectAltNames',
  'sni',
  'insecureSkipVerify',
  'credentialName',
];

function originationOf(t: Plain, field: string, report: FieldReport): TlsOriginationModel | undefined {
  if (t.mode !== 'SIMPLE' && t.mode !== 'MUTUAL') {
    for (const name of ORIGINATION) {
      if (t[name] === undefined) continue;
      if (name === 'sni' && t.mode === 'ISTIO_MUTUAL') {
        const message = 'links between proxies carry no name: gateways tell hosts apart by the request';
        report('WEFT-NO-EFFECT', message, `${field}.sni`, 'warning');
        continue;
      }
      if (name === 'subjectAltNames' && t.mode === 'ISTIO_MUTUAL') continue;
      report('WEFT-VALUE', `it is for the modes SIMPLE and MUTUAL; the mode is ${t.mode}`, `${field}.${name}`);
    }
    return undefined;
  }
  for (const name of ['clientCertificate', 'privateKey', 'caCertificates', 'caCrl']) {
    if (t.credentialName && t[name]) {
      report('WEFT-VALUE', 'may not stand with credentialName, whose Secret has it', `${field}.${name}`);
    }
  }
  for (const name of ['clientCertificate', 'privateKey']) {
    if (t.credentialName) continue;
    if (t.mode === 'MUTUAL' && !t[name])
      report('WEFT-FIELD', `is missing: the mode MUTUAL needs it`, `${field}.${name}`);
    if (t.mode === 'SIMPLE' && t[name]) report('WEFT-VALUE', 'it is for the mode MUTUAL', `${field}.${name}`);
  }
  if (t.caCrl && !t.caCertificates && !t.credentialName) {
    report('WEFT-FIELD', 'is missing: caCrl says what that CA has revoked', `${field}.caCertificates`);
  }
  const skip = t.insecureSkipVerify ?? false;
  if (skip && t.subjectAltNames?.length) {
    report('WEFT-VALUE', 'may not stand with insecureSkipVerify, which looks at no name', `${field}.subjectAltNames`);
  }
  return {
    sni: t.sni ?? '',
    subjectAltNames: t.subjectAltNames ?? [],
    caCertificates: t.caCertificates ?? '',
    caCrl: t.caCrl ?? '',
    clientCertificate: t.clientCertificate ?? '',
    privateKey: t.privateKey ?? '',
    insecureSkipVerify: skip,
    credentialName: t.credentialName ?? '',
  };
}

/** Names that servers of the mesh may have: their certificates have one, a SPIFFE id. */
function identitiesOf(t: Plain, field: string, report: FieldReport): string[] {
  return ((t.subjectAltNames ?? []) as (string | undefined)[]).flatMap((name, i) => {
    if (name === undefined) return [];
    if (/^spiffe:\/\/[^/*]+\/[^*]+$/.test(name)) return [name];
    const message = `is "${name.slice(0, 80)}": with ISTIO_MUTUAL a server has one name, its identity (spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT)`;
    report('WEFT-VALUE', message, `${field}.subjectAltNames[${i}]`);
    return [];
  });
}

function outlierOf(o: Plain): OutlierDetectionModel {
  return {
    consecutive5xxErrors: o.consecutive5xxErrors,
    consecutiveGatewayErrors: o.consecutiveGatewayErrors,
    intervalMs: o.interval,
    baseEjectionTimeMs: o.baseEjectionTime,
    maxEjectionPercent: o.maxEjectionPercent,
    minHealthPercent: o.minHealthPercent,
    splitExternalLocalOriginErrors: o.splitExternalLocalOriginErrors ?? false,
    consecutiveLocalOriginFailures: o.consecutiveLocalOriginFailures,
    httpErrorCodes: ((o.outlierDetectionHttpErrorCodes ?? []) as number[]).filter((c) => c !== undefined),
  };
}
