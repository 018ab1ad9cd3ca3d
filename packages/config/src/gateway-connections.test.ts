/** What gateways pass on without looking into requests, and the certificates of both sides. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileEndpoints } from '@weft/model';
import { Protocol, type Secret } from '@weft/plan';
import type { SourceFile } from './index.ts';
import {
  CERT,
  doc,
  gateway,
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
  const revoked = must([outside, rule('{mode: SIMPLE, caCertificates: /ca.pem, caCrl: /ca.crl}')].join('---\n'));
  const { kind } = planOf(revoked, 'front').parts.get('cluster/outbound|443||out.test')!;
  assert.ok(kind.case === 'cluster');
  assert.deepEqual([kind.value.origination?.caCertificates, kind.value.origination?.caCrl], ['/ca.pem', '/ca.crl']);
  assert.deepEqual(said('{mode: SIMPLE, caCrl: /x.crl}'), [`WEFT-FIELD ${at}.caCertificates`]);
  assert.deepEqual(said('{mode: SIMPLE, credentialName: way-out, caCrl: /x.crl}'), [`WEFT-VALUE ${at}.caCrl`]);
  assert.deepEqual(said('{mode: DISABLE, caCrl: /x.crl}'), [`WEFT-VALUE ${at}.caCrl`]);
});
