import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compile, type Instance, type MeshRuntime, meshConfigOf } from '@weft/model';
import { ClientTls, ForwardClientCert, SpanProtocol, TlsVersion } from '@weft/plan';
import { loadFiles } from './index.ts';

const AUTHZ =
  'apiVersion: v1\nkind: Service\nmetadata: {name: authz, namespace: sec}\nspec: {selector: {app: authz}, ports: [{name: grpc, port: 9000}, {name: http, port: 8000}]}\n---\n' +
  'apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: authz, namespace: sec, labels: {app: authz}}\nspec: {command: [run], ports: [{containerPort: 9000}, {containerPort: 8000}]}\n';
const load = (...texts: string[]) => loadFiles(texts.map((text, i) => ({ path: `f${i}.yaml`, text })));
const problemsOf = (...texts: string[]) =>
  load(...texts)
    .problems.sort((a, b) => a.line - b.line)
    .map((p) => `${p.file}:${p.line} ${p.severity} ${p.code} ${p.field}`);
const settingsOf = (...texts: string[]) => {
  const r = load(...texts);
  assert.ok(r.model, JSON.stringify(r.problems, null, 1));
  return meshConfigOf(r.model);
};
const indented = (text: string, by: string) => text.replace(/^(?=.)/gm, by);
const operator = (settings: string) =>
  `apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  meshConfig:\n${indented(settings, '    ')}\n`;
const configMap = (settings: string) =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n${indented(settings, '    ')}\n`;

const PROVIDERS = `extensionProviders:
- name: grpc-authz
  envoyExtAuthzGrpc:
    service: authz.sec.svc.cluster.local
    port: 9000
    timeout: 250ms
    failOpen: true
    statusOnError: "503"
    includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true, packAsBytes: true}
- name: http-authz
  envoyExtAuthzHttp:
    service: sec/authz.sec.svc.cluster.local
    port: 8000
    pathPrefix: /check
    includeRequestHeadersInCheck: [X-User, x-team-*]
    includeAdditionalHeadersInCheck: {X-From: mesh}
    headersToUpstreamOnAllow: [X-Decision]
    headersToDownstreamOnAllow: [set-cookie]
    headersToDownstreamOnDeny: [content-type]
- name: traces
  zipkin: {service: zipkin.obs, port: 9411}
