/** Gateways from files to the plan of a gateway workload: what is refused, how hosts and routes come together. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, compileEndpoints, type Instance, type MeshRuntime, type Model } from '@weft/model';
import { type GatewayListener, Protocol, type Secret } from '@weft/plan';
import { type LoadOptions, loadFiles, type SourceFile } from './index.ts';

const CERT = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
const KEY = '-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n';
const doc = (kind: string, name: string, spec: string, api = 'networking.istio.io/v1', ns = 'shop') =>
  `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${ns}}\nspec: ${spec}\n`;
const process = (name: string, labels: string, spec: string, ns = 'shop') =>
  `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: ${ns}, labels: ${labels}}\nspec: ${spec}\n`;
const BASE = [
  doc('Service', 'front', '{selector: {app: front}, ports: [{name: http, port: 8080}]}', 'v1'),
  process('front', '{app: front}', '{command: [run], ports: [{containerPort: 8080}]}'),
  process('edge', '{istio: ingressgateway}', '{gateway: {}}'),
].join('---\n');
const gateway = (servers: string, name = 'gw') =>
  doc('Gateway', name, `{selector: {istio: ingressgateway}, servers: [${servers}]}`);
const HTTP = '{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}';
const https = (tls: string, hosts = '["a.example.com"]', port = 8443) =>
  `{port: {number: ${port}, name: https-${port}, protocol: HTTPS}, hosts: ${hosts}, tls: ${tls}}`;
const secret = (name: string, ns = 'shop', data = `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}}`) =>
  `apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: ${name}, namespace: ${ns}}\ndata: ${data}\n`;
const vs = (spec: string, name = 'vs', ns = 'shop') => doc('VirtualService', name, spec, 'networking.istio.io/v1', ns);
const to = 'http: [{route: [{destination: {host: front}}]}]';

function load(text: string, more: SourceFile[] = [], options: LoadOptions = {}) {
  return loadFiles([{ path: 'mesh/base.yaml', text: BASE }, { path: 'mesh/gw.yaml', text }, ...more], options);
}

function must(text: string, more: SourceFile[] = []): Model {
  const r = load(text, more);
  assert.ok(r.model, JSON.stringify(r.problems, null, 1));
  return r.model;
}

function instanceOf(model: Model, name: string): Instance {
  const p = model.processes.find((x) => x.name === name)!;
  return {
    name: `${name}-0`,
    workload: name,
    namespace: p.namespace,
    serviceAccount: 'default',
    labels: p.labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
    injected: true,
    gateway: p.gateway !== undefined,
    ready: true,
    draining: false,
  };
}

function runtimeOf(instances: Instance[]): MeshRuntime {
  const domain = 'cluster.local';
  return { mesh: 'm', trustDomain: domain, domain, capture: 'transparent', instances, vips: new Map() };
}

function planOf(model: Model, name = 'edge') {
  const instance = instanceOf(model, name);
  const { parts, references } = compile(model, runtimeOf([instance]), instance);
  const listeners: GatewayListener[] = [];
  const secrets: Secret[] = [];
  for (const { kind } of parts.values()) {
    if (kind.case === 'gateway') listeners.push(kind.value);
    if (kind.case === 'secret') secrets.push(kind.value);
  }
  /** host → refs of its routes, of the first server of a port. */
  const hosts = (port: number, server = 0): Record<string, string[]> =>
    Object.fromEntries(
      (listeners.find((l) => l.port === port)?.servers[server]?.virtualHosts ?? []).map((h) => [
        h.host,
        h.http.map((r) => r.ref.replace(/^VirtualService\/shop\//, '')),
      ]),
    );
  return { listeners, secrets, hosts, parts, references };
}

test('every mistake is refused with its code and field', () => {
  const table: [string, string, string, RegExp][] = [
    [
      gateway('{port: {number: 80, name: t, protocol: UDP}, hosts: ["*"]}'),
      'WEFT-VALUE',
      'spec.servers[0].port.protocol',
      /UDP, which the mesh does not carry/,
    ],
    [
      gateway('{port: {number: 15001, name: t, protocol: HTTP}, hosts: ["*"]}'),
      'WEFT-VALUE',
      'spec.servers[0].port.number',
      /15000 to 15099/,
    ],
    [
      gateway('{port: {number: 80, name: t, protocol: HTTP}, hosts: ["*"], bind: 0.0.0.0}'),
      'WEFT-UNSUPPORTED',
      'spec.servers[0].bind',
      /not supported/,
    ],
    [
      gateway('{port: {number: 80, name: t, protocol: HTTP}, hosts: ["a b"]}'),
      'WEFT-VALUE',
      'spec.servers[0].hosts[0]',
      /no host name/,
    ],
    [
      gateway('{port: {number: 80, name: t, protocol: HTTP}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: c}}'),
      'WEFT-VALUE',
      'spec.servers[0].tls.mode',
      /HTTPS/,
    ],
    [gateway(https('{mode: AUTO_PASSTHROUGH}')), 'WEFT-VALUE', 'spec.servers[0].tls.mode', /use PASSTHROUGH/],
    [
      `${gateway(https('{mode: MUTUAL, credentialName: c}'))}---\n${secret('c')}`,
      'WEFT-NO-SECRET',
      'spec.servers[0].tls.credentialName',
      /ca\.crt in the Secret c, or in one named c-cacert/,
    ],
    [
      gateway(https('{mode: MUTUAL, serverCertificate: a.crt, privateKey: a.key}')),
      'WEFT-FIELD',
      'spec.servers[0].tls',
      /needs caCertificates/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: c, subjectAltNames: [a]}')),
      'WEFT-VALUE',
      'spec.servers[0].tls.subjectAltNames',
      /asks clients for no certificate/,
    ],
    [
      gateway(https('{mode: PASSTHROUGH, credentialName: c}')),
      'WEFT-VALUE',
      'spec.servers[0].tls.credentialName',
      /has none of its own/,
    ],
    [
      gateway('{port: {number: 80, name: t, protocol: TCP}, hosts: ["*"], tls: {httpsRedirect: true}}'),
      'WEFT-VALUE',
      'spec.servers[0].tls.httpsRedirect',
      /has no TLS/,
    ],
    [
      gateway(`${HTTP}, {port: {number: 8080, name: t, protocol: TCP}, hosts: ["*"]}`),
      'WEFT-PORT-CONFLICT',
      'spec.servers[1].port',
      /serves HTTP .* cannot serve TCP/,
    ],
    [gateway(https('{credentialName: c}')), 'WEFT-FIELD', 'spec.servers[0].tls', /mode: SIMPLE/],
    [gateway(https('{mode: SIMPLE}')), 'WEFT-VALUE', 'spec.servers[0].tls', /exactly one of credentialName/],
    [
      gateway(https('{mode: SIMPLE, credentialName: c, serverCertificate: a, privateKey: b}')),
      'WEFT-VALUE',
      'spec.servers[0].tls',
      /exactly one/,
    ],
    [gateway(https('{mode: SIMPLE, serverCertificate: a.crt}')), 'WEFT-FIELD', 'spec.servers[0].tls', /privateKey/],
    [
      gateway(https('{mode: SIMPLE, serverCertificate: a.crt, privateKey: a.key}')),
      'WEFT-NO-FILE',
      'spec.servers[0].tls.serverCertificate',
      /a\.crt/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: nobody}')),
      'WEFT-NO-SECRET',
      'spec.servers[0].tls.credentialName',
      /namespace shop/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_1}')),
      'WEFT-VALUE',
      'spec.servers[0].tls.minProtocolVersion',
      /before TLS 1\.2/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}')),
      'WEFT-VALUE',
      'spec.servers[0].tls.maxProtocolVersion',
      /no version is left/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: c, cipherSuites: [RC4-SHA]}')),
      'WEFT-VALUE',
      'spec.servers[0].tls.cipherSuites[0]',
      /not served/,
    ],
    [
      gateway('{port: {number: 443, name: t, protocol: HTTPS}, hosts: ["*"]}'),
      'WEFT-FIELD',
      'spec.servers[0].tls',
      /needs tls/,
    ],
    [
      gateway(`${HTTP}, ${https('{mode: SIMPLE, credentialName: c}', '["*"]', 8080)}`) + `---\n${secret('c')}`,
      'WEFT-PORT-CONFLICT',
      'spec.servers[1].port',
      /serves HTTP .* cannot serve HTTPS/,
    ],
    [
      gateway(https('{mode: SIMPLE, credentialName: c}')) +
        `---\n${gateway(https('{mode: SIMPLE, credentialName: c}'), 'gw2')}---\n${secret('c')}`,
      'WEFT-HOST-CONFLICT',
      'spec.servers[0].hosts',
      /shop\/gw /,
    ],
    [vs(`{hosts: [a.example.com], gateways: [nobody], ${to}}`), 'WEFT-NO-GATEWAY', 'spec.gateways', /shop\/nobody/],
    [
      `${gateway(HTTP)}---\n${vs(`{hosts: ["*"], gateways: [gw, mesh], ${to}}`)}`,
      'WEFT-VALUE',
      'spec.hosts[0]',
      /gateways only/,
    ],
    [
      `${gateway(HTTP)}---\n${vs('{hosts: ["*"], gateways: [gw], http: [{match: [{gateways: [other]}], route: [{destination: {host: front}}]}]}')}`,
      'WEFT-VALUE',
      'spec.http[0].match[0].gateways',
      /never match/,
    ],
    [
      `${gateway(HTTP)}---\n${vs('{hosts: ["*"], gateways: [gw], http: [{route: [{destination: {host: nobody}}]}]}')}`,
      'WEFT-NO-SERVICE',
      'spec.http[0].route[0].destination.host',
      /nobody/,
    ],
    [process('bad', '{a: b}', '{gateway: {}, command: [x]}'), 'WEFT-VALUE', 'spec', /only one of/],
    [process('bad', '{a: b}', '{}'), 'WEFT-FIELD', 'spec.command', /gateway/],
    [process('bad', '{a: b}', '{gateway: {}, runAsUser: 5}'), 'WEFT-VALUE', 'spec.runAsUser', /proxy alone/],
    [secret('c', 'shop', '{tls.crt: "!"}'), 'WEFT-VALUE', 'data.tls.crt', /base64/],
    [secret('c', 'shop', `{tls.crt: ${btoa(CERT)}}`), 'WEFT-FIELD', 'data', /tls\.key/],
    [
      secret('c', 'shop', `{tls.crt: ${btoa(KEY)}, tls.key: ${btoa(KEY)}}`),
      'WEFT-CERTIFICATE',
      'data',
      /no PEM of a CERTIFICATE/,
    ],
    [secret('c').replace('kubernetes.io/tls', 'bootstrap.kubernetes.io/token'), 'WEFT-VALUE', 'type', /Opaque/],
  ];
  for (const [text, code, field, message] of table) {
    const r = load(text);
    assert.equal(r.model, undefined, text);
    const hit = r.problems.find((p) => p.code === code && p.field === field && message.test(p.message));
    assert.ok(hit, `${text}\n${JSON.stringify(r.problems, null, 1)}`);
    assert.equal(hit.file, 'mesh/gw.yaml');
    assert.doesNotMatch(JSON.stringify(r.problems), /S0VZ|BEGIN PRIVATE/, 'no problem shows a key');
  }
});

