import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { meshConfigOf } from '@weft/model';
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
    assert.equal(traces.type, 'telemetry');
  }
});

test('mistakes stand where they were made, in YAML within YAML too', () => {
  const wrong = PROVIDERS.replace('port: 9000', 'port: 9001').replace('failOpen', 'failopen');
  assert.deepEqual(problemsOf(operator(wrong), AUTHZ), [
    'f0.yaml:11 error WEFT-FIELD spec.meshConfig.extensionProviders[0].envoyExtAuthzGrpc.failopen',
  ]);
  assert.deepEqual(problemsOf(configMap(PROVIDERS.replace('port: 9000', 'port: 9001')), AUTHZ), [
    'f0.yaml:10 error WEFT-NO-PORT data.mesh.extensionProviders[0].envoyExtAuthzGrpc.port',
  ]);
  assert.deepEqual(problemsOf(configMap('a: b\n- c')), ['f0.yaml:7 error WEFT-YAML data.mesh']);
});

test('a provider that is nothing, two things, or twice there', () => {
  const bad =
    'extensionProviders:\n- name: a\n- name: b\n  zipkin: {}\n  prometheus: {}\n- name: b\n  prometheus: {}\n';
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
    'enablePrometheusMerge: false\nmeshMTLS: {minProtocolVersion: TLSV1_2}\ninboundTrafficPolicy: {mode: LOCALHOST}\ndefaultConfig: {holdApplicationUntilProxyStarts: false, statusPort: 15021}\n';
  assert.deepEqual(
    problemsOf(operator(other)),
    [
      '5 warning WEFT-NO-EFFECT spec.meshConfig.enablePrometheusMerge',
      '6 warning WEFT-NO-EFFECT spec.meshConfig.meshMTLS',
      '7 warning WEFT-NO-EFFECT spec.meshConfig.inboundTrafficPolicy',
      '8 warning WEFT-NO-EFFECT spec.meshConfig.defaultConfig.statusPort',
      '8 warning WEFT-NO-EFFECT spec.meshConfig.defaultConfig.holdApplicationUntilProxyStarts',
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
    ['5 warning spec.meshConfig.enableTracing', '7 warning spec.meshConfig.defaultConfig.tracing'],
  );
  assert.equal(model && meshConfigOf(model)?.extensionProviders[0].name, 'tempo');
});
