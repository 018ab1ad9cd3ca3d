/** DestinationRules from YAML to clusters: which rule a client gets, and what it says of balancing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { ClientTls, type Cluster, LbPolicy } from '@weft/plan';
import { loadFiles } from './index.ts';

const service = `apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: tcp-2, port: 82}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: [run], ports: [{containerPort: 80}, {containerPort: 81}]}
`;

function rule(spec: string, name = 'cart', namespace = 'shop'): string {
  return `---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n`;
}

function clusters(rules: string, client: Client = {}) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: service + rules }]);
  assert.ok(model, JSON.stringify(problems, null, 1));
  return clustersOf(model, client);
}

interface Client {
  namespace?: string;
  labels?: Record<string, string>;
}

function planOf(model: Model, client: Client = {}) {
  const instance: Instance = {
    name: 'web-0',
    workload: 'web',
    namespace: client.namespace ?? 'shop',
    serviceAccount: 'web',
    labels: client.labels ?? {},
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: [],
    injected: true,
    ready: true,
    draining: false,
  };
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: 'cluster.local',
    domain: 'cluster.local',
    capture: 'transparent',
    instances: [instance],
    vips: new Map(),
  };
  return compile(model, runtime, instance).parts;
}

function clustersOf(model: Model, client: Client = {}) {
  const parts = planOf(model, client);
  return (port = 80, subset = ''): Cluster => {
    const part = parts.get(`cluster/outbound|${port}|${subset}|cart.shop.svc.cluster.local`);
    assert.ok(part?.kind.case === 'cluster');
    return part.kind.value;
  };
}

const lb = (text: string): string => rule(`{host: cart, trafficPolicy: {loadBalancer: ${text}}}`);

test('consistent hashing', () => {
  const header = clusters(lb('{consistentHash: {httpHeaderName: X-User}}'))();
  assert.equal(header.lb, LbPolicy.RING_HASH);
  assert.deepEqual(header.hash?.key, { case: 'header', value: 'x-user' });
  const cookie = clusters(
    lb('{consistentHash: {httpCookie: {name: sid, path: /, ttl: 0s}, maglev: {tableSize: 251}}}'),
  )();
  assert.equal(cookie.lb, LbPolicy.MAGLEV);
  assert.equal(cookie.hash?.tableSize, 251);
  assert.equal(cookie.hash?.key.case === 'cookie' && cookie.hash.key.value.ttlMs, 0);
});

test('port-level settings stand alone, a subset goes before its rule', () => {
  const of = clusters(
    rule(`
  host: cart
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    outlierDetection: {consecutive5xxErrors: 7}
    retryBudget: {percent: 50, budgetInterval: 0s}
    portLevelSettings:
      - {port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}
      - {port: {number: 82}, loadBalancer: {simple: PASSTHROUGH}}
  subsets:
    - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}
`),
  );
  assert.equal(of(80).lb, LbPolicy.RANDOM);
  assert.equal(of(80).outlier?.consecutive5xx, 7);
  assert.deepEqual([of(80).retryBudget?.percent, of(80).retryBudget?.minRetryConcurrency], [50, 3]);
  assert.equal(of(81).lb, LbPolicy.ROUND_ROBIN);
  assert.equal(of(81).outlier, undefined);
  assert.equal(of(82).lb, LbPolicy.RANDOM, 'PASSTHROUGH behind a virtual address');
  assert.equal(of(80, 'v1').lb, LbPolicy.LEAST_REQUEST);
  assert.equal(of(80, 'v1').outlier?.consecutive5xx, 7);
});

test('localities: shares and failover as seen from the client', () => {
  const eu = { labels: { 'topology.kubernetes.io/region': 'eu', 'topology.kubernetes.io/zone': 'a' } };
  const distribute = lb('{localityLbSetting: {distribute: [{from: eu/a/*, to: {"eu/a/*": 80, "us/*": 20}}]}}');
  assert.deepEqual(
    clusters(distribute, eu)().locality?.distribute.map((d) => [d.locality, d.weight]),
    [
      ['eu/a/*', 80],
      ['us/*', 20],
    ],
  );
  assert.equal(clusters(distribute)().locality, undefined);

  const outlier = rule('{host: cart, trafficPolicy: {outlierDetection: {}}}');
  assert.equal(clusters(outlier, eu)().locality?.failover, true);
  assert.equal(clusters(outlier)().locality, undefined);
  const named = rule(
    '{host: cart, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}}}',
  );
  assert.equal(clusters(named, { labels: { 'istio-locality': 'eu.a.1' } })().locality?.failoverRegion, 'us');
});

test('failover without outlierDetection is warned of, wherever that stands', () => {
  const said = (policy: string, subset = '') => {
    const subsets = subset && `, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {${subset}}}]`;
    const text = service + rule(`{host: cart, trafficPolicy: {${policy}}${subsets}}`);
    return loadFiles([{ path: 'a.yaml', text }]).problems.map((p) => `${p.severity} ${p.code} ${p.field}`);
  };
  const failover = 'loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}';
  const at = 'spec.trafficPolicy.loadBalancer.localityLbSetting.failover';
  assert.deepEqual(said(failover), [`warning WEFT-NO-EFFECT ${at}`]);
  assert.deepEqual(said(`${failover}, outlierDetection: {}`), []);
  assert.deepEqual(said(failover, 'outlierDetection: {}'), []);
  assert.deepEqual(said('loadBalancer: {localityLbSetting: {enabled: true}}'), []);
});

test('exportTo and workloadSelector choose the clients of a rule', () => {
  const random = '{host: cart.shop.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}';
  const hidden = rule(`${random}, exportTo: ["."]}`);
  assert.equal(clusters(hidden)().lb, LbPolicy.RANDOM);
  assert.equal(clusters(hidden, { namespace: 'other' })().lb, LbPolicy.UNSPECIFIED);
  assert.equal(clusters(rule(`${random}, exportTo: [other]}`), { namespace: 'other' })().lb, LbPolicy.RANDOM);

  const chosen =
    rule('{host: cart, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}', 'all') +
    rule(`${random}, workloadSelector: {matchLabels: {app: web}}}`, 'web');
  assert.equal(clusters(chosen, { labels: { app: 'web' } })().lb, LbPolicy.RANDOM);
  assert.equal(clusters(chosen, { labels: { app: 'api' } })().lb, LbPolicy.ROUND_ROBIN);
});

test('what only several fields together get wrong is said with its place', () => {
  const table: [string, string, RegExp][] = [
    [lb('{consistentHash: {}}'), 'spec.trafficPolicy.loadBalancer.consistentHash', /httpHeaderName/],
    [
      lb('{consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}'),
      'spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize',
      /prime/,
    ],
    [
      lb('{localityLbSetting: {distribute: [{from: eu, to: {eu: 50}}]}}'),
      'spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to',
      /50 %/,
    ],
    [lb('{simple: RANDOM, consistentHash: {useSourceIp: true}}'), 'spec.trafficPolicy.loadBalancer', /simple/],
    [
      rule('{host: cart, trafficPolicy: {portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}}'),
      'spec.trafficPolicy.portLevelSettings[1].port.number',
      /twice/,
    ],
  ];
  for (const [text, field, message] of table) {
    const { problems } = loadFiles([{ path: 'a.yaml', text: service + text }]);
    const found = problems.find((p) => p.severity === 'error' && p.field.startsWith(field));
    assert.ok(found, JSON.stringify(problems));
    assert.match(found.message, message);
  }
});

test('what Istio has no fields for: annotations of the service and of the rule', () => {
  const annotated = (text: string, rules = ''): string =>
    service.replace('namespace: shop}', `namespace: shop, annotations: {${text}}}`) + rules;
  const load = (text: string) => loadFiles([{ path: 'a.yaml', text }]);
  const cluster = (text: string): Cluster => {
    const { model, problems } = load(text);
    assert.ok(model, JSON.stringify(problems, null, 1));
    return clustersOf(model)();
  };
  const accrual =
    'balancer.linkerd.io/failure-accrual: consecutive, balancer.linkerd.io/failure-accrual-consecutive-max-failures: "3", weft.dev/failure-accrual-rate-limits: "true"';
  const plain = cluster(annotated(`${accrual}, weft.dev/load-balancer: peak-ewma`));
  const { maxFailures, minPenaltyMs, maxPenaltyMs, jitter, rateLimits } = plain.failureAccrual!;
  assert.deepEqual([maxFailures, minPenaltyMs, maxPenaltyMs, jitter, rateLimits], [3, 1000, 60_000, 0.5, true]);
  assert.equal(plain.lb, LbPolicy.PEAK_EWMA);
  assert.match(plain.lbRef, /^Service\/shop\/cart#metadata\.annotations\.weft\.dev\/load-balancer$/);

  const ruled = rule(
    '{host: cart, trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {outlierDetectionHttpErrorCodes: [429]}}}',
  ).replace('namespace: shop}', 'namespace: shop, annotations: {weft.dev/outlier-failure-percentage: "80"}}');
  const both = cluster(annotated(`${accrual}, weft.dev/load-balancer: peak-ewma`, ruled));
  assert.equal(both.failureAccrual, undefined);
  assert.equal(both.lb, LbPolicy.RANDOM);
  const { errorCodes, failurePercentage, minimumHosts, requestVolume } = both.outlier!;
  assert.deepEqual([errorCodes, failurePercentage, minimumHosts, requestVolume], [[429], 80, 5, 50]);

  const wrong = (text: string): string[] => load(annotated(text)).problems.map((p) => `${p.line} ${p.field}`);
  const at = 'metadata.annotations.';
  assert.deepEqual(wrong('weft.dev/load-balancer: fastest'), [`3 ${at}weft.dev/load-balancer`]);
  assert.deepEqual(wrong('balancer.linkerd.io/failure-accrual-consecutive-max-penalty: soon'), [
    `3 ${at}balancer.linkerd.io/failure-accrual-consecutive-max-penalty`,
  ]);
  assert.deepEqual(wrong('balancer.linkerd.io/failure-accrual-max: "1"'), [
    `3 ${at}balancer.linkerd.io/failure-accrual-max`,
  ]);
});

test('the position of faults: an annotation of the VirtualService', () => {
  const problems = (value: string, route = 'fault: {abort: {httpStatus: 503, percentage: {value: 50}}}, ') => {
    const vs = `---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop, annotations: {weft.dev/fault-position: ${value}}}\nspec: {hosts: [cart], http: [{${route}route: [{destination: {host: cart, port: {number: 80}}}]}]}\n`;
    const { model, problems } = loadFiles([{ path: 'a.yaml', text: service + vs }]);
    return { model, problems: problems.map((p) => `${p.severity} ${p.code} ${p.field}`) };
  };
  const faultOf = (value: string) => {
    const { model } = problems(value);
    assert.ok(model);
    return planOf(model).get('service/cart.shop.svc.cluster.local');
  };
  for (const [value, behind] of [
    ['behind-retry', true],
    ['before-retry', false],
  ] as const) {
    const part = faultOf(value);
    assert.ok(part?.kind.case === 'service');
    assert.equal(part.kind.value.ports[0].http[0].fault?.behindRetry, behind);
  }
  const at = 'metadata.annotations.weft.dev/fault-position';
  assert.deepEqual(problems('beside').problems, [`error WEFT-VALUE ${at}`]);
  assert.deepEqual(problems('behind-retry', '').problems, [`warning WEFT-NO-EFFECT ${at}`]);
});

test('connection pool: durations, streams, versions', () => {
  const spec =
    '{tcp: {maxConnectionDuration: 1h, idleTimeout: 5m}, http: {maxConcurrentStreams: 7, h2UpgradePolicy: UPGRADE, useClientProtocol: true}}';
  const pool = clusters(rule(`{host: cart, trafficPolicy: {connectionPool: ${spec}}}`))().pool!;
  assert.deepEqual(
    [pool.maxConnectionDurationMs, pool.tcpIdleTimeoutMs, pool.maxConcurrentStreams],
    [3_600_000, 300_000, 7],
  );
  assert.deepEqual([pool.h2Upgrade, pool.useClientProtocol], [true, true]);
  const none = clusters('')().pool!;
  assert.deepEqual([none.maxConnectionDurationMs, none.maxConcurrentStreams, none.h2Upgrade], [0, 0, false]);
});

test('how long a Retry-After may be: an annotation of the VirtualService', () => {
  const load = (value: string, retries = 'retries: {attempts: 1}, ') =>
    loadFiles([
      {
        path: 'a.yaml',
        text: `${service}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop, annotations: {weft.dev/retry-after-max: ${value}}}\nspec: {hosts: [cart], http: [{${retries}route: [{destination: {host: cart, port: {number: 80}}}]}]}\n`,
      },
    ]);
  const { model } = load('30s');
  assert.ok(model);
  const part = planOf(model).get('service/cart.shop.svc.cluster.local');
  assert.ok(part?.kind.case === 'service');
  assert.equal(part.kind.value.ports[0].http[0].retry?.retryAfterMaxMs, 30_000);
  const at = 'metadata.annotations.weft.dev/retry-after-max';
  const said = (value: string, retries?: string) =>
    load(value, retries).problems.map((p) => `${p.severity} ${p.field}`);
  assert.deepEqual(said('soon'), [`error ${at}`]);
  assert.deepEqual(said('30s', ''), [`warning ${at}`]);
});

test('faults of connections: for clients of their namespace, on the ports that they name', () => {
  const fault = (spec: string): string =>
    `---\napiVersion: weft.dev/v1alpha1\nkind: TCPFault\nmetadata: {name: late, namespace: shop}\nspec: ${spec}\n`;
  const spec = '{host: cart, port: 81, latency: {percentage: 10, fixedDelay: 1s}, reset: {percentage: 0.5}}';
  const of = clusters(fault(spec));
  const { ref, delayPercent, delayMs, resetPercent, blackholePercent } = of(81).tcpFault!;
  assert.deepEqual([ref, delayPercent, delayMs, resetPercent], ['TCPFault/shop/late#spec', 10, 1000, 0.5]);
  assert.equal(blackholePercent, 0);
  assert.equal(of(80).tcpFault, undefined);
  assert.equal(clusters(fault(spec), { namespace: 'other' })(81).tcpFault, undefined);
  const said = (text: string) =>
    loadFiles([{ path: 'a.yaml', text: service + fault(text) }]).problems.map((p) => p.code);
  const slow = clusters(fault('{host: cart, bandwidth: {percentage: 50, bytesPerSecond: 1000}}'))(81).tcpFault!;
  assert.deepEqual([slow.bandwidthPercent, slow.bandwidthBytesPerSecond], [50, 1000]);
  assert.deepEqual(said('{host: cart}'), ['WEFT-VALUE']);
  assert.equal(said('{host: gone, reset: {percentage: 1}}').length, 1);
});

test('zone-aware balancing: from six endpoints on where it does not say', () => {
  const here = { labels: { 'topology.kubernetes.io/region': 'eu', 'topology.kubernetes.io/zone': 'a' } };
  assert.equal(clusters(lb('{zoneAwareLbSetting: {}}'), here)().locality?.zoneAwareMin, 6);
  const own = clusters(lb('{simple: ROUND_ROBIN, zoneAwareLbSetting: {minClusterSize: 2}}'), here)();
  assert.deepEqual([own.locality?.zoneAwareMin, own.lb], [2, LbPolicy.ROUND_ROBIN]);
  const { problems } = loadFiles([
    {
      path: 'a.yaml',
      text: service + lb('{zoneAwareLbSetting: {}, localityLbSetting: {distribute: [{from: eu, to: {us: 100}}]}}'),
    },
  ]);
  assert.deepEqual(
    problems.map((p) => [p.severity, p.field]),
    [['error', 'spec.trafficPolicy.loadBalancer.zoneAwareLbSetting']],
  );
});

test('tunnel: the host is a forward proxy for opaque connections; a port’s own settings leave it, a subset’s go before', () => {
  const text = rule(
    '{host: cart, trafficPolicy: {tunnel: {protocol: POST, targetHost: a.test, targetPort: 443}, portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 5}}}]}, subsets: [{name: s, trafficPolicy: {tunnel: {targetHost: "2001:db8::1", targetPort: 1}}}]}',
  );
  const of = clusters(text);
  const shown = (port: number, subset = '') => {
    const { ref, authority, post } = of(port, subset).tunnel!;
    return [ref, authority, post];
  };
  assert.deepEqual(shown(81), ['DestinationRule/shop/cart#spec.trafficPolicy.tunnel', 'a.test:443', true]);
  assert.deepEqual(shown(81, 's')[2], false);
  const said = (spec: string) =>
    loadFiles([{ path: 'a.yaml', text: service + rule(spec) }]).problems.map((p) => `${p.severity} ${p.field}`);
  const tunnel = (t: string) => `{host: cart, trafficPolicy: {tunnel: ${t}}}`;
  const at = 'spec.trafficPolicy.tunnel';
  // The port 80 carries requests.
  assert.deepEqual(said(tunnel('{targetHost: a.test, targetPort: 1}')), [`warning ${at}`]);
  assert.deepEqual(said(tunnel('{targetHost: "*.test", targetPort: 1}')), [`error ${at}.targetHost`]);
  assert.deepEqual(said(tunnel('{targetHost: a.test}')), [`error ${at}.targetPort`]);
  assert.deepEqual(said(tunnel('{protocol: SOCKS, targetHost: a.test, targetPort: 1}')), [`error ${at}.protocol`]);
  const own = '{host: cart, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: cart.test}}}';
  assert.deepEqual(said(own), ['warning spec.trafficPolicy.tls.sni']);
});

test('ISTIO_MUTUAL with subjectAltNames: identities of servers, and nothing else', () => {
  const tls = (names: string) =>
    rule(`{host: cart, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: [${names}]}}}`);
  const id = 'spiffe://cluster.local/ns/shop/sa/cart';
  const { tls: mode, identities, origination } = clusters(tls(id))();
  assert.deepEqual([mode, identities, origination], [ClientTls.ISTIO_MUTUAL, [id], undefined]);
  for (const bad of ['cart.shop', '"spiffe://cluster.local/*"', '"*"']) {
    const { problems } = loadFiles([{ path: 'a.yaml', text: service + tls(bad) }]);
    const found = problems.map((p) => [p.code, p.severity, p.field]);
    assert.deepEqual(found, [['WEFT-VALUE', 'error', 'spec.trafficPolicy.tls.subjectAltNames[0]']]);
  }
});

test('attributes of the cookie that is set', () => {
  const cookie = (text: string) => lb(`{consistentHash: {httpCookie: {name: sid, ${text}}}}`);
  const key = clusters(cookie('ttl: 0s, attributes: [{name: SameSite, value: Lax}, {name: Secure}]'))().hash?.key;
  assert.deepEqual(key?.case === 'cookie' && key.value.attributes, ['SameSite=Lax', 'Secure']);
  const said = (text: string) =>
    loadFiles([{ path: 'a.yaml', text: service + cookie(text) }]).problems.map((p) => [p.code, p.severity]);
  assert.deepEqual(said('attributes: [{name: Secure}]'), [['WEFT-NO-EFFECT', 'warning']]);
  assert.deepEqual(said('ttl: 0s, attributes: [{name: "a; b"}]'), [['WEFT-VALUE', 'error']]);
});

test('fail-fast: an annotation of the service', () => {
  const of = (value: string) =>
    loadFiles([
      {
        path: 'a.yaml',
        text: service.replace('namespace: shop}', `namespace: shop, annotations: {weft.dev/fail-fast: "${value}"}}`),
      },
    ]);
  const { model } = of('3s');
  assert.equal(model && clustersOf(model)().pool?.failFastMs, 3000);
  assert.deepEqual(
    of('soon').problems.map((p) => [p.severity, p.field]),
    [['error', 'metadata.annotations.weft.dev/fail-fast']],
  );
});