test('what helps nobody is warned of', () => {
  const warned = (text: string) => {
    const r = load(text);
    assert.ok(r.model, JSON.stringify(r.problems, null, 1));
    return r.problems.map((p) => `${p.code} ${p.field}`);
  };
  const lost = doc('Gateway', 'lost', `{selector: {istio: nobody}, servers: [${HTTP}]}`);
  assert.deepEqual(warned(lost), ['WEFT-NO-TARGET spec.selector']);
  const narrow = gateway('{port: {number: 8080, name: http, protocol: HTTP}, hosts: [b.example.com]}');
  assert.deepEqual(warned(`${narrow}---\n${vs(`{hosts: [a.example.com], gateways: [gw], ${to}}`)}`), [
    'WEFT-NO-HOST spec.hosts',
  ]);
});

test('routes of a kind that the servers do not take are warned of', () => {
  const said = (server: string, routes: string) => {
    const text = `${gateway(server)}---\n${vs(`{hosts: [a.example.com], gateways: [gw], ${routes}}`)}`;
    return load(text).problems.map((p) => `${p.code} ${p.field}`);
  };
  const tls = 'tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: front}}]}]';
  const tcp = 'tcp: [{route: [{destination: {host: front}}]}]';
  const passes = https('{mode: PASSTHROUGH}');
  assert.deepEqual(said(passes, to), ['WEFT-NO-EFFECT spec.http']);
  assert.deepEqual(said(passes, tls), []);
  assert.deepEqual(said(`${passes}, ${HTTP}`, `${to}, ${tls}`), []);
  assert.deepEqual(said(HTTP, `${to}, ${tcp}`), ['WEFT-NO-EFFECT spec.tcp']);
  assert.deepEqual(said('{port: {number: 1, name: t, protocol: TCP}, hosts: ["*"]}', tcp), []);
});

