/** Gateways of the Gateway API and TLS to backends, from files to decisions, and all of it through real processes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadFiles } from '@weft/config';
import { findGatewayServer, findVirtualHost } from '@weft/engine';
import { ClientTls } from '@weft/plan';
import { API, ask, BASE, doc, modelOf, on, PEM, service, snapshotOf, to } from './gateway-api-documents.ts';
import { EDGE_HTTP, EDGE_HTTPS, EDGE_NAME, startGatewayMesh } from './gateway-mesh.ts';
import { isRoot, peers, type TestMesh } from './harness.ts';

const EDGE_TCP = 9000;
const EDGE_CLIENTS = 9443;
const base64 = (mesh: TestMesh, file: string): string => readFileSync(join(mesh.folder, file)).toString('base64');

test('on a Gateway: hostnames meet, allowedRoutes and sectionName choose, the listener of a name answers alone', () => {
  const listener = (name: string, rest: string) => `{name: ${name}, port: 80, protocol: HTTP, ${rest}}`;
  const gateway = doc(
    'Gateway',
    'site',
    `{gatewayClassName: istio, listeners: [${[
      listener('wide', 'hostname: "*.test", allowedRoutes: {namespaces: {from: All}}'),
      listener('own', 'hostname: own.test'),
      listener(
        'chosen',
        'hostname: chosen.org, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: c}}}}',
      ),
    ].join()}]}`,
  );
  const route = (name: string, hosts: string, backend: string, ns = 'shop', section = '') =>
    doc(
      'HTTPRoute',
      name,
      `{parentRefs: [{name: site, namespace: shop${section}}], hostnames: [${hosts}], rules: [{${to(backend)}}]}`,
      API,
      ns,
    );
  const model = modelOf(
    'apiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: {team: c}}\n',
    gateway,
    route('r1', 'x.test, other.example', 'a'),
    route('r2', '"*.test"', 'b', 'shop', ', sectionName: wide'),
    route('r3', 'chosen.org', 'c', 'far'),
  );
  const server = [...snapshotOf(model, 'edge').gateways.get(80)!.servers.values()][0];
  const at = (host: string): string => {
    const view = findVirtualHost(server, host);
    return view ? ask(view, 'GET', '/', [], host) : 'none';
  };
  assert.equal(at('x.test'), 'a');
  assert.equal(at('y.test'), 'b');
  assert.equal(at('own.test'), '404');
  assert.equal(at('chosen.org'), 'c');
  assert.equal(at('other.example'), 'none');
});

test('HTTPS listeners: the certificate of a Secret, of another namespace with its ReferenceGrant', () => {
  const secret = (name: string, ns: string) =>
    `apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: ${name}, namespace: ${ns}}\n` +
    `stringData: {tls.crt: "${PEM('CERTIFICATE')}", tls.key: "${PEM('PRIVATE KEY')}"}\n`;
  const listener = (host: string, ref: string) =>
    `{name: ${host[0]}, port: 443, protocol: HTTPS, hostname: ${host}, tls: {certificateRefs: [{${ref}}]}}`;
  const gateway = doc(
    'Gateway',
    'site',
    `{gatewayClassName: weft, listeners: [${listener('a.test', 'name: one')}, ${listener('b.test', 'name: two, namespace: far')}]}`,
  );
  const route = doc('HTTPRoute', 'r', `{parentRefs: [{name: site, sectionName: b}], rules: [{${to('b')}}]}`);
  const grant = doc(
    'ReferenceGrant',
    'g',
    '{from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}], to: [{group: "", kind: Secret}]}',
    API,
    'far',
  );
  const docs = [gateway, route, secret('one', 'shop'), secret('two', 'far')];
  const refused = loadFiles([{ path: 'mesh.yaml', text: [...BASE, ...docs].join('---\n') }]);
  assert.deepEqual(
    refused.problems.map((p) => [p.code, p.field]),
    [['WEFT-NO-GRANT', 'spec.listeners[1].tls.certificateRefs[0]']],
  );
  const snapshot = snapshotOf(modelOf(...docs, grant), 'edge');
  const port = snapshot.gateways.get(443)!;
  const found = ['a.test', 'b.test'].map((name) => {
    const server = findGatewayServer(port, name)!;
    const view = findVirtualHost(server, name);
    return [server.server.tls?.secret, view && ask(view, 'GET', '/', [], name)];
  });
  assert.deepEqual(found, [
    ['secret/shop/one', '404'],
    ['secret/far/two', 'b'],
  ]);
  assert.deepEqual([...snapshot.secrets.keys()].sort(), ['secret/far/two', 'secret/shop/one']);
});

test('BackendTLSPolicy: clients begin TLS with its name and CA; a port named goes first; before a DestinationRule', () => {
  const policy = (name: string, target: string, validation: string) =>
    doc('BackendTLSPolicy', name, `{targetRefs: [{group: "", kind: Service, ${target}}], validation: {${validation}}}`);
  const two = service('two', 'shop', '{name: http-a, port: 80}, {name: http-b, port: 81}');
  const rule = doc(
    'DestinationRule',
    'd',
    '{host: two, trafficPolicy: {tls: {mode: DISABLE}}}',
    'networking.istio.io/v1',
  );
  const model = modelOf(
    two,
    policy('all', 'name: two', 'hostname: all.test, wellKnownCACertificates: System'),
    policy(
      'named',
      'name: two, sectionName: http-b',
      'hostname: b.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}], subjectAltNames: [{type: URI, uri: "spiffe://x/y"}, {type: Hostname, hostname: z.test}]',
    ),
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: roots, namespace: shop}\ndata: {ca.crt: "${PEM('CERTIFICATE')}"}\n`,
    rule,
  );
  const { clusters } = snapshotOf(model, 'front');
  const of = (port: number) => {
    const { tls, tlsRef, origination: o } = clusters.get(`outbound|${port}||two.shop.svc.cluster.local`)!.cluster;
    return [tls, tlsRef, o?.sni, o?.subjectAltNames, o?.caPem.split('\n')[0]];
  };
  assert.deepEqual(of(80), [ClientTls.SIMPLE, 'BackendTLSPolicy/shop/all#spec.validation', 'all.test', [], '']);
  assert.deepEqual(of(81), [
    ClientTls.SIMPLE,
    'BackendTLSPolicy/shop/named#spec.validation',
    'b.test',
    ['spiffe://x/y', 'z.test'],
    '-----BEGIN CERTIFICATE-----',
  ]);
});

test('a Gateway and a service of real processes', async (t) => {
  const EDGE_LABEL = 'gateway.networking.k8s.io/gateway-name';
  const gateway = await startGatewayMesh(isRoot ? 'transparent' : 'explicit', {
    prepare: (mesh) => {
      mesh.write('services.yaml', `${peers({ front: { v1: 1 }, back: { v1: 1 }, canary: { v2: 1 } })}`);
      mesh.write(
        'gateway.yaml',
        `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ingress, namespace: shop, labels: {app: ingress, ${EDGE_LABEL}: site}}
spec: {gateway: {}, serviceAccountName: ingress}
---
${[
  doc(
    'Gateway',
    'site',
    `{gatewayClassName: weft, listeners: [{name: http, port: ${EDGE_HTTP}, protocol: HTTP, hostname: "*.test"},
      {name: bytes, port: ${EDGE_TCP}, protocol: TCP},
      {name: clients, port: ${EDGE_CLIENTS}, protocol: HTTPS, hostname: shop.test, tls: {certificateRefs: [{name: edge}]}},
      {name: ended, port: ${EDGE_HTTPS}, protocol: TLS, hostname: ${EDGE_NAME}, tls: {mode: Terminate, certificateRefs: [{name: edge}]}}],
      tls: {frontend: {default: {}, perPort: [{port: ${EDGE_CLIENTS}, tls: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}]}}}]}}}`,
  ),
  `apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: shop}
data: {ca.crt: ${JSON.stringify(readFileSync(join(mesh.folder, 'edge.crt'), 'utf8'))}}
`,
  `apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: edge, namespace: shop}
data: {tls.crt: ${base64(mesh, 'edge.crt')}, tls.key: ${base64(mesh, 'edge.key')}}
`,
  doc(
    'TCPRoute',
    'bytes',
    '{parentRefs: [{name: site, sectionName: bytes}], rules: [{backendRefs: [{name: back, port: 8080}]}]}',
  ),
  doc(
    'TLSRoute',
    'ended',
    `{parentRefs: [{name: site}], hostnames: [${EDGE_NAME}], rules: [{backendRefs: [{name: canary, port: 8080}]}]}`,
  ),
  doc(
    'HTTPRoute',
    'edge',
    `{parentRefs: [{name: site}], hostnames: [shop.test], rules: [
      {matches: [{path: {value: /api}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-edge, value: "1"}]}}], backendRefs: [{name: front, port: 8080}]},
      {matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]}]}`,
  ),
  doc(
    'HTTPRoute',
    'mesh',
    `{${on('back')}, rules: [{backendRefs: [{name: back, port: 8080}]}, {matches: [{headers: [{name: x-canary, value: "true"}]}], backendRefs: [{name: canary, port: 8080}]}]}`,
  ),
].join('---\n')}`,
      );
    },
  });
  t.after(() => gateway.close());
  const curl = (path: string, ...args: string[]) =>
    execFileSync('curl', ['-s', '-i', '--max-time', '60', ...args, `http://${gateway.address}:${EDGE_HTTP}${path}`], {
      encoding: 'utf8',
    });
  const site = ['-H', 'host: shop.test'];
  const there = curl('/api/hello', ...site);
  assert.match(there, /^HTTP\/1.1 200/);
  assert.match(there, /x-edge: 1/i);
  assert.match(curl('/old/x', ...site), /^HTTP\/1.1 302[\s\S]*location: http:\/\/shop\.test:\d+\/new\r/i);
  assert.match(curl('/apis', ...site), /^HTTP\/1.1 404/);
  assert.match(curl('/api', '-H', 'host: else.example'), /^HTTP\/1.1 404/);
  // Connections: what is in them is the application's, and TLS may end at the gateway.
  const served = (url: string, ...args: string[]): { name: string } =>
    JSON.parse(execFileSync('curl', ['-s', '--max-time', '60', ...args, url], { encoding: 'utf8' }));
  assert.equal(served(`http://${gateway.address}:${EDGE_TCP}/`).name, 'back');
  const named = [
    '--resolve',
    `${EDGE_NAME}:${EDGE_HTTPS}:${gateway.address}`,
    '--cacert',
    join(gateway.mesh.folder, 'edge.crt'),
  ];
  assert.equal(served(`https://${EDGE_NAME}:${EDGE_HTTPS}/`, ...named).name, 'canary');
  assert.throws(() =>
    served(`https://other.test:${EDGE_HTTPS}/`, '-k', '--resolve', `other.test:${EDGE_HTTPS}:${gateway.address}`),
  );
  // Clients with a certificate of the CA alone.
  const resolve = ['--resolve', `shop.test:${EDGE_CLIENTS}:${gateway.address}`];
  const asClient = (...args: string[]) => served(`https://shop.test:${EDGE_CLIENTS}/api`, '-k', ...resolve, ...args);
  const [cert, key] = ['edge.crt', 'edge.key'].map((file) => join(gateway.mesh.folder, file));
  assert.equal(asClient('--cert', cert, '--key', key).name, 'front');
  assert.throws(() => asClient());
  // From service to service; the rule without a condition stands first and is the less specific one.
  const asked = async (headers: Record<string, string>): Promise<any> => {
    const call = { count: 5, url: 'http://back:8080/x', headers };
    return (await gateway.mesh.ask('front', '/run', call)).json;
  };
  const plain = await asked({});
  assert.deepEqual([plain.statuses, plain.versions], [{ 200: 5 }, { v1: 5 }]);
  const canary = await asked({ 'x-canary': 'true' });
  assert.deepEqual([canary.statuses, canary.versions], [{ 200: 5 }, { v2: 5 }]);
});
