/** `defaultConfig` of mesh settings, and the annotation `proxy.istio.io/config` of a workload, which says the same for it. */
import type { ClientCertDetails, Labels, ProxyConfigModel, ProxyTracingModel } from '@weft/model';
import { type ObjectSchema, readSchema, type Schema } from '../schema.ts';
import { readYaml } from '../yaml.ts';
import { bool, type FieldReport, type Plain, port, str, strings, uint32 } from './common.ts';

export const PROXY_CONFIG = 'proxy.istio.io/config';

const CLIENT_CERT_DETAILS: readonly ClientCertDetails[] = [
  ...(['SANITIZE', 'FORWARD_ONLY', 'APPEND_FORWARD', 'SANITIZE_SET', 'ALWAYS_FORWARD_ONLY'] as const),
];

const any: Schema = { t: 'any' };
const proxies = 'the proxies are not set by it';
const envoy = 'the proxies are no Envoys';
const telemetry = 'telemetry is not set by it yet';

/** Fields that are taken and do nothing, and why. */
const NO_EFFECT: ReadonlyMap<string, string> = new Map([
  ['configPath', envoy],
  ['binaryPath', envoy],
  ['customConfigFile', envoy],
  ['proxyBootstrapTemplatePath', envoy],
  ['runtimeValues', envoy],
  ['privateKeyProvider', envoy],
  ['image', envoy],
  ['controlPlaneAuthPolicy', 'proxies always ask the control plane over mTLS'],
  ['discoveryAddress', 'proxies are told of their control plane when they start'],
  ['caCertificatesPem', 'roots are distributed by the control plane: see weft ca'],
  ['concurrency', 'a proxy is one process with one event loop'],
  ['interceptionMode', "how a workload is captured is the mesh's: see --capture"],
  ['proxyAdminPort', 'the admin port is 15000'],
  ['statusPort', 'probes and merged metrics are on 15020'],
  ['serviceCluster', proxies],
  ['tracingServiceName', proxies],
  ['availabilityZone', 'where a workload is, its labels say (topology.kubernetes.io/zone)'],
  ['sds', 'certificates come from the control plane, by one way'],
  ['parentShutdownDuration', 'there is no hot restart: terminationDrainDuration is what is waited for'],
  ['readinessProbe', 'the proxy is ready when it has its plan and its certificate'],
  ['proxyMetadata', proxies],
  ['proxyHeaders', proxies],
  ['meshId', 'a mesh is named when it starts'],
  ['statsdUdpAddress', telemetry],
  ['statNameLength', telemetry],
  ['extraStatTags', telemetry],
  ['proxyStatsMatcher', telemetry],
  ['envoyAccessLogService', telemetry],
  ['envoyMetricsService', telemetry],
  ['statsEvictionInterval', telemetry],
  ['statsCompression', telemetry],
  ['fileFlushInterval', telemetry],
  ['fileFlushMinSizeKb', telemetry],
]);

/** Of `tracing`, taken without an effect. */
const OTHER_TRACING: ReadonlyMap<string, string> = new Map([
  ['customTags', telemetry],
  ...['lightstep', 'datadog', 'stackdriver', 'openCensusAgent'].map(
    (name) => [name, 'spans are sent to Zipkin and OpenTelemetry collectors'] as const,
  ),
]);

const address: Schema = {
  t: 'string',
  check: (v) => (addressOf(v) ? undefined : 'it is host:port, such as zipkin.istio-system:9411'),
};

/** An IPv6 address stands in brackets. */
function addressOf(text: string): { host: string; port: number } | undefined {
  const [, ipv6, host = ipv6, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})$/.exec(text) ?? [];
  const number = Number(digits);
  return host !== undefined && number > 0 && number < 65_536 ? { host: host.toLowerCase(), port: number } : undefined;
}

const tracing: ObjectSchema = {
  t: 'object',
  fields: {
    ...Object.fromEntries([...OTHER_TRACING.keys()].map((name) => [name, any])),
    sampling: { t: 'number', min: 0, max: 100 },
    maxPathTagLength: uint32,
    enableIstioTags: bool,
    zipkin: { t: 'object', fields: { address }, required: ['address'] },
  },
  // Without it spans would leave in plaintext: a DestinationRule for the collector's host says it.
  unsupported: ['tlsSettings'],
};