test('a certificate that is not for a host is warned of', () => {
  const hosts = '["a.example.com", "*.b.test", x.b.test, "*"]';
  const text = `${gateway(https('{mode: SIMPLE, credentialName: c}', hosts))}---\n${secret('c')}`;
  const warned = (...names: string[]) =>
    load(text, [], { judgeKeyPair: () => ({ names }) }).problems.map((p) => p.message.split(':')[0]);
  assert.deepEqual(warned(), [], 'names that are not known are not judged');
  assert.deepEqual(warned('A.example.com', '*.b.test'), []);
  assert.deepEqual(warned('*.example.com', 'x.b.test'), ['the certificate is not for *.b.test']);
  assert.deepEqual(warned('*.com', '*.b.test'), ['the certificate is not for a.example.com']);
});

test('hosts of a VirtualService and of a server meet: the narrower one, of the namespace that may', () => {
  const servers =
    '{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*.example.com", "./own.test", "other/theirs.test"]}';
  const model = must(
    [
      gateway(servers),
      vs(`{hosts: [a.example.com, "*.deep.example.com", elsewhere.test], gateways: [gw], ${to}}`, 'one'),
      vs(`{hosts: ["*"], gateways: [shop/gw], ${to}}`, 'all'),
      vs(`{hosts: [own.test, theirs.test], gateways: [gw], ${to}}`, 'own'),
    ].join('---\n'),
  );
  assert.deepEqual(planOf(model).hosts(8080), {
    'a.example.com': ['one#spec.http[0]'],
    '*.deep.example.com': ['one#spec.http[0]'],
    '*.example.com': ['all#spec.http[0]'],
    'own.test': ['all#spec.http[0]', 'own#spec.http[0]'],
  });
});

