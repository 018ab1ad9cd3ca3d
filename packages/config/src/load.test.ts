import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFiles } from './index.ts';
import { parseDuration } from './schema.ts';
import { readYaml } from './yaml.ts';

const service = (name: string, ns = 'shop', ports = '[{port: 80}]') =>
  `---\napiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: ${ns}}\nspec: {selector: {app: ${name}}, ports: ${ports}}\n` +
  `---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: ${ns}, labels: {app: ${name}, version: v1}}\nspec: {command: [run]}\n`;
const vs = (spec: string, name = 'a') =>
  `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}\n`;
const load = (...texts: string[]) => loadFiles(texts.map((text, i) => ({ path: `f${i}.yaml`, text })));
const to = 'route: [{destination: {host: a}}]';

test('proxyProtocol: for opaque ports; a port that is declared as HTTP gets a warning', () => {
  const rule = (text: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: shop}\nspec: {host: a, trafficPolicy: {proxyProtocol: ${text}}}\n`;
  const tcp = load(service('a', 'shop', '[{port: 80, name: tcp-x}]'), rule('{version: V2}'));
  assert.deepEqual(tcp.problems, []);
  assert.equal(tcp.model?.destinationRules[0].trafficPolicy?.proxyProtocol, 2);
  assert.equal(load(service('a'), rule('{}')).model?.destinationRules[0].trafficPolicy?.proxyProtocol, 1);
  const http = load(service('a', 'shop', '[{port: 80, name: http}]'), rule('{}'));
  assert.deepEqual(
    http.problems.map((p) => [p.code, p.severity, p.field]),
    [['WEFT-NO-EFFECT', 'warning', 'spec.trafficPolicy.proxyProtocol']],
  );
  assert.equal(load(service('a'), rule('{version: V3}')).problems[0].code, 'WEFT-VALUE');
});

test('a UDP port gets a warning with the reason', () => {
  const { problems } = load(
    service('a', 'shop', '[{port: 80}, {name: u, port: 81, protocol: UDP}]').replace(
      'port: 80',
      'name: http, port: 80',
    ),
  );
  assert.deepEqual(
    problems.map((p) => [p.code, p.severity, p.field]),
    [['WEFT-NO-EFFECT', 'warning', 'spec.ports[1].protocol']],
  );
  assert.match(problems[0].message, /none but DNS/);
});

test('every mistake is refused with its code and field', () => {
  const two = '[{port: 80, name: http}, {port: 81, name: http-b}]';
  const doc = (kind: string, spec: string, api: string) =>
    `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: x, namespace: shop}\nspec: ${spec}\n`;
  const token = (rule: string, field: string, why: RegExp): [string, string, string, RegExp] => [
    doc('RequestAuthentication', `{jwtRules: [${rule}]}`, 'security.istio.io/v1'),
    ...(['WEFT-VALUE', `spec.jwtRules[0].${field}`, why] as const),
  ];
  const template = (path: string, why: RegExp): [string, string, string, RegExp] => [
    doc('AuthorizationPolicy', `{rules: [{to: [{operation: {paths: ["${path}"]}}]}]}`, 'security.istio.io/v1'),
    ...(['WEFT-VALUE', 'spec.rules[0].to[0].operation.paths[0]', why] as const),
  ];
  const table: [string, string, string, RegExp][] = [
    [vs(`{hosts: [a], http: [{rout: []}]}`), 'WEFT-FIELD', 'spec.http[0].rout', /did you mean route/],
    [
      vs(`{hosts: [a], http: [{${to}, corsPolicy: {allowOrigin: []}}]}`),
      'WEFT-UNSUPPORTED',
      'spec.http[0].corsPolicy.allowOrigin',
      /write allowOrigins/,
    ],
    [
      vs(`{hosts: [a], http: [{${to}, mirror: {host: b}}]}`),
      'WEFT-NO-SERVICE',
      'spec.http[0].mirror.host',
      /a\.shop\.svc\.cluster\.local/,
    ],
    [
      vs(`{hosts: [a], http: [{${to}, mirrors: [{destination: {host: a, subset: v9}}]}]}`),
      'WEFT-NO-SUBSET',
      'spec.http[0].mirrors[0].destination.subset',
      /v9/,
    ],
    [
      vs(`{hosts: [a], http: [{${to}, mirror: {host: a}, mirrors: [{destination: {host: a}}]}]}`),
      'WEFT-VALUE',
      'spec.http[0].mirror',
      /may not stand with/,
    ],
    [
      vs(`{hosts: [a], http: [{directResponse: {status: 200}, mirror: {host: a}}]}`),
      'WEFT-VALUE',
      'spec.http[0].mirror',
      /only requests of a route/,
    ],
    [vs(`{hosts: [b], http: [{${to}}]}`), 'WEFT-NO-SERVICE', 'spec.hosts[0]', /a\.shop\.svc\.cluster\.local/],
    [
      vs(`{hosts: [a], http: [{route: [{destination: {host: a, subset: v9}}]}]}`),
      'WEFT-NO-SUBSET',
      'spec.http[0].route[0].destination.subset',
      /v9/,
    ],
    [
      vs(`{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 9}}}]}]}`),
      'WEFT-NO-PORT',
      'spec.http[0].route[0].destination.port.number',
      /it has 80/,
    ],
    [vs(`{hosts: [a], http: [{${to}, timeout: 5}]}`), 'WEFT-VALUE', 'spec.http[0].timeout', /duration/],
    [
      vs(`{hosts: [a], http: [{route: [{destination: {host: a}, weight: 0}, {destination: {host: a}}]}]}`),
      'WEFT-VALUE',
      'spec.http[0].route',
      /add up to 0/,
    ],
    [
      vs(`{hosts: [a], http: [{${to}, fault: {abort: {percentage: {value: 101}, httpStatus: 503}}}]}`),
      'WEFT-VALUE',
      'spec.http[0].fault.abort.percentage.value',
      /the most is 100/,
    ],
    [
      vs(`{hosts: [a], http: [{${to}, fault: {delay: {percentage: {value: 1}}}}]}`),
      'WEFT-FIELD',
      'spec.http[0].fault.delay.fixedDelay',
      /missing/,
    ],
    [vs(`{hosts: [a], http: [{${to}, fault: {}}]}`), 'WEFT-VALUE', 'spec.http[0].fault', /delay or abort/],
    [vs(`{hosts: [a], gateways: [gw], http: [{${to}}]}`), 'WEFT-NO-GATEWAY', 'spec.gateways', /shop\/gw/],
    [
      vs(`{hosts: [a], http: [{match: [{uri: {regex: "(?=x)"}}], ${to}}]}`),
      'WEFT-VALUE',
      'spec.http[0].match[0].uri.regex',
      /RE2/,
    ],
    [
      `${vs(`{hosts: [a], http: [{${to}}]}`)}---\n${vs(`{hosts: [a], http: [{${to}}]}`, 'b')}`,
      'WEFT-HOST-CONFLICT',
      'spec.hosts[0]',
      /shop\/a/,
    ],
    [
      service('m', 'shop', two) + `---\n${vs('{hosts: [m], http: [{route: [{destination: {host: m}}]}]}')}`,
      'WEFT-NO-PORT',
      'spec.http[0].route[0].destination',
      /port\.number/,
    ],
    [
      doc('DestinationRule', '{host: a, subsets: [{name: v1, labels: {version: 1.4}}]}', 'networking.istio.io/v1'),
      'WEFT-VALUE',
      'spec.subsets[0].labels.version',
      /quotes/,
    ],
    [
      doc('PeerAuthentication', '{mtls: {mode: STRICT}}', 'security.istio.io/v1') +
        '---\n' +
        doc('DestinationRule', '{host: a, trafficPolicy: {tls: {mode: DISABLE}}}', 'networking.istio.io/v1'),
      'WEFT-MTLS-CONFLICT',
      'spec.trafficPolicy.tls.mode',
      /STRICT/,
    ],
    [
      doc(
        'DestinationRule',
        '{host: a, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c.pem}}}',
        'networking.istio.io/v1',
      ),
      'WEFT-FIELD',
      'spec.trafficPolicy.tls.privateKey',
      /MUTUAL needs it/,
    ],
    [
      doc(
        'DestinationRule',
        '{host: a, trafficPolicy: {tls: {mode: SIMPLE, clientCertificate: /c.pem}}}',
        'networking.istio.io/v1',
      ),
      'WEFT-VALUE',
      'spec.trafficPolicy.tls.clientCertificate',
      /for the mode MUTUAL/,
    ],
    [
      doc(
        'DestinationRule',
        '{host: a, trafficPolicy: {tls: {mode: DISABLE, sni: x.example.com}}}',
        'networking.istio.io/v1',
      ),
      'WEFT-VALUE',
      'spec.trafficPolicy.tls.sni',
      /SIMPLE and MUTUAL/,
    ],
    [
      doc(
        'DestinationRule',
        '{host: a, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: ca.pem}}}',
        'networking.istio.io/v1',
      ),
      'WEFT-VALUE',
      'spec.trafficPolicy.tls.caCertificates',
      /absolute path/,
    ],
    [
      doc(
        'DestinationRule',
        '{host: a, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [x]}}}',
        'networking.istio.io/v1',
      ),
      'WEFT-VALUE',
      'spec.trafficPolicy.tls.subjectAltNames',
      /insecureSkipVerify/,
    ],
    [doc('AuthorizationPolicy', '{action: DENY}', 'security.istio.io/v1'), 'WEFT-VALUE', 'spec.rules', /DENY/],
    [
      doc('AuthorizationPolicy', '{action: CUSTOM, provider: {name: x}}', 'security.istio.io/v1'),
      ...(['WEFT-VALUE', 'spec.rules', /asked/] as const),
    ],
    [
      doc('AuthorizationPolicy', '{action: CUSTOM, rules: [{}]}', 'security.istio.io/v1'),
      ...(['WEFT-VALUE', 'spec.provider', /provider.name/] as const),
    ],
    [
      doc('AuthorizationPolicy', '{action: CUSTOM, provider: {name: gone}, rules: [{}]}', 'security.istio.io/v1'),
      ...(['WEFT-NO-TARGET', 'spec.provider.name', /no authorizer gone/] as const),
    ],
    [
      doc('AuthorizationPolicy', '{provider: {name: x}}', 'security.istio.io/v1'),
      ...(['WEFT-VALUE', 'spec.provider', /only a CUSTOM/] as const),
    ],
    token('{issuer: i}', 'jwks', /public keys/),
    token('{issuer: i, jwks: x}', 'jwks', /no JSON/),
    token('{issuer: i, jwksUri: "file:///etc/passwd"}', 'jwksUri', /no address/),
    token('{issuer: i, jwksUri: "http://u:p@h/"}', 'jwksUri', /no address/),
    token('{issuer: i, jwks: "{}"}', 'jwks', /at least one key/),
    token(`{issuer: i, jwks: '{"keys":[{"kty":"oct","k":"AA"}]}'}`, 'jwks', /shared secret/),
    token(`{issuer: i, jwks: '{"keys":[{"kty":"EC","d":"AA"}]}'}`, 'jwks', /private key/),
    token('{issuer: i, outputPayloadToHeader: host}', 'outputPayloadToHeader', /not for claims/),
    token(
      '{issuer: i, outputClaimToHeaders: [{claim: a, header: X_Weft_a}]}',
      'outputClaimToHeaders[0].header',
      /mesh/,
    ),
    template('/{**}/a/{*}', /after "\{\*\*\}"/),
    template('/a{*}', /each segment/),
    template('{*}', /begins with/),
    [
      doc('Service', '{selector: {app: nobody}, ports: [{port: 80}]}', 'v1'),
      'WEFT-NO-PROVIDER',
      'spec.selector',
      /app: nobody/,
    ],
    [doc('Process', '{command: [x], runAsUser: 1337}', 'weft.dev/v1alpha1'), 'WEFT-VALUE', 'spec.runAsUser', /1337/],
    [
      doc('Service', '{selector: {app: a}, ports: [{port: 80, protocol: SCTP}]}', 'v1'),
      'WEFT-VALUE',
      'spec.ports[0].protocol',
      /TCP alone/,
    ],
    [
      doc('Service', '{selector: {app: a}, ports: [{port: 80, appProtocol: h3}]}', 'v1'),
      'WEFT-UNSUPPORTED',
      'spec.ports[0].appProtocol',
      /runs on UDP/,
    ],
    [
      doc('Service', '{selector: {app: a}, ports: [{port: 80, name: http3-web}]}', 'v1'),
      'WEFT-UNSUPPORTED',
      'spec.ports[0].name',
      /runs on UDP/,
    ],
    [doc('UDPRoute', '{}', 'gateway.networking.k8s.io/v1alpha2'), 'WEFT-PENDING', 'kind', /does not carry UDP/],
    [
      doc('DestinationRule', '{host: a, trafficPolicy: {retryBudget: {budgetInterval: 5s}}}', 'networking.istio.io/v1'),
      'WEFT-VALUE',
      'spec.trafficPolicy.retryBudget.budgetInterval',
      /may be 0s/,
    ],
    [doc('Deployment', '{}', 'apps/v1'), 'WEFT-KIND', 'kind', /Process/],
    [doc('VirtualService', '{}', 'networking.istio.io/v2'), 'WEFT-KIND', 'apiVersion', /v1beta1/],
    ['a: 1\na: 2\n', 'WEFT-YAML', '', /twice/],
  ];
  for (const [text, code, field, message] of table) {
    const r = load(service('a'), text);
    assert.equal(r.model, undefined, text);
    const hit = r.problems.find((p) => p.code === code && p.field === field && message.test(p.message));
    assert.ok(hit, `${text}\n${JSON.stringify(r.problems, null, 1)}`);
    assert.equal(hit.file, 'f1.yaml');
  }
});

test('all problems at once, each on its own line', () => {
  const text =
    'apiVersion: v1\nkind: Service\nmetadata:\n  name: s\nspec:\n  prots: []\n  ports:\n    - port: 0\n    - port: 80\n      nodePort: 3\n';
  const got = load(text).problems.map((p) => [p.line, p.field]);
  for (const want of [
    [6, 'spec.prots'],
    [8, 'spec.ports[0].port'],
    [10, 'spec.ports[1].nodePort'],
  ]) {
    assert.ok(
      got.some((g) => g[0] === want[0] && g[1] === want[1]),
      JSON.stringify(got),
    );
  }
});

test('bombs and endless texts end in a problem, soon', () => {
  let laughs = 'a0: &a0 [x]\n';
  for (let i = 1; i < 30; i++)
    laughs += `a${i}: &a${i} [${Array(9)
      .fill(`*a${i - 1}`)
      .join(',')}]\n`;
  const started = performance.now();
  for (const text of [
    laughs,
    '['.repeat(200_000),
    'x: &x [*x]',
    `${'- '.repeat(5000)}x`,
    'x'.repeat(11 * 1024 * 1024),
    'a: *none',
  ]) {
    assert.ok(readYaml(text).errors.length > 0, text.slice(0, 40));
  }
  assert.ok(performance.now() - started < 60_000); // expanded, the first alone would take longer than the machine lives
});

test('durations as Go writes them', () => {
  const table: [string, number | undefined][] = [
    ['5s', 5000],
    ['100ms', 100],
    ['1m30s', 90_000],
    ['1.5s', 1500],
    ['0', 0],
    ['1us', 1],
    ['5', undefined],
    ['-1s', undefined],
    ['900h', undefined],
  ];
  for (const [text, ms] of table) assert.equal(parseDuration(text), ms, text);
});