export const proxyConfig: ObjectSchema = {
  t: 'object',
  fields: {
    ...Object.fromEntries([...NO_EFFECT.keys()].map((name) => [name, any])),
    tracing,
    zipkinAddress: address,
    concurrency: { t: 'int', min: 0, max: 4096 },
    proxyMetadata: { t: 'map', of: str },
    extraStatTags: strings,
    proxyAdminPort: port,
    statusPort: port,
    interceptionMode: { t: 'string', enum: ['REDIRECT', 'TPROXY', 'NONE'] },
    holdApplicationUntilProxyStarts: bool,
    drainDuration: { t: 'duration' },
    terminationDrainDuration: { t: 'duration' },
    gatewayTopology: {
      t: 'object',
      fields: {
        numTrustedProxies: { t: 'int', min: 0, max: 100 },
        proxyProtocol: { t: 'object', fields: {} },
        forwardClientCertDetails: { t: 'string', enum: ['UNDEFINED', ...CLIENT_CERT_DETAILS] },
      },
    },
  },
};

/** What differs from the only way that there is here is warned of by name. */
export function proxyConfigOf(p: Plain, field: string, report: FieldReport): ProxyConfigModel {
  for (const [name, why] of NO_EFFECT) {
    if (!(name in p) || SAME.get(name) === p[name]) continue;
    report('WEFT-NO-EFFECT', `has no effect: ${why}`, `${field}.${name}`, 'warning');
  }
  for (const [name, why] of OTHER_TRACING) {
    if (name in (p.tracing ?? {}))
      report('WEFT-NO-EFFECT', `has no effect: ${why}`, `${field}.tracing.${name}`, 'warning');
  }
  if (p.holdApplicationUntilProxyStarts === false) {
    const message = 'has no effect: applications are always started when their proxy is ready (true)';
    report('WEFT-NO-EFFECT', message, `${field}.holdApplicationUntilProxyStarts`, 'warning');
  }
  return {
    // What a proxy waits for before it ends; drainDuration is of Envoy's listeners, and is used where the other is not said.
    drainMs: p.terminationDrainDuration ?? p.drainDuration,
    numTrustedProxies: p.gatewayTopology?.numTrustedProxies,
    proxyProtocol: p.gatewayTopology?.proxyProtocol ? true : undefined,
    // UNDEFINED says nothing.
    clientCertDetails: CLIENT_CERT_DETAILS.find((d) => d === p.gatewayTopology?.forwardClientCertDetails),
    tracing: tracingOf(p),
  };
}

function tracingOf({ tracing: t, zipkinAddress }: Plain): ProxyTracingModel | undefined {
  const zipkin = (t?.zipkin?.address ?? zipkinAddress) as string | undefined;
  if (!t && zipkin === undefined) return undefined;
  return {
    sampling: t?.sampling,
    maxPathTagLength: t?.maxPathTagLength,
    istioTags: t?.enableIstioTags,
    zipkin: zipkin === undefined ? undefined : addressOf(zipkin),
  };
}

/** Values that say what is so anyway. */
const SAME: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['interceptionMode', 'REDIRECT'],
  ['proxyAdminPort', 15000],
  ['statusPort', 15020],
]);

/** Of a workload's annotations; undefined: it has none. Problems are reported at the annotation. */
export function proxyConfigAnnotation(annotations: Labels, report: FieldReport): ProxyConfigModel | undefined {
  if (!Object.hasOwn(annotations, PROXY_CONFIG)) return undefined;
  const at = `metadata.annotations.${PROXY_CONFIG}`;
  const { documents, errors } = readYaml(annotations[PROXY_CONFIG]);
  for (const e of errors) report('WEFT-YAML', `line ${e.line} of it: ${e.message}`, at);
  if (errors.length > 0 || documents.length === 0) return undefined;
  if (documents.length > 1) report('WEFT-VALUE', 'holds more than one document', at);
  const read = readSchema(proxyConfig, documents[0], '', (code, message, field) =>
    report(code, field ? `${field}: ${message}` : message, at),
  );
  const named: FieldReport = Object.assign(
    (code: string, message: string, field: string, severity?: 'error' | 'warning') =>
      report(code, `${field.slice(at.length + 1)}: ${message}`, at, severity),
    { broken: report.broken },
  );
  return read ? proxyConfigOf(read as Plain, at, named) : undefined;
}