`;

test('authorizers by both documents, with their defaults', () => {
  for (const form of [operator, configMap]) {
    const [grpc, http, traces] = settingsOf(form(PROVIDERS), AUTHZ)?.extensionProviders ?? [];
    assert.deepEqual(
      { ...grpc, field: '' },
      {
        type: 'extAuthzGrpc',
        field: '',
        name: 'grpc-authz',
        service: 'authz.sec.svc.cluster.local',
        port: 9000,
        timeoutMs: 250,
        failOpen: true,
        clearRouteCache: false,
        statusOnError: 503,
        body: { maxBytes: 4096, allowPartial: true, asBytes: true },
      },
    );
    assert.ok(http.type === 'extAuthzHttp');
    assert.deepEqual([http.timeoutMs, http.failOpen, http.statusOnError, http.body], [600_000, false, 403, undefined]);
    assert.deepEqual(http.includeRequestHeaders, ['x-user', 'x-team-*']);
    assert.deepEqual(http.additionalHeaders, [['x-from', 'mesh']]);
    assert.deepEqual([http.pathPrefix, http.headersToUpstreamOnAllow], ['/check', ['x-decision']]);
    assert.deepEqual([traces.type, traces.type === 'zipkin' && traces.path], ['zipkin', '/api/v2/spans']);
  }
});

test('mistakes stand where they were made, in YAML within YAML too', () => {
  const wrong = PROVIDERS.replace('port: 9000', 'port: 9001').replace('failOpen', 'failopen');
  assert.deepEqual(problemsOf(operator(wrong), AUTHZ), [
    'f0.yaml:11 error WEFT-FIELD spec.meshConfig.extensionProviders[0].envoyExtAuthzGrpc.failopen',
  ]);
  assert.deepEqual(problemsOf(configMap(PROVIDERS.replace('port: 9000', 'port: 9001')), AUTHZ), [
    'f0.yaml:10 error WEFT-NO-PORT data.mesh.extensionProviders[0].envoyExtAuthzGrpc.port',
    'f0.yaml:26 warning WEFT-NO-TARGET data.mesh.extensionProviders[2].zipkin.service',
  ]);
  assert.equal(problemsOf(configMap('a: b\n- c'))[0], 'f0.yaml:7 error WEFT-YAML data.mesh');
});

test('a provider that is nothing, two things, or twice there', () => {
  const bad =
    'extensionProviders:\n- name: a\n- name: b\n  datadog: {}\n  prometheus: {}\n- name: b\n  prometheus: {}\n';
  assert.deepEqual(problemsOf(operator(bad)), [
    'f0.yaml:6 error WEFT-VALUE spec.meshConfig.extensionProviders[0]',
    'f0.yaml:7 error WEFT-VALUE spec.meshConfig.extensionProviders[1]',
    'f0.yaml:10 error WEFT-VALUE spec.meshConfig.extensionProviders[2].name',
  ]);
});

test('what has no effect is warned of by name; what is so anyway is not', () => {
  const same =
    'enablePrometheusMerge: true\nmeshMTLS: {minProtocolVersion: TLSV1_3}\ninboundTrafficPolicy: {mode: PASSTHROUGH}\ndefaultConfig: {holdApplicationUntilProxyStarts: true, statusPort: 15020}\n';
  assert.deepEqual(problemsOf(operator(same)), []);
  const other =
    'enablePrometheusMerge: false\nmeshMTLS: {minProtocolVersion: TLSV1_2}\ninboundTrafficPolicy: {mode: LOCALHOST}\ndefaultConfig: {holdApplicationUntilProxyStarts: false, statusPort: 15021, tracingServiceName: APP_LABEL_AND_NAMESPACE}\nprotocolDetectionTimeout: 0s\n';
  assert.deepEqual(
    problemsOf(operator(other)),
    [
      '5 warning WEFT-NO-EFFECT spec.meshConfig.enablePrometheusMerge',
      '6 warning WEFT-NO-EFFECT spec.meshConfig.meshMTLS.minProtocolVersion',
      '7 warning WEFT-NO-EFFECT spec.meshConfig.inboundTrafficPolicy',
      '8 warning WEFT-NO-EFFECT spec.meshConfig.defaultConfig.statusPort',
      '8 warning WEFT-NO-EFFECT spec.meshConfig.defaultConfig.tracingServiceName',
      '8 warning WEFT-NO-EFFECT spec.meshConfig.defaultConfig.holdApplicationUntilProxyStarts',
      '9 warning WEFT-NO-EFFECT spec.meshConfig.protocolDetectionTimeout',
    ].map((p) => `f0.yaml:${p}`),
  );
  assert.deepEqual(
    problemsOf(operator('caCertificates: []\nrootNamespace: mine\n')).map((p) => p.slice(8)),
    ['5 error WEFT-UNSUPPORTED spec.meshConfig.caCertificates', '6 error WEFT-VALUE spec.meshConfig.rootNamespace'],
  );
});

test('one document of settings counts', () => {
  const [a, b] = [operator('connectTimeout: 1s'), configMap('connectTimeout: 2s')];
  assert.equal(settingsOf(b, a)?.connectTimeoutMs, 1000);
  assert.deepEqual(problemsOf(b, a), ['f0.yaml:3 warning WEFT-IGNORED metadata.name']);
});

test('the seed of an operator that sets tracing up', () => {
  const path = '003-istio-operator-tracing.yaml';
  const text = readFileSync(new URL(`../../../examples/seeds/${path}`, import.meta.url), 'utf8');
  const { model, problems } = loadFiles([{ path, text }]);
  assert.deepEqual(
    problems.map((p) => `${p.line} ${p.severity} ${p.field}`),
    ['14 warning spec.meshConfig.extensionProviders[0].zipkin.service'],
  );
  assert.equal(model && meshConfigOf(model)?.extensionProviders[0].name, 'tempo');
  // It is not in the mesh: DNS knows it, or nobody.
  const { tracing } = planOf('web', 'shop', SHOP, text).self!;
  assert.deepEqual(
    [tracing?.samplingPercent, tracing?.collector?.host, tracing?.collector?.port, tracing?.collector?.cluster],
    [100, 'tempo-distributor.observability', 9411, ''],
  );
});

test('where spans go: a named provider, else an address; a collector of the mesh by its cluster, past every Sidecar', () => {
  const tempo =
    'apiVersion: v1\nkind: Service\nmetadata: {name: tempo, namespace: obs}\nspec: {selector: {app: tempo}, ports: [{name: http, port: 9411}, {name: otlp, port: 4318}]}\n---\n' +
    'apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: tempo, namespace: obs, labels: {app: tempo}}\nspec: {command: [run], ports: [{containerPort: 9411}, {containerPort: 4318}]}\n---\n' +
    'apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: narrow, namespace: shop}\nspec: {egress: [{hosts: ["./*"]}]}\n';
  const providers = `extensionProviders:
- {name: zip, zipkin: {service: tempo.obs.svc.cluster.local, port: 9411, maxTagLength: 99}}
- {name: otlp, opentelemetry: {service: obs/tempo, port: 4318, http: {path: /otlp, timeout: 3s}}}
- {name: grpc, opentelemetry: {service: tempo.obs, port: 4318}}
`;
  const of = (settings: string, workload = 'web') => {
    const { self, parts } = planOf(workload, 'shop', SHOP, tempo, operator(settings));
    const { protocol, cluster = '', path, timeoutMs } = self?.tracing?.collector ?? {};
    assert.equal(cluster === '' || parts.has(`cluster/${cluster}`), true, 'the proxy is told how to reach it');
    return [protocol, cluster, path, timeoutMs];
  };
  const [zipkin, http, grpc] = [SpanProtocol.ZIPKIN_JSON, SpanProtocol.OTLP_HTTP, SpanProtocol.OTLP_GRPC];
  const cluster = (port: number) => `outbound|${port}||tempo.obs.svc.cluster.local`;
  const named = (name: string) => `${providers}defaultProviders: {tracing: [${name}]}\n`;
  assert.deepEqual(of(named('zip')), [zipkin, cluster(9411), '/api/v2/spans', 10_000]);
  assert.deepEqual(of(named('otlp')), [http, cluster(4318), '/otlp', 3000]);
  assert.deepEqual(of(named('grpc')).slice(0, 2), [grpc, cluster(4318)]);
  const address = 'defaultConfig: {tracing: {zipkin: {address: "tempo.obs:9411"}}}\n';
  const nothing = [undefined, '', undefined, undefined];
  assert.deepEqual(of(address).slice(0, 2), [zipkin, cluster(9411)]);
  assert.deepEqual(of(`${address}${named('otlp')}`)[0], http);
  assert.deepEqual(of(`enableTracing: false\n${address}`), nothing);
  assert.deepEqual(of(`enableTracing: true\n${providers}`), nothing);
  const own = (settings: string, annotation: string) => {
    const shop = SHOP.replace('terminationDrainDuration: 7s', annotation);
    return planOf('cart', 'shop', shop, tempo, operator(settings)).self?.tracing;
  };
  const sampled = own(
    `${address}`,
    'tracing: {sampling: 12.5, zipkin: {address: "[fd00::1]:9"}, enableIstioTags: false}',
  );
  assert.deepEqual(
    [sampled?.samplingPercent, sampled?.collector?.host, sampled?.withoutIstioTags, sampled?.maxPathTagLength],
    [12.5, 'fd00::1', true, 256],
  );
  assert.equal(
    own(`${named('zip')}defaultConfig: {tracing: {sampling: 0}}\n`, 'drainDuration: 7s')?.samplingPercent,
    0,
  );
  const usual = planOf('web', 'shop', SHOP).self?.tracing;
  assert.deepEqual([usual?.samplingPercent, usual?.collector], [1, undefined]);
});

test('mistakes of tracing, and what of it has no effect', () => {
  const bad = `defaultProviders: {tracing: [nobody, more], metrics: [a]}