test('VirtualServices of one host are merged, routes for all come last; gateways, port and labels of a match count', () => {
  const match = (m: string, code: number) => `{match: [${m}], directResponse: {status: ${code}}}`;
  const model = must(
    [
      gateway(HTTP),
      gateway('{port: {number: 8081, name: http, protocol: HTTP}, hosts: ["*"]}', 'gw2'),
      vs(`{hosts: [a.test], gateways: [gw], ${to}}`, 'catch'),
      vs(
        `{hosts: [a.test], gateways: [gw, gw2], http: [${match('{gateways: [gw2]}', 200)}, ${match('{port: 8080}', 201)}, ${match('{sourceLabels: {istio: nobody}}', 202)}, ${match('{sourceLabels: {istio: ingressgateway}}', 203)}]}`,
        'some',
      ),
    ].join('---\n'),
  );
  const plan = planOf(model);
  assert.deepEqual(plan.hosts(8080)['a.test'], ['some#spec.http[1]', 'some#spec.http[3]', 'catch#spec.http[0]']);
  assert.deepEqual(plan.hosts(8081)['a.test'], ['some#spec.http[0]', 'some#spec.http[3]']);
});

test('rules of gateways are not rules of the mesh, and the other way', () => {
  const model = must(
    [
      gateway(HTTP),
      vs('{hosts: [front], gateways: [gw], http: [{directResponse: {status: 201}}]}', 'edge-only'),
      vs('{hosts: [front], http: [{directResponse: {status: 202}}]}', 'mesh-only'),
      vs(`{hosts: [front, shop.example.com], gateways: [mesh, gw], ${to}}`, 'both').replace('front,', ''),
    ].join('---\n'),
  );
  const { parts } = planOf(model, 'front');
  const service = parts.get('service/front.shop.svc.cluster.local')!.kind;
  assert.deepEqual(
    service.case === 'service' && service.value.ports[0].http.map((r) => r.directResponse?.status),
    [202],
  );
  assert.deepEqual(Object.keys(planOf(model).hosts(8080)), ['front.shop.svc.cluster.local', 'shop.example.com']);
});

test('a Service of the gateway says where its ports listen; servers of one port are one', () => {
  const ports =
    '[{name: http, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: web}, {name: udp, port: 81, targetPort: 9, protocol: UDP}]';
  const model = must(
    [
      doc('Service', 'ingress', `{selector: {app: named}, ports: ${ports}}`, 'v1'),
      process(
        'named',
        '{app: named, istio: ingressgateway}',
        '{gateway: {acceptHttp10: true, numTrustedProxies: 2}, ports: [{name: web, containerPort: 9443}]}',
      ),
      gateway('{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.test]}'),
      gateway(
        '{port: {number: 80, name: http, protocol: GRPC}, hosts: [b.test]}, {port: {number: 81, name: h, protocol: HTTP2}, hosts: ["*"]}, {port: {number: 82, name: w, protocol: GRPC-WEB}, hosts: ["*"]}',
        'gw2',
      ),
      vs(`{hosts: ["*"], gateways: [gw, gw2], ${to}}`),
    ].join('---\n'),
  );
  const plan = planOf(model, 'named');
  assert.deepEqual(
    plan.listeners.map((l) => [l.port, l.servers.map((s) => s.protocol)]),
    [
      [81, [Protocol.HTTP2]],
      [82, [Protocol.GRPC_WEB]],
      [8080, [Protocol.HTTP]], // one of the two says HTTP
    ],
  );
  assert.deepEqual(Object.keys(plan.hosts(8080)), ['a.test', 'b.test']);
  const self = plan.parts.get('self')!.kind;
  assert.ok(self.case === 'self' && self.value.acceptHttp10 && self.value.numTrustedProxies === 2);
  // No Service selects this one: it listens where the Gateway says.
  assert.deepEqual(
    planOf(model, 'edge').listeners.map((l) => l.port),
    [80, 81, 82],
  );
  // Other workloads reach a gateway in plaintext, as visitors do.
  const endpoints = compileEndpoints(model, runtimeOf([instanceOf(model, 'named')]));
  const [e] = endpoints.get('endpoints/ingress.shop.svc.cluster.local:443')!.endpoints;
  assert.deepEqual([e.port, e.meshPort], [9443, 0]);
});

