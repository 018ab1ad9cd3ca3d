/** How often each supported field of the three kinds occurs in generated configurations. */

const POLICY = [
  'loadBalancer.simple',
  'loadBalancer.consistentHash.httpHeaderName',
  'loadBalancer.consistentHash.httpCookie.name',
  'loadBalancer.consistentHash.useSourceIp',
  'loadBalancer.consistentHash.httpQueryParameterName',
  'loadBalancer.consistentHash.ringHash.minimumRingSize',
  'loadBalancer.consistentHash.maglev.tableSize',
  'loadBalancer.consistentHash.minimumRingSize',
  'loadBalancer.warmup.duration',
  'loadBalancer.zoneAwareLbSetting.minClusterSize',
  'connectionPool.http.http1MaxPendingRequests',
  'connectionPool.http.http2MaxRequests',
  'connectionPool.http.maxRequestsPerConnection',
  'connectionPool.http.maxRetries',
  'connectionPool.http.idleTimeout',
  'connectionPool.http.h2UpgradePolicy',
  'connectionPool.http.maxConcurrentStreams',
  'connectionPool.http.http2KeepAlive.interval',
  'connectionPool.tcp.maxConnections',
  'connectionPool.tcp.connectTimeout',
  'connectionPool.tcp.idleTimeout',
  'connectionPool.tcp.maxConnectionDuration',
  'connectionPool.tcp.tcpKeepalive.time',
  'outlierDetection.consecutive5xxErrors',
  'outlierDetection.consecutiveGatewayErrors',
  'outlierDetection.interval',
  'outlierDetection.baseEjectionTime',
  'outlierDetection.maxEjectionPercent',
  'outlierDetection.minHealthPercent',
  'outlierDetection.splitExternalLocalOriginErrors',
  'outlierDetection.consecutiveLocalOriginFailures',
  'tls.mode',
  'retryBudget.percent',
];
const HEADERS = ['request', 'response'].flatMap((s) => ['set', 'add', 'remove'].map((o) => `headers.${s}.${o}`));
const MATCH = [
  'name uri method authority scheme headers withoutHeaders queryParams ignoreUriCase sourceLabels',
  'sourceNamespace gateways port',
].flatMap((l) => l.split(' '));
const SOURCE = ['principals', 'namespaces', 'ipBlocks', 'serviceAccounts', 'trustDomains'];
const OPERATION = ['hosts', 'ports', 'methods', 'paths'];
const not = (name: string): string => `not${name[0].toUpperCase()}${name.slice(1)}`;
const withNot = (names: readonly string[]): string[] => names.flatMap((n) => [n, not(n)]);

/** Lists are left out of the paths. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  VirtualService: [
    'hosts',
    'gateways',
    'http.name',
    ...MATCH.map((m) => `http.match.${m}`),
    'http.route.destination.host',
    'http.route.destination.subset',
    'http.route.destination.port.number',
    'http.route.weight',
    ...HEADERS.map((h) => `http.route.${h}`),
    ...HEADERS.map((h) => `http.${h}`),
    ...['uri', 'authority', 'scheme', 'port', 'redirectCode'].map((f) => `http.redirect.${f}`),
    'http.directResponse.status',
    'http.directResponse.body.string',
    'http.rewrite.uri',
    'http.rewrite.authority',
    'http.timeout',
    'http.delegate.name',
    ...['attempts', 'perTryTimeout', 'retryOn', 'retryIgnorePreviousHosts', 'retryRemoteLocalities', 'backoff'].map(
      (f) => `http.retries.${f}`,
    ),
    'http.fault.delay.fixedDelay',
    'http.fault.delay.percentage.value',
    'http.fault.abort.httpStatus',
    'http.fault.abort.grpcStatus',
    'http.fault.abort.percentage.value',
    'http.mirror.host',
    'http.mirrorPercentage.value',
    'http.mirrors.destination.host',
    'http.mirrors.percentage.value',
    ...['sourceLabels', 'sourceNamespace', 'gateways', 'port', 'destinationSubnets'].map((m) => `tcp.match.${m}`),
    'tcp.route.destination.host',
    'tcp.route.destination.subset',
    'tcp.route.weight',
  ],
  DestinationRule: [
    'host',
    'exportTo',
    'workloadSelector.matchLabels',
    'subsets.name',
    'subsets.labels',
    'trafficPolicy.portLevelSettings.port.number',
    ...POLICY.map((p) => `trafficPolicy.${p}`),
    ...POLICY.map((p) => `subsets.trafficPolicy.${p}`),
  ],
  AuthorizationPolicy: [
    'selector.matchLabels',
    'action',
    ...withNot(SOURCE).map((s) => `rules.from.source.${s}`),
    ...withNot(OPERATION).map((o) => `rules.to.operation.${o}`),
    'rules.when.key',
    'rules.when.values',
    'rules.when.notValues',
  ],
};

export class FieldCount {
  readonly #counts = new Map<string, number>();

  constructor() {
    for (const [kind, fields] of Object.entries(FIELDS))
      for (const field of fields) this.#counts.set(`${kind} ${field}`, 0);
  }

  add(docs: readonly Record<string, unknown>[]): void {
    for (const doc of docs) this.#walk(String(doc.kind), '', doc.spec);
  }

  #walk(kind: string, path: string, value: unknown): void {
    const known = this.#counts.get(`${kind} ${path}`);
    if (known !== undefined) this.#counts.set(`${kind} ${path}`, known + 1);
    if (Array.isArray(value)) {
      for (const item of value) if (typeof item === 'object') this.#walk(kind, path, item);
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) this.#walk(kind, path ? `${path}.${key}` : key, inner);
    }
  }

  counts(): [string, number][] {
    return [...this.#counts];
  }
}