enableTracing: false
extensionProviders:
- {name: a, datadog: {}}
- {name: b, zipkin: {service: authz.sec.svc.cluster.local, port: 9411, headers: []}}
- {name: c, opentelemetry: {port: 1, grpc: {}, http: {}}}
defaultConfig:
  tracing:
    sampling: 101
    tlsSettings: {mode: SIMPLE}
    zipkin: {address: zipkin}
`;
  const of = (settings: string) =>
    problemsOf(operator(settings), AUTHZ).map((p) => p.slice(8).replace('spec.meshConfig.', ''));
  assert.deepEqual(of(bad), [
    '5 warning WEFT-NO-EFFECT defaultProviders.metrics',
    '5 warning WEFT-NO-EFFECT defaultProviders.tracing[1]',
    '5 error WEFT-NO-TARGET defaultProviders.tracing[0]',
    '6 warning WEFT-NO-EFFECT enableTracing',
    '9 error WEFT-UNSUPPORTED extensionProviders[1].zipkin.headers',
    '10 error WEFT-FIELD extensionProviders[2].opentelemetry.service',
    '10 error WEFT-VALUE extensionProviders[2].opentelemetry',
    '13 error WEFT-VALUE defaultConfig.tracing.sampling',
    '14 error WEFT-UNSUPPORTED defaultConfig.tracing.tlsSettings',
    '15 error WEFT-VALUE defaultConfig.tracing.zipkin.address',
  ]);
  const unused = `enableTracing: true
defaultConfig: {tracing: {customTags: {a: {literal: {value: b}}}, datadog: {}}}
`;
  assert.deepEqual(of(unused), [
    '5 warning WEFT-NO-EFFECT enableTracing',
    '6 warning WEFT-NO-EFFECT defaultConfig.tracing.customTags',
    '6 warning WEFT-NO-EFFECT defaultConfig.tracing.datadog',
  ]);
  const other = `defaultProviders: {tracing: [dd]}
extensionProviders:
- {name: dd, datadog: {}}
- {name: zip, zipkin: {service: authz.sec, port: 1, enable64bitTraceId: true}}
`;
  assert.deepEqual(of(other), [
    '5 warning WEFT-NO-EFFECT defaultProviders.tracing[0]',
    '8 warning WEFT-NO-EFFECT extensionProviders[1].zipkin.enable64bitTraceId',
    '8 error WEFT-NO-PORT extensionProviders[1].zipkin.port',
  ]);
});

const SHOP = `apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: cart
  namespace: shop
  labels: {app: cart}
  annotations:
    proxy.istio.io/config: |
      terminationDrainDuration: 7s
      holdApplicationUntilProxyStarts: false