test('certificates: of a Secret in the namespace of the workload, or of files beside the Gateway', () => {
  const pair: SourceFile[] = [
    { path: 'mesh/certs/b.crt', text: CERT },
    { path: 'mesh/certs/b.key', text: KEY },
  ];
  const model = must(
    [
      gateway(
        `${https('{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3}')}, ${https('{mode: SIMPLE, serverCertificate: ./certs/b.crt, privateKey: certs/../certs/b.key, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}', '["*.b.test"]')}`,
      ),
      secret('c'),
      secret('unused'),
      vs(`{hosts: [a.example.com, x.b.test], gateways: [gw], ${to}}`),
    ].join('---\n'),
    pair,
  );
  const plan = planOf(model);
  assert.deepEqual(
    plan.secrets.map((s) => [s.name, s.keyPem]),
    [
      ['secret/shop/c', KEY],
      ['secret/shop/gw#spec.servers[1]', KEY],
    ],
  );
  const [listener] = plan.listeners;
  assert.deepEqual(
    listener.servers.map((s) => [s.hosts, s.tls?.secret, s.virtualHosts.map((h) => h.host)]),
    [
      [['a.example.com'], 'secret/shop/c', ['a.example.com']],
      [['*.b.test'], 'secret/shop/gw#spec.servers[1]', ['x.b.test']],
    ],
  );
  assert.deepEqual(listener.servers[1].tls?.cipherSuites, ['ECDHE-RSA-AES128-GCM-SHA256']);
  assert.equal(planOf(model, 'front').secrets.length, 0, 'nobody else gets a key');
  assert.equal(planOf(model, 'front').listeners.length, 0);

  const judged = load(`${gateway(https('{mode: SIMPLE, credentialName: c}'))}---\n${secret('c')}`, [], {
    judgeKeyPair: () => ({ error: 'the private key is not that of the certificate' }),
  });
  assert.ok(judged.problems.some((p) => p.code === 'WEFT-CERTIFICATE' && p.field === 'data'));
  const plain = secret('c').replace('\ndata:', '\nstringData:').replace(btoa(CERT), JSON.stringify(CERT));
  assert.ok(load(plain.replace(btoa(KEY), JSON.stringify(KEY)).replace('kubernetes.io/tls', 'Opaque')).model);
});

test('httpsRedirect leads to the port where the Gateway has https', () => {
  const redirect =
    '{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.example.com], tls: {httpsRedirect: true}}';
  const model = must(
    `${gateway(`${redirect}, ${https('{mode: SIMPLE, credentialName: c}')}`)}---\n${secret('c')}---\n${vs(`{hosts: ["*"], gateways: [gw], ${to}}`)}`,
  );
  const [http] = planOf(model).listeners;
  const [host] = http.servers[0].virtualHosts;
  assert.equal(host.host, 'a.example.com');
  assert.deepEqual(
    [host.http.length, host.http[0].redirect?.scheme, host.http[0].redirect?.code, host.http[0].redirect?.port],
    [1, 'https', 301, 8443],
  );
  const refs = new Set(planOf(model).references.map((r) => r.ref));
  assert.ok(refs.has('Gateway/shop/gw#spec.servers[0].tls.httpsRedirect'));
});

test('a gateway holds clusters and policies, and nothing inbound', () => {
  const model = must(`${gateway(HTTP)}---\n${vs(`{hosts: ["*"], gateways: [gw], ${to}}`)}`);
  const kinds = new Set([...planOf(model).parts.values()].map((p) => p.kind.case));
  assert.deepEqual([...kinds].sort(), ['authorization', 'cluster', 'gateway', 'self']);
});

const CA = btoa('-----BEGIN CERTIFICATE-----\nQ0E=\n-----END CERTIFICATE-----\n');
const dest = 'route: [{destination: {host: front}}]';
const clusterNames = (routes: { clusters: { cluster: string }[] }[]) =>
  routes.map((r) => r.clusters.map((c) => c.cluster));
