/** Settings of the mesh: IstioOperator's `meshConfig`, and `mesh` of the ConfigMap istio. */
import type { ExtensionProviderModel, MeshConfigModel, ProxyConfigModel, Resource, TlsChoiceModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../schema.ts';
import { readYaml, type Tree } from '../yaml.ts';
import {
  bool,
  exportTo,
  type FieldReport,
  type Kind,
  type KindContext,
  nonEmpty,
  type Plain,
  port,
  str,
  strings,
} from './common.ts';
import { keepaliveOf, tcpKeepalive } from './connection-pool.ts';
import { extensionProviders, extensionProvidersOf } from './extension-providers.ts';
import { localityLbSetting, localityOf } from './load-balancer.ts';
import { proxyConfig, proxyConfigOf } from './proxy-config.ts';
import { retries, retriesOf } from './retries.ts';
import { cipherSuites, ecdhCurves, meshCipherSuites, namesOf, SUITES_1_3, tlsVersion } from './tls.ts';

const any: Schema = { t: 'any' };

const ingress = 'Ingress is not read: use a Gateway';
const telemetry = 'telemetry is not set by it yet';
const envoy = 'the proxies are no Envoys';
const stats = "metrics keep Istio's standard names";

/** Fields that are taken and do nothing, and why. */
const NO_EFFECT: ReadonlyMap<string, string> = new Map([
  ['proxyListenPort', 'outbound traffic is captured on 15001'],
  ['proxyInboundListenPort', 'inbound traffic is captured on 15006'],
  ['proxyHttpPort', 'an HTTP proxy is on 15001 where traffic is not captured'],
  ['ingressClass', ingress],
  ['ingressService', ingress],
  ['ingressControllerMode', ingress],
  ['ingressSelector', ingress],
  ['accessLogFile', 'access logs are written as weft logs shows them'],
  ['accessLogFormat', telemetry],
  ['accessLogEncoding', telemetry],
  ['enableEnvoyAccessLogService', telemetry],
  ['disableEnvoyListenerLog', envoy],
  ['configSources', 'configuration is read from the folder that is given'],
  ['serviceSettings', 'it is about clusters of several networks'],
  ['inboundClusterStatName', stats],
  ['outboundClusterStatName', stats],
  ['inboundTrafficPolicy', 'ports that no Service names are passed on (PASSTHROUGH)'],
  ['enablePrometheusMerge', 'metrics of proxy and application are always merged, on 15020'],
  ['verifyCertificateAtClient', 'clients verify a server unless insecureSkipVerify says otherwise'],
  ['pathNormalization', 'paths are decoded and slashes merged, always the same way (MERGE_SLASHES)'],
  ['protocolDetectionTimeout', 'what is not declared is told by its first bytes, and after 10 s at most'],
  ['serviceScopeConfigs', 'there is one cluster'],
  ['dnsRefreshRate', 'names are asked for again as their records say'],
  ['thriftConfig', envoy],
  ['certificates', 'the control plane has its own certificate'],
]);

/** Values that say what is so anyway. */
const SAME: ReadonlyMap<string, readonly unknown[]> = new Map<string, readonly unknown[]>([
  ['proxyListenPort', [15001]],
  ['proxyInboundListenPort', [15006]],
  ['accessLogFile', ['/dev/stdout']],
  ['enablePrometheusMerge', [true]],
  ['verifyCertificateAtClient', [true]],
  ['enableEnvoyAccessLogService', [false]],
  ['ingressControllerMode', ['OFF']],
  ['accessLogEncoding', ['JSON']],
]);

const trustDomain: Schema = {
  t: 'string',
  check: (v) =>
    /^[a-z0-9._-]{1,255}$/.test(v) ? undefined : 'a trust domain has lower-case letters, digits, "-", "_" and "."',
};

export const meshConfig: ObjectSchema = {
  t: 'object',
  fields: {
    ...Object.fromEntries([...NO_EFFECT.keys()].map((name) => [name, any])),
    proxyListenPort: port,
    proxyInboundListenPort: port,
    proxyHttpPort: port,
    enableTracing: bool,
    accessLogFile: str,
    accessLogFormat: str,
    accessLogEncoding: { t: 'string', enum: ['TEXT', 'JSON'] },
    enablePrometheusMerge: bool,
    verifyCertificateAtClient: bool,
    enableEnvoyAccessLogService: bool,
    ingressControllerMode: { t: 'string', enum: ['UNSPECIFIED', 'OFF', 'DEFAULT', 'STRICT'] },
    defaultProviders: {
      t: 'object',
      fields: { tracing: strings, metrics: strings, accessLogging: strings },
    },
    inboundTrafficPolicy: { t: 'object', fields: { mode: { t: 'string', enum: ['PASSTHROUGH', 'LOCALHOST'] } } },
    pathNormalization: {
      t: 'object',
      fields: {
        normalization: {
          t: 'string',
          enum: ['DEFAULT', 'NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'],
        },
      },
    },
    meshMTLS: {
      t: 'object',
      fields: {
        minProtocolVersion: { t: 'string', enum: ['TLS_AUTO', 'TLSV1_2', 'TLSV1_3'] },
        ecdhCurves,
        cipherSuites: meshCipherSuites,
      },
    },
    tlsDefaults: { t: 'object', fields: { minProtocolVersion: tlsVersion, ecdhCurves, cipherSuites } },
    dnsRefreshRate: { t: 'duration', minMs: 1 },
    protocolDetectionTimeout: { t: 'duration' },
    connectTimeout: { t: 'duration', minMs: 1 },
    tcpKeepalive,
    outboundTrafficPolicy: {
      t: 'object',
      fields: { mode: { t: 'string', enum: ['REGISTRY_ONLY', 'ALLOW_ANY'] } },
    },
    enableAutoMtls: bool,
    trustDomain,
    trustDomainAliases: { t: 'list', max: 100, of: trustDomain },
    rootNamespace: nonEmpty,
    defaultServiceExportTo: exportTo,
    defaultVirtualServiceExportTo: exportTo,
    defaultDestinationRuleExportTo: exportTo,
    localityLbSetting,
    h2UpgradePolicy: { t: 'string', enum: ['DO_NOT_UPGRADE', 'UPGRADE'] },
    defaultHttpRetryPolicy: retries,
    // What the application did not process is repeated, whatever else would be said.
    defaultInboundHttpRetryPolicy: {
      t: 'object',
      fields: { attempts: { t: 'int', min: 0, max: 100 } },
      unsupported: ['perTryTimeout', 'retryOn', 'retryRemoteLocalities', 'retryIgnorePreviousHosts', 'backoff'],
    },
    defaultConfig: proxyConfig,
    extensionProviders,
  },
  // What they say decides who is trusted or served: taken without an effect it would be a hole.
  unsupported: ['caCertificates', 'discoverySelectors'],
};

/** Parts of an installation that have no counterpart here. */
const INSTALLS = new Map([
  ['profile', 'nothing is installed by it'],
  ['hub', 'nothing is installed by it'],
  ['tag', 'nothing is installed by it'],
  ['installPackagePath', 'nothing is installed by it'],
  ['components', 'nothing is installed by it: gateways are Processes with "gateway: {}"'],
  ['addonComponents', 'nothing is installed by it'],
  ['values', 'nothing is installed by it'],
  ['unvalidatedValues', 'nothing is installed by it'],
  ['revision', 'there is one control plane'],
  ['defaultRevision', 'there is one control plane'],
  ['compatibilityVersion', 'nothing is installed by it'],
  ['namespace', 'nothing is installed by it'],
  ['resourceSuffix', 'nothing is installed by it'],
]);

export const istioOperatorKind: Kind<MeshConfigModel> = {
  kind: 'IstioOperator',
  apiVersions: ['install.istio.io/v1alpha1'],
  defaultName: 'mesh',
  spec: {
    t: 'object',
    fields: { meshConfig, ...Object.fromEntries([...INSTALLS.keys()].map((name) => [name, any])) },
  },
  specRequired: true,
  build(resource, spec, report, context) {
    for (const [name, why] of INSTALLS) {
      if (name in spec) report('WEFT-NO-EFFECT', `has no effect: ${why}`, `spec.${name}`, 'warning');
    }
    const settings = spec.meshConfig ?? {};
    return settingsOf({ ...resource, kind: 'IstioOperator' }, settings, 'spec.meshConfig', context, report);
  },
};

/** The ConfigMap that Istio's own control plane reads: `data.mesh` is YAML in YAML. */
export const meshConfigMapKind: Kind<MeshConfigModel> = {
  kind: 'ConfigMap',
  apiVersions: ['v1'],
  only: (name) => name === 'istio',
  spec: undefined,
  specRequired: false,
  top: {
    fields: { data: { t: 'object', fields: { mesh: meshConfig, meshNetworks: str }, required: ['mesh'] } },
    unsupported: ['binaryData', 'immutable'],
  },
  expand: (tree, fail) => {
    const data = tree.entries.get('data');
    const mesh = data?.value.kind === 'map' ? data.value.entries.get('mesh') : undefined;
    if (data?.value.kind !== 'map' || mesh?.value.kind !== 'scalar' || typeof mesh.value.value !== 'string')
      return tree;
    const text = mesh.value.value;
    // The first line of a block stands below its "|"; a text in quotes stands where it begins.
    const above = text.includes('\n') ? mesh.value.line : mesh.value.line - 1;
    const { documents, errors } = readYaml(text);
    for (const e of errors) fail(e.message, e.line + above, 'data.mesh');
    if (documents.length > 1) fail('holds more than one document', mesh.line, 'data.mesh');
    const empty: Tree = { kind: 'map', line: mesh.line, entries: new Map() };
    const value = errors.length === 0 && documents.length > 0 ? lowered(documents[0], above) : empty;
    const entries = new Map(data.value.entries).set('mesh', { line: mesh.line, value });
    const outer = new Map(tree.entries).set('data', { line: data.line, value: { ...data.value, entries } });
    return { ...tree, entries: outer };
  },
  build(resource, read, report, context) {
    const networks: string = read.data?.meshNetworks ?? '';
    if (!/^\s*(networks:\s*(\{\s*\})?\s*)?$/.test(networks)) {
      report('WEFT-UNSUPPORTED', 'there is one network: meshes of several are not supported yet', 'data.meshNetworks');
    }
    const settings = read.data?.mesh ?? {};
    return settingsOf({ ...resource, kind: 'ConfigMap' }, settings, 'data.mesh', context, report);
  },
};

/** The same tree, so many lines further down. */
function lowered(tree: Tree, by: number): Tree {
  const line = tree.line + by;
  if (tree.kind === 'scalar') return { ...tree, line };
  if (tree.kind === 'list') return { ...tree, line, items: tree.items.map((i) => lowered(i, by)) };
  const entries = [...tree.entries].map(([k, e]) => [k, { line: e.line + by, value: lowered(e.value, by) }] as const);
  return { ...tree, line, entries: new Map(entries) };
}

function settingsOf(
  resource: Resource & Pick<MeshConfigModel, 'kind'>,
  m: Plain,
  field: string,
  { rootNamespace, trustDomain }: KindContext,
  report: FieldReport,
): MeshConfigModel {
  for (const [name, why] of NO_EFFECT) {
    if (name in m && !isSame(name, m[name]))
      report('WEFT-NO-EFFECT', `has no effect: ${why}`, `${field}.${name}`, 'warning');
  }
  if (m.rootNamespace !== undefined && m.rootNamespace !== rootNamespace) {
    const message = `is "${m.rootNamespace}", but policies of the whole mesh are those in ${rootNamespace}`;
    report('WEFT-VALUE', message, `${field}.rootNamespace`);
  }
  if (m.trustDomain !== undefined && trustDomain !== undefined && m.trustDomain !== trustDomain) {
    const message = `is "${m.trustDomain}", but this mesh is ${trustDomain}: it is in every certificate, and chosen when a mesh is made`;
    report('WEFT-VALUE', message, `${field}.trustDomain`);
  }
  for (const name of ['metrics', 'accessLogging']) {
    if (m.defaultProviders && name in m.defaultProviders)
      report('WEFT-NO-EFFECT', `has no effect: ${telemetry}`, `${field}.defaultProviders.${name}`, 'warning');
  }
  const proxy = proxyConfigOf((m.defaultConfig ?? {}) as Plain, `${field}.defaultConfig`, report);
  const providers = extensionProvidersOf(m.extensionProviders, `${field}.extensionProviders`, report);
  return {
    ...resource,
    field,
    registryOnly: m.outboundTrafficPolicy?.mode && m.outboundTrafficPolicy.mode === 'REGISTRY_ONLY',
    connectTimeoutMs: m.connectTimeout,
    tcpKeepalive: m.tcpKeepalive && keepaliveOf(m.tcpKeepalive),
    autoMtls: m.enableAutoMtls ?? true,
    trustDomain: m.trustDomain,
    trustDomainAliases: ((m.trustDomainAliases ?? []) as (string | undefined)[]).filter((d) => d !== undefined),
    h2Upgrade: m.h2UpgradePolicy === 'UPGRADE',
    locality: m.localityLbSetting && localityOf(m.localityLbSetting, `${field}.localityLbSetting`, report),
    retries: m.defaultHttpRetryPolicy && retriesOf(m.defaultHttpRetryPolicy, `${field}.defaultHttpRetryPolicy`, report),
    // Without attempts there are none.
    applicationRetries: m.defaultInboundHttpRetryPolicy && (m.defaultInboundHttpRetryPolicy.attempts ?? 0),
    serviceExportTo: m.defaultServiceExportTo,
    virtualServiceExportTo: m.defaultVirtualServiceExportTo,
    destinationRuleExportTo: m.defaultDestinationRuleExportTo,
    proxy,
    tracing: tracingOf(m, field, proxy, providers, report),
    extensionProviders: providers,
    meshTls: meshTlsOf(m.meshMTLS, `${field}.meshMTLS`, report),
    tlsDefaults: {
      minVersion: m.tlsDefaults?.minProtocolVersion ?? 'TLS_AUTO',
      curves: namesOf(m.tlsDefaults?.ecdhCurves),
      cipherSuites: namesOf(m.tlsDefaults?.cipherSuites),
    },
  };
}

/** Links between proxies are TLS 1.3 alone, whatever is allowed beside it. */
function meshTlsOf(said: Plain | undefined, at: string, report: FieldReport): TlsChoiceModel {
  if (said?.minProtocolVersion === 'TLSV1_2') {
    const message = 'has no effect: links between proxies are TLS 1.3, and never less';
    report('WEFT-NO-EFFECT', message, `${at}.minProtocolVersion`, 'warning');
  }
  for (const [i, suite] of ((said?.cipherSuites ?? []) as (string | undefined)[]).entries()) {
    if (suite === undefined || SUITES_1_3.has(suite)) continue;
    const message = `has no effect: ${suite} is of TLS 1.2, and links between proxies are TLS 1.3 (${[...SUITES_1_3].join(', ')})`;
    report('WEFT-NO-EFFECT', message, `${at}.cipherSuites[${i}]`, 'warning');
  }
  return {
    curves: namesOf(said?.ecdhCurves),
    cipherSuites: namesOf(said?.cipherSuites).filter((suite) => SUITES_1_3.has(suite)),
  };
}

/** A provider that is named goes before the address; without either of them nobody is told of spans. */
function tracingOf(
  m: Plain,
  field: string,
  proxy: ProxyConfigModel,
  providers: readonly ExtensionProviderModel[],
  report: FieldReport,
): MeshConfigModel['tracing'] {
  const [provider, ...others] = ((m.defaultProviders?.tracing ?? []) as (string | undefined)[]).filter((p) => p);
  const at = `${field}.defaultProviders.tracing`;
  const noEffect = (what: string, why: string): void =>
    report('WEFT-NO-EFFECT', `has no effect: ${why}`, what, 'warning');
  const named = providers.find((p) => p.name === provider);
  const there = providers.filter((p) => p.type === 'zipkin' || p.type === 'opentelemetry').map((p) => p.name);
  if (others.length > 0) noEffect(`${at}[1]`, 'spans are sent to one provider, the first');
  if (provider !== undefined && !named) {
    const message = `there is no provider "${provider}" in extensionProviders. Those for spans: ${there.join(', ') || 'none'}`;
    report('WEFT-NO-TARGET', message, `${at}[0]`);
  } else if (named && !there.includes(named.name)) {
    noEffect(`${at}[0]`, `"${named.name}" is neither a zipkin nor an opentelemetry provider, to which spans are sent`);
  }
  if (m.enableTracing === true && provider === undefined && !proxy.tracing?.zipkin) {
    noEffect(
      `${field}.enableTracing`,
      'no collector is named: defaultProviders.tracing names a provider, or defaultConfig.tracing.zipkin.address is one',
    );
  }
  if (m.enableTracing === false && provider !== undefined)
    noEffect(`${field}.enableTracing`, 'defaultProviders.tracing names a provider, which gets spans');
  return { enabled: m.enableTracing !== false, provider };
}

function isSame(name: string, value: unknown): boolean {
  if (SAME.get(name)?.includes(value)) return true;
  const v = (value ?? {}) as Plain;
  if (name === 'inboundTrafficPolicy') return v.mode === undefined || v.mode === 'PASSTHROUGH';
  if (name === 'pathNormalization') return [undefined, 'DEFAULT', 'MERGE_SLASHES'].includes(v.normalization);
  return false;
}