spec: {command: [run], ports: [{containerPort: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: edge, namespace: shop, labels: {app: edge}}
spec: {gateway: {}}
`;

/** The parts of one workload's plan. */
function planOf(workload: string, namespace: string, ...texts: string[]) {
  const { model, problems } = load(...texts);
  assert.ok(model, JSON.stringify(problems, null, 1));
  const instance: Instance = {
    ...{ name: `${workload}-0`, workload, namespace, serviceAccount: 'default', labels: { app: workload }, ports: [] },
    ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', injected: true, ready: true, draining: false },
    gateway: workload === 'edge',
  };
  const runtime: MeshRuntime = {
    ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' as const },
    ...{ instances: [instance], vips: new Map() },
  };
  const { parts, references } = compile(model, runtime, instance);
  const lines = new Map(references.map((r) => [r.ref, `${r.file}:${r.line}`]));
  const self = parts.get('self')?.kind;
  const cluster = parts.get('cluster/outbound|80||cart.shop.svc.cluster.local')?.kind;
  const service = parts.get('service/cart.shop.svc.cluster.local')?.kind;
  return {
    lines,
    parts,
    self: self?.case === 'self' ? self.value : undefined,
    cluster: cluster?.case === 'cluster' ? cluster.value : undefined,
    route: service?.case === 'service' ? service.value.ports[0].http[0] : undefined,
  };
}

test('what the settings say reaches the plans, and what is nearer goes before them', () => {
  const settings = configMap(`outboundTrafficPolicy: {mode: REGISTRY_ONLY}
connectTimeout: 3s
tcpKeepalive: {time: 60s, probes: 3}
h2UpgradePolicy: UPGRADE
enableAutoMtls: false
defaultHttpRetryPolicy:
  attempts: 1
  retryOn: reset
defaultConfig:
  terminationDrainDuration: 9s
  gatewayTopology: {numTrustedProxies: 2, proxyProtocol: {}}
`);
  const { cluster, route, self, lines } = planOf('web', 'shop', SHOP, settings);
  assert.deepEqual([self?.registryOnly, self?.drainMs], [true, 9000]);
  assert.deepEqual([cluster?.pool?.connectTimeoutMs, cluster?.pool?.h2Upgrade], [3000, true]);
  assert.deepEqual(
    [cluster?.pool?.keepalive?.timeMs, cluster?.pool?.keepalive?.probes, cluster?.pool?.keepalive?.intervalMs],
    [60_000, 3, 0],
  );
  assert.equal(cluster?.tls, ClientTls.DISABLE);
  assert.equal(lines.get(cluster?.tlsRef ?? ''), 'f1.yaml:10');
  assert.deepEqual([route?.retry?.attempts, route?.retry?.retryOn], [1, ['reset']]);
  assert.equal(lines.get(route?.retry?.ref ?? ''), 'f1.yaml:11');

  const rule =
    'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: cart, namespace: shop, annotations: {weft.dev/max-stream-duration: 1h}}\nspec: {host: cart, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, connectionPool: {tcp: {connectTimeout: 1s, tcpKeepalive: {interval: 5s}}, http: {h2UpgradePolicy: DO_NOT_UPGRADE, http2KeepAlive: {interval: 30s}}}}}\n';
  const own = planOf('web', 'shop', SHOP, settings, rule).cluster;
  const pool = own?.pool;
  assert.deepEqual([own?.tls, pool?.connectTimeoutMs, pool?.h2Upgrade], [ClientTls.ISTIO_MUTUAL, 1000, false]);
  assert.deepEqual([pool?.keepalive?.timeMs, pool?.keepalive?.intervalMs], [0, 5000]);
  assert.deepEqual([pool?.http2PingIntervalMs, pool?.http2PingTimeoutMs], [30_000, 20_000]);
  assert.equal(pool?.maxStreamDurationMs, 3_600_000);

  const edge = planOf('edge', 'shop', SHOP, settings).self;
  assert.deepEqual([edge?.numTrustedProxies, edge?.proxyProtocol], [2, true]);
  const annotated = planOf('cart', 'shop', SHOP, settings);
  assert.equal(annotated.self?.drainMs, 7000);
  const none = planOf('web', 'shop', SHOP);
  assert.deepEqual(
    [none.self?.registryOnly, none.self?.drainMs, none.cluster?.tls],
    [false, 5000, ClientTls.UNSPECIFIED],
  );
  assert.equal(none.cluster?.pool?.keepalive, undefined);
});

test('whom rules are for, where they do not say', () => {
  const rule =
    'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: cart, namespace: shop}\nspec: {host: cart, trafficPolicy: {connectionPool: {http: {maxRetries: 7}}}}\n';
  const own = (namespace: string, settings: string) =>
    planOf('web', namespace, SHOP, rule, operator(settings)).cluster?.pool?.maxRetries;
  assert.deepEqual([own('shop', 'connectTimeout: 1s'), own('other', 'connectTimeout: 1s')], [7, 7]);
  const private_ = 'defaultDestinationRuleExportTo: ["."]';
  assert.deepEqual([own('shop', private_), own('other', private_)], [7, 0]);
});

test('the annotation of a workload is read as the settings are', () => {
  assert.deepEqual(problemsOf(SHOP), ['f0.yaml:13 warning WEFT-NO-EFFECT metadata.annotations.proxy.istio.io/config']);
  const bad = SHOP.replace('terminationDrainDuration: 7s', 'terminationDrain: 7s');
  assert.deepEqual(
    load(bad).problems.map((p) => [p.severity, p.code, p.message.split(';')[0]]),
    [
      ['error', 'WEFT-FIELD', 'terminationDrain: unknown field "terminationDrain"'],
      [
        'warning',
        'WEFT-NO-EFFECT',
        'holdApplicationUntilProxyStarts: has no effect: applications are always started when their proxy is ready (true)',
      ],
    ],
  );
});

test('the trust domain is that of the mesh that runs', () => {
  const text = operator('trustDomain: shop.test\ntrustDomainAliases: [old.test]');
  const of = (trustDomain?: string) =>
    loadFiles([{ path: 'f0.yaml', text }], { trustDomain }).problems.map((p) => `${p.line} ${p.severity} ${p.field}`);
  assert.deepEqual([of(), of('shop.test')], [[], []]);
  assert.deepEqual(of('cluster.local'), ['5 error spec.meshConfig.trustDomain']);
  assert.deepEqual(settingsOf(text)?.trustDomainAliases, ['old.test']);
  assert.deepEqual(problemsOf(operator('trustDomain: Shop')), [
    'f0.yaml:5 error WEFT-VALUE spec.meshConfig.trustDomain',
  ]);
});

test('retries at the own application: none where attempts are not said', () => {
  const of = (said: string) => settingsOf(operator(`defaultInboundHttpRetryPolicy: ${said}\n`))?.applicationRetries;
  assert.deepEqual([of('{}'), of('{attempts: 3}')], [0, 3]);
  assert.equal(settingsOf(operator('enableAutoMtls: true\n'))?.applicationRetries, undefined);
  assert.deepEqual(problemsOf(operator('defaultInboundHttpRetryPolicy: {retryOn: 5xx}\n')), [
    'f0.yaml:5 error WEFT-UNSUPPORTED spec.meshConfig.defaultInboundHttpRetryPolicy.retryOn',
  ]);
});

test('TLS: of links by meshMTLS, of all other by tlsDefaults; names that are not served are refused with those that are', () => {
  const bad = `meshMTLS: {minProtocolVersion: TLSV1_1, ecdhCurves: [P-224], cipherSuites: [RC4-SHA]}
tlsDefaults: {minProtocolVersion: TLSV1_0, ecdhCurves: [X25519, p-256], cipherSuites: [TLS_AES_128_GCM_SHA256]}
`;
  const { problems } = load(operator(bad));
  assert.deepEqual(problems.map((p) => [p.severity, p.line, p.field.slice('spec.meshConfig.'.length)]).sort(), [
    ['error', 5, 'meshMTLS.cipherSuites[0]'],
    ['error', 5, 'meshMTLS.ecdhCurves[0]'],
    ['error', 5, 'meshMTLS.minProtocolVersion'],
    ['error', 6, 'tlsDefaults.cipherSuites[0]'],
    ['error', 6, 'tlsDefaults.ecdhCurves[1]'],
    ['error', 6, 'tlsDefaults.minProtocolVersion'],
  ]);
  const curve = problems.find((p) => p.field.endsWith('ecdhCurves[1]'));
  assert.match(curve?.message ?? '', /P-256, P-384, P-521, X25519, X25519MLKEM768 are/);

  const low =
    'meshMTLS: {minProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, TLS_AES_256_GCM_SHA384]}';
  assert.deepEqual(
    problemsOf(operator(low)),
    ['minProtocolVersion', 'cipherSuites[0]'].map(
      (f) => `f0.yaml:5 warning WEFT-NO-EFFECT spec.meshConfig.meshMTLS.${f}`,
    ),
  );
  const tlsOf = (...texts: string[]) => {
    const kind = planOf('web', 'shop', SHOP, ...texts).parts.get('tls')?.kind;
    return kind?.case === 'tls' ? kind.value : undefined;
  };
  const lowered = tlsOf(operator(low));
  assert.deepEqual([lowered?.meshCipherSuites, lowered?.meshCurves], [['TLS_AES_256_GCM_SHA384'], []]);
  const chosen = `meshMTLS: {ecdhCurves: [X25519MLKEM768, P-384, P-384]}
tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256], cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]}
`;
  for (const form of [operator, configMap]) {
    assert.deepEqual(problemsOf(form(chosen)), []);
    const said = tlsOf(form(chosen));
    assert.deepEqual([said?.meshCurves, said?.curves], [['X25519MLKEM768', 'P-384'], ['P-256']]);
    assert.deepEqual([said?.minVersion, said?.cipherSuites], [TlsVersion.TLSV1_3, ['ECDHE-ECDSA-AES128-GCM-SHA256']]);
  }
  // A proxy that knows nothing of it refuses what it is told, so that nobody is told without need.
  assert.equal(tlsOf(), undefined);
  assert.equal(tlsOf(operator('meshMTLS: {minProtocolVersion: TLSV1_3}\ntlsDefaults: {}')), undefined);
});

test('forwardClientCertDetails: of gateways; who asks visitors for certificates is believed by workloads, nobody else', () => {
  const topology = (details: string): string =>
    configMap(`defaultConfig: {gatewayTopology: {forwardClientCertDetails: ${details}}}\n`);
  const pem = (what: string): string => JSON.stringify(`-----BEGIN ${what}-----\nQ0E=\n-----END ${what}-----\n`);
  const gateway = (mode: string): string => `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: site, namespace: shop}