const FRONT = 'outbound|8080||front.shop.svc.cluster.local';

test('TCP and TLS servers: opaque routes, names that server and route have in common, and client certificates', () => {
  const model = must(
    [
      gateway(
        [
          '{port: {number: 3306, name: db, protocol: MYSQL}, hosts: ["*"]}',
          '{port: {number: 443, name: p, protocol: TLS}, hosts: ["*.pass.test", "./one.test"], tls: {mode: PASSTHROUGH}}',
          '{port: {number: 443, name: t, protocol: TLS}, hosts: [ended.test], tls: {mode: MUTUAL, credentialName: c, subjectAltNames: [me]}}',
          '{port: {number: 443, name: h, protocol: HTTPS}, hosts: [web.test], tls: {mode: OPTIONAL_MUTUAL, credentialName: d}}',
        ].join(', '),
      ),
      secret('c', 'shop', `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}, ca.crt: ${CA}}`),
      secret('d'),
      secret('d-cacert', 'shop', `{cacert: ${CA}}`),
      vs(
        `{hosts: ["*"], gateways: [gw], tcp: [{match: [{port: 1}], ${dest}}, {match: [{port: 3306}], ${dest}}]}`,
        'any',
      ),
      vs(`{hosts: [ended.test], gateways: [gw], tcp: [{${dest}}]}`, 'ended'),
      vs(
        `{hosts: ["*"], gateways: [gw], tls: [{match: [{sniHosts: [a.pass.test, other.test]}], ${dest}}, {match: [{port: 443, sniHosts: ["*"]}], ${dest}}]}`,
        'names',
      ),
    ].join('---\n'),
  );
  const { listeners, secrets } = planOf(model);
  assert.deepEqual(
    listeners.map((l) => [
      l.port,
      l.servers.map((s) => [Protocol[s.protocol], s.tls?.clientCertificate ?? '', s.hosts]),
    ]),
    [
      [
        443,
        [
          ['TLS', '', ['*.pass.test', 'one.test']],
          ['TCP', 2, ['ended.test']],
          ['UNSPECIFIED', 1, ['web.test']],
        ],
      ],
      [3306, [['TCP', '', []]]],
    ],
  );
  const [tls, db] = listeners;
  assert.deepEqual(
    db.servers[0].tcp.map((r) => r.ref),
    ['VirtualService/shop/any#spec.tcp[1]'],
  );
  assert.deepEqual(clusterNames(db.servers[0].tcp), [[FRONT]]);
  assert.deepEqual(
    tls.servers[0].tlsRoutes.map((r) => r.sniHosts),
    [['a.pass.test'], ['*.pass.test', 'one.test']],
  );
  assert.deepEqual(
    tls.servers[1].tcp.map((r) => r.ref),
    ['VirtualService/shop/ended#spec.tcp[0]'],
  );
  assert.deepEqual(tls.servers[1].tls?.subjectAltNames, ['me']);
  assert.deepEqual(
    secrets.map((s) => [s.name, s.caPem.includes('Q0E=')]),
    [
      ['secret/shop/c', true],
      ['secret/shop/d', false],
      ['secret/shop/d-cacert', true],
    ],
  );
});

