/** Gateways from files to the plan of a gateway workload: what is refused, how hosts and routes come together. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileEndpoints } from '@weft/model';
import { Protocol, TlsVersion } from '@weft/plan';
import type { SourceFile } from './index.ts';
import {
  CERT,
  doc,
  gateway,
  HTTP,
  https,
  instanceOf,
  KEY,
  load,
  must,
  planOf,
  process,
  runtimeOf,
  secret,
  to,
  vs,
} from './test-gateway.ts';

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

test("a server's own TLS goes before tlsDefaults of the mesh's settings", () => {
  const mesh = (settings: string): string =>
    `apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {meshConfig: {tlsDefaults: {${settings}}}}\n`;
  const own = 'mode: SIMPLE, credentialName: c';
  const servers = (...settings: string[]) => {
    const tls = [`${own}`, `${own}, minProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]`];
    const all = [...tls, `${own}, maxProtocolVersion: TLSV1_2`].map((t, i) => https(`{${t}}`, `["${i}.test"]`));
    const model = must([gateway(all.join(', ')), secret('c'), ...settings].join('---\n'));
    return planOf(model).listeners[0].servers.map(({ tls }) => [tls?.minVersion, tls?.cipherSuites, tls?.curves]);
  };
  const { UNSPECIFIED, TLSV1_2, TLSV1_3 } = TlsVersion;
  const [suite, other] = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384'];
  assert.deepEqual(servers(mesh(`minProtocolVersion: TLSV1_3, ecdhCurves: [P-384], cipherSuites: [${suite}]`)), [
    [TLSV1_3, [suite], ['P-384']],
    [TLSV1_2, [other], ['P-384']],
    // It says that it ends at 1.2: a beginning above it would leave no version.
    [UNSPECIFIED, [suite], ['P-384']],
  ]);
  assert.deepEqual(servers(), [
    [UNSPECIFIED, [], []],
    [TLSV1_2, [other], []],
    [UNSPECIFIED, [], []],
  ]);
});