spec:
  selector: {app: edge}
  servers:
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: ${mode}, credentialName: site}}
---
apiVersion: v1
kind: Secret
metadata: {name: site, namespace: shop}
stringData:
  tls.crt: ${pem('CERTIFICATE')}
  tls.key: ${pem('PRIVATE KEY')}
  ca.crt: ${pem('CERTIFICATE')}
`;
  const of = (...texts: string[]) =>
    ['edge', 'web'].map((name) => {
      const { self } = planOf(name, 'shop', SHOP, ...texts);
      return [self?.forwardClientCert, self?.certificateTellers];
    });
  const { UNSPECIFIED, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY } = ForwardClientCert;
  const teller = ['spiffe://cluster.local/ns/shop/sa/default'];
  const both = (mine: ForwardClientCert, tellers: string[]) => [
    [mine, []],
    [UNSPECIFIED, tellers],
  ];
  assert.deepEqual(of(), both(SANITIZE_SET, []));
  assert.deepEqual(of(gateway('SIMPLE')), both(SANITIZE_SET, []), 'it asks nobody');
  assert.deepEqual(of(gateway('OPTIONAL_MUTUAL')), both(SANITIZE_SET, teller));
  const table: [string, ForwardClientCert, boolean][] = [
    ['UNDEFINED', SANITIZE_SET, true],
    ['SANITIZE', UNSPECIFIED, false],
    ['FORWARD_ONLY', FORWARD_ONLY, true],
    ['APPEND_FORWARD', APPEND_FORWARD, true],
    ['SANITIZE_SET', SANITIZE_SET, true],
    ['ALWAYS_FORWARD_ONLY', ALWAYS_FORWARD_ONLY, true],
  ];
  for (const [details, mine, tells] of table)
    assert.deepEqual(of(gateway('MUTUAL'), topology(details)), both(mine, tells ? teller : []), details);
  assert.deepEqual(of(topology('ALWAYS_FORWARD_ONLY')), both(ALWAYS_FORWARD_ONLY, teller), 'whatever comes');
  assert.match(JSON.stringify(load(topology('FORWARD')).problems), /forwardClientCertDetails/);
  // What the gateway itself says goes before the mesh's.
  const annotated = SHOP.replace(
    'labels: {app: edge}}',
    `labels: {app: edge}, annotations: {proxy.istio.io/config: '{"gatewayTopology": {"forwardClientCertDetails": "SANITIZE"}}'}}`,
  );
  const own = planOf('edge', 'shop', annotated, gateway('MUTUAL'), topology('ALWAYS_FORWARD_ONLY')).self;
  assert.equal(own?.forwardClientCert, UNSPECIFIED);
});