test('several certificates of a server, and what the CA of its clients has revoked', () => {
  const CRL = '-----BEGIN X509 CRL-----\nQ1JM\n-----END X509 CRL-----\n';
  const file = (path: string, text: string): SourceFile => ({ path: `mesh/${path}`, text });
  const two = '[{serverCertificate: a.crt, privateKey: a.key}, {serverCertificate: b.crt, privateKey: b.key}]';
  const files = [file('a.crt', CERT), file('a.key', KEY), file('b.crt', CERT), file('b.key', KEY)];
  const model = must(
    [
      gateway(
        [
          https('{mode: SIMPLE, credentialNames: [c, d]}', '[a.test]'),
          https('{mode: MUTUAL, credentialNames: [d, c]}', '[b.test]'),
          https('{mode: MUTUAL, credentialName: c, caCertCredentialName: judge}', '[c.test]'),
          https(`{mode: MUTUAL, tlsCertificates: ${two}, caCertificates: ca.crt, caCrl: ca.crl}`, '[d.test]'),
        ].join(', '),
      ),
      secret('c', 'shop', `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}, ca.crt: ${CA}}`),
      secret('d'),
      secret('d-cacert', 'shop', `{ca.crt: ${CA}, ca.crl: ${btoa(CRL)}}`),
      secret('judge', 'shop', `{ca.crt: ${CA}}`),
    ].join('---\n'),
    [...files, file('ca.crt', atob(CA)), file('ca.crl', CRL)],
  );
  const { listeners, secrets } = planOf(model);
  const own = 'secret/shop/gw#spec.servers[3]';
  assert.deepEqual(
    listeners[0].servers.map(({ tls }) => [tls?.secret, tls?.moreSecrets, tls?.authority]),
    [
      ['secret/shop/c', ['secret/shop/d'], ''],
      ['secret/shop/d', ['secret/shop/c'], 'secret/shop/d-cacert'],
      ['secret/shop/c', [], 'secret/shop/judge'],
      [own, [`${own}.1`], `${own}.ca`],
    ],
  );
  const what = (s: Secret) => (['keyPem', 'caPem', 'crlPem'] as const).filter((field) => s[field] !== '').join();
  assert.deepEqual(Object.fromEntries(secrets.map((s) => [s.name, what(s)])), {
    'secret/shop/c': 'keyPem',
    'secret/shop/d': 'keyPem',
    'secret/shop/d-cacert': 'caPem,crlPem',
    'secret/shop/judge': 'caPem',
    [own]: 'keyPem',
    [`${own}.1`]: 'keyPem',
    [`${own}.ca`]: 'caPem,crlPem',
  });
  const tls = 'spec.servers[0].tls';
  const refused: [string, string, string, RegExp][] = [
    [gateway(https('{mode: SIMPLE, credentialName: c, credentialNames: [d]}')), 'WEFT-VALUE', tls, /exactly one/],
    [
      `${gateway(https('{mode: SIMPLE, credentialNames: [c, nobody]}'))}---\n${secret('c')}`,
      'WEFT-NO-SECRET',
      `${tls}.credentialNames[1]`,
      /no Secret nobody/,
    ],
    [
      `${gateway(https('{mode: MUTUAL, credentialName: c, caCertCredentialName: c}'))}---\n${secret('c')}`,
      'WEFT-NO-SECRET',
      `${tls}.caCertCredentialName`,
      /ca\.crt in the Secret c /,
    ],
    [
      `${gateway(https('{mode: MUTUAL, credentialName: c, caCrl: ca.crl}'))}---\n${secret('c')}`,
      'WEFT-VALUE',
      `${tls}.caCrl`,
      /this is ca\.crl of the Secret/,
    ],
    [
      gateway(
        https('{mode: MUTUAL, serverCertificate: a.crt, privateKey: a.key, caCertificates: a.crt, caCrl: a.crt}'),
      ),
      'WEFT-CERTIFICATE',
      `${tls}.caCrl`,
      /X509 CRL/,
    ],
    [gateway(https('{mode: SIMPLE, credentialName: c, caCrl: a}')), 'WEFT-VALUE', `${tls}.caCrl`, /asks clients/],
    [
      gateway(https('{mode: SIMPLE, tlsCertificates: [{serverCertificate: a.crt}]}')),
      'WEFT-FIELD',
      `${tls}.tlsCertificates[0].privateKey`,
      /is missing/,
    ],
    [
      secret('x', 'shop', `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}, ca.crl: ${btoa(CRL)}}`),
      'WEFT-FIELD',
      'data',
      /ca\.crt/,
    ],
    [secret('x', 'shop', `{ca.crt: ${CA}, ca.crl: ${CA}}`), 'WEFT-CERTIFICATE', 'data', /X509 CRL/],
  ];
  for (const [text, code, field, message] of refused) {
    const { problems } = load(text, files);
    const found = problems.find((p) => p.code === code && p.field === field);
    assert.ok(found, `${text}\n${JSON.stringify(problems, null, 1)}`);
    assert.match(found.message, message);
  }
});

test('the mesh reaches a gateway by its own mTLS, but not where the gateway ends TLS of its own', () => {
  const ports = '[{name: http, port: 80}, {name: tls, port: 443}, {name: https, port: 8443}, {name: mesh, port: 81}]';
  const model = must(
    [
      doc('Service', 'ingress', `{selector: {istio: ingressgateway}, ports: ${ports}}`, 'v1'),
      gateway(
        [
          '{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}',
          '{port: {number: 443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}',
          https('{mode: SIMPLE, credentialName: c}'),
          '{port: {number: 81, name: mesh, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL}}',
        ].join(', '),
      ),
      secret('c'),
      vs(`{hosts: ["*"], gateways: [gw], ${to}}`),
    ].join('---\n'),
  );
  const endpoints = compileEndpoints(model, runtimeOf([instanceOf(model, 'edge')]));
  const meshPorts = [80, 443, 8443, 81].map(
    (p) => endpoints.get(`endpoints/ingress.shop.svc.cluster.local:${p}`)?.endpoints[0].meshPort,
  );
  assert.deepEqual(meshPorts, [15008, 15008, 0, 15008]);
  const mesh = planOf(model).listeners.find((l) => l.port === 81)!;
  assert.deepEqual(
    mesh.servers.map((s) => [s.meshOnly, s.tls, s.virtualHosts.length]),
    [[true, undefined, 1]],
  );
});

test('TCPRoute and TLSRoute on listeners: the one they name, in the namespaces and for the names it takes', () => {
  const api = 'gateway.networking.k8s.io/v1';
  const listeners = [
    '{name: db, port: 3306, protocol: TCP}',
    '{name: db2, port: 3307, protocol: TCP}',
    '{name: wide, port: 443, protocol: TLS, hostname: "*.test", tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}}}',
    '{name: narrow, port: 443, protocol: TLS, hostname: a.test, tls: {mode: Terminate, certificateRefs: [{name: c}]}}',
  ].join(', ');
  const back = 'rules: [{backendRefs: [{name: front, namespace: shop, port: 8080}]}]';
  const model = must(
    [
      process('own', '{gateway.networking.k8s.io/gateway-name: site}', '{gateway: {}}'),
      doc('Gateway', 'site', `{gatewayClassName: weft, listeners: [${listeners}]}`, api),
      secret('c'),
      doc('TCPRoute', 'one', `{parentRefs: [{name: site, sectionName: db}], ${back}}`, api),
      doc('TCPRoute', 'two', `{parentRefs: [{name: site, port: 3307}], ${back}}`, api),
      doc('TLSRoute', 'mine', `{parentRefs: [{name: site}], hostnames: [a.test, b.test, c.example], ${back}}`, api),
      doc('TLSRoute', 'far', `{parentRefs: [{name: site, namespace: shop}], hostnames: [f.test], ${back}}`, api, 'far'),
      doc(
        'ReferenceGrant',
        'g',
        '{from: [{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: far}], to: [{group: "", kind: Service}]}',
        'gateway.networking.k8s.io/v1beta1',
      ),
    ].join('---\n'),
  );
  const { listeners: got } = planOf(model, 'own');
  const routes = got.map((l) => [
    l.port,
    l.servers.map((s) => [...s.tcp.map((r) => r.ref), ...s.tlsRoutes.map((r) => `${r.ref} ${r.sniHosts}`)]),
  ]);
  assert.deepEqual(routes, [
    [
      443,
      [
        ['TLSRoute/far/far#spec.rules[0] f.test', 'TLSRoute/shop/mine#spec.rules[0] a.test,b.test'],
        ['TLSRoute/shop/mine#spec.rules[0] a.test'],
      ],
    ],
    [3306, [['TCPRoute/shop/one#spec.rules[0]']]],
    [3307, [['TCPRoute/shop/two#spec.rules[0]']]],
  ]);
});

test('credentialName of a DestinationRule: the Secret is sent to gateways, never to sidecars', () => {
  const outside = doc(
    'ServiceEntry',
    'out',
    '{hosts: [out.test], resolution: DNS, ports: [{number: 443, name: http, protocol: HTTP}]}',
    'networking.istio.io/v1',
  );
  const rule = (tls: string) =>
    doc(
      'DestinationRule',
      'out',
      `{host: out.test, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: ${tls}}]}}`,
    );
  const pair = secret('way-out', 'shop', `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}, ca.crt: ${CA}}`);
  const model = must([outside, rule('{mode: MUTUAL, credentialName: way-out}'), pair].join('---\n'));
  const name = 'secret/shop/way-out';
  for (const workload of ['edge', 'front']) {
    const { parts, secrets } = planOf(model, workload);
    const cluster = parts.get('cluster/outbound|443||out.test')!.kind;
    assert.ok(cluster.case === 'cluster' && cluster.value.origination?.credential === name, workload);
    assert.deepEqual(
      secrets.map((s) => [s.name, s.caPem.includes('Q0E='), s.keyPem !== '']),
      workload === 'edge' ? [[name, true, true]] : [],
    );
  }
  const said = (tls: string) =>
    load([outside, rule(tls), pair].join('---\n')).problems.map((p) => `${p.code} ${p.field}`);
  const at = 'spec.trafficPolicy.portLevelSettings[0].tls';
  assert.deepEqual(said('{mode: MUTUAL, credentialName: nobody}'), ['WEFT-NO-SECRET spec']);
  assert.deepEqual(said('{mode: SIMPLE, credentialName: way-out, caCertificates: /x.pem}'), [
    `WEFT-VALUE ${at}.caCertificates`,
  ]);
  assert.deepEqual(said('{mode: ISTIO_MUTUAL, credentialName: way-out}'), [`WEFT-VALUE ${at}.credentialName`]);
});
