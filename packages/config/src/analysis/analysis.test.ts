/** Each code once where it is due, and once where the same configuration is right. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { analyzeFiles, CODES, type Finding, findingOf, parseSuppression, suppressed } from '../index.ts';

const doc = (api: string, kind: string, meta: string, body: string) =>
  `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: {${meta}}\n${body}\n`;
const NET = 'networking.istio.io/v1';
const SEC = 'security.istio.io/v1';
const at = (name: string, more = '') => `name: ${name}, namespace: shop${more}`;
const svc = (name: string, ports = '[{name: http, port: 80, targetPort: 8080}]', app = name, more = '') =>
  doc('v1', 'Service', at(name, more), `spec: {selector: {app: ${app}}, ports: ${ports}}`);
const proc = (name: string, spec = '', labels = '', more = '') =>
  doc(
    'weft.dev/v1alpha1',
    'Process',
    at(name, `, labels: {app: ${name}, version: v1${labels}}${more}`),
    `spec: {command: [run], ports: [{name: web, containerPort: 8080}]${spec}}`,
  );
const vs = (spec: string, name = 'r', more = '') => doc(NET, 'VirtualService', at(name, more), `spec: ${spec}`);
const dr = (spec: string, name = 'd') => doc(NET, 'DestinationRule', at(name), `spec: ${spec}`);
const authz = (rule: string, name = 'p', more = '') =>
  doc(SEC, 'AuthorizationPolicy', at(name), `spec: {${more}rules: [${rule}]}`);
const pa = (spec: string, name = 'default') => doc(SEC, 'PeerAuthentication', at(name), `spec: ${spec}`);
const ns = (labels: string) => doc('v1', 'Namespace', `name: shop, labels: {${labels}}`, '');
const gwProcess = doc(
  'weft.dev/v1alpha1',
  'Process',
  at('edge', ', labels: {app: edge, istio: edge}'),
  'spec: {gateway: {}}',
);
const gw = (servers: string, name = 'g', selector = 'istio: edge') =>
  doc(NET, 'Gateway', at(name), `spec: {selector: {${selector}}, servers: [${servers}]}`);
const http = (port: number, host = '"*"') => `{port: {number: ${port}, name: http, protocol: HTTP}, hosts: [${host}]}`;
const https = (host: string, secret = 'cert') =>
  `{port: {number: 443, name: https, protocol: HTTPS}, hosts: [${host}], tls: {mode: SIMPLE, credentialName: ${secret}}}`;
const pem = (what: string) => `-----BEGIN ${what}-----\\nYQ==\\n-----END ${what}-----\\n`;
const secret = (name: string) =>
  doc(
    'v1',
    'Secret',
    at(name),
    `type: kubernetes.io/tls\nstringData: {tls.crt: "${pem('CERTIFICATE')}", tls.key: "${pem('PRIVATE KEY')}"}`,
  );

const API = 'gateway.networking.k8s.io/v1';
const route = (kind: string, parent: string, rule = 'backendRefs: [{name: a, port: 80}]', place = at('r')) =>
  doc(API, kind, place, `spec: {parentRefs: [{${parent}}], rules: [{${rule}}]}`);
const site = (className = 'weft') =>
  doc(
    'weft.dev/v1alpha1',
    'Process',
    at('w', ', labels: {gateway.networking.k8s.io/gateway-name: s}'),
    'spec: {gateway: {}}',
  ) +
  doc(
    API,
    'Gateway',
    at('s'),
    `spec: {gatewayClassName: ${className}, listeners: [{name: l, port: 80, protocol: HTTP}]}`,
  );
const backendTls = doc(
  API,
  'BackendTLSPolicy',
  at('b'),
  'spec: {targetRefs: [{group: "", kind: Service, name: a}], validation: {hostname: a.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: roots}]}}',
);
const roots = doc('v1', 'ConfigMap', at('roots'), `data: {ca.crt: "${pem('CERTIFICATE')}"}`);
const onA = 'group: "", kind: Service, name: a';

const a = svc('a') + proc('a');
const edge =
  gwProcess + svc('edge', '[{name: http, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}]');
const to = 'route: [{destination: {host: a}}]';
const STRICT = pa('{mtls: {mode: STRICT}}');
const DISABLED = pa('{mtls: {mode: DISABLE}}');
const from = (source: string) => `{from: [{source: {${source}}}]}`;
const op = (operation: string) => `{to: [{operation: {${operation}}}]}`;

const analyze = (text: string, options = {}) => analyzeFiles([{ path: 'a.yaml', text }], options);
const has = (findings: readonly Finding[], code: string) => findings.some((f) => f.code === code);

const sidecar = (spec: string, name = 's', namespace = 'shop') =>
  doc(NET, 'Sidecar', `name: ${name}, namespace: ${namespace}`, `spec: ${spec}`);
const forA = '{workloadSelector: {labels: {app: a}}}';
const members = (name: string, labels: string): string =>
  `---\napiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: ${name}, namespace: shop}\nspec: {template: {labels: {${labels}}}}\n`;
const entry = (name: string, protocol: string, number = 80) =>
  doc(
    NET,
    'ServiceEntry',
    at(name),
    `spec: {hosts: [x.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: ${number}, name: p, protocol: ${protocol}}]}`,
  );

/** Code, configuration that has it, configuration that is right, the resource blamed. */
const CASES: readonly (readonly [code: string, bad: string, good: string, resource: string])[] = [
  [
    'IST0002',
    a + dr('{host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmupDurationSecs: 5s}}}'),
    a + dr('{host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 5s}}}}'),
    'DestinationRule/d',
  ],
  [
    'IST0101',
    a + vs('{hosts: [a], http: [{route: [{destination: {host: b}}]}]}'),
    a + vs(`{hosts: [a], http: [{${to}}]}`),
    'VirtualService/r',
  ],
  ['IST0102', ns('istio-injection: disabled') + a, ns('istio-injection: enabled') + a, 'Namespace/shop'],
  [
    'IST0103',
    svc('a') + proc('a', '', ', sidecar.istio.io/inject: "false"'),
    svc('a') + proc('a', '', ', sidecar.istio.io/inject: "true"'),
    'Process/a',
  ],
  ['IST0106', a + vs(`{hosts: [a], http: [{rout: []}]}`), a + vs(`{hosts: [a], http: [{${to}}]}`), 'VirtualService/r'],
  [
    'IST0107',
    svc('a', undefined, 'a', ', annotations: {sidecar.istio.io/proxyCPU: "1"}') + proc('a'),
    svc('a') + proc('a', '', '', ', annotations: {sidecar.istio.io/proxyCPU: "1"}'),
    'Service/a',
  ],
  [
    'IST0108',
    svc('a') + proc('a', '', '', ', annotations: {sidecar.istio.io/proxiCPU: "1"}'),
    svc('a') + proc('a', '', '', ', annotations: {example.com/proxiCPU: "1"}'),
    'Process/a',
  ],
  [
    'IST0109',
    a + vs(`{hosts: [a], http: [{${to}}]}`) + vs(`{hosts: [a], http: [{${to}}]}`, 's'),
    a + svc('b') + proc('b') + vs(`{hosts: [a], http: [{${to}}]}`) + vs(`{hosts: [b], http: [{${to}}]}`, 's'),
    'VirtualService/s',
  ],
  [
    'IST0112',
    svc('a', '[{name: http, port: 80, targetPort: 8080}, {name: http-b, port: 81}]') +
      proc('a') +
      vs(`{hosts: [a], http: [{${to}}]}`),
    svc('a', '[{name: http, port: 80, targetPort: 8080}, {name: http-b, port: 81}]') +
      proc('a') +
      vs('{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 81}}}]}]}'),
    'VirtualService/r',
  ],
  [
    'IST0116',
    a + svc('b', '[{name: tcp, port: 80, targetPort: 8080}]', 'a'),
    a + svc('b', '[{name: http, port: 80, targetPort: 8080}]', 'a'),
    'Service/b',
  ],
  [
    'IST0118',
    svc('a', '[{name: web, port: 80, targetPort: 8080}]') + proc('a'),
    svc('a', '[{name: web, port: 80, targetPort: 8080, appProtocol: http}]') + proc('a'),
    'Service/a',
  ],
  [
    'IST0123',
    ns('istio-injection: enabled, istio.io/rev: x') + a,
    ns('istio-injection: enabled') + a,
    'Namespace/shop',
  ],
  [
    'IST0125',
    svc('a') + proc('a', '', '', ', annotations: {status.sidecar.istio.io/port: "x"}'),
    svc('a') + proc('a', '', '', ', annotations: {status.sidecar.istio.io/port: "15020"}'),
    'Process/a',
  ],
  [
    'IST0127',
    a + authz(op('methods: [GET]'), 'p', 'selector: {matchLabels: {app: x}}, '),
    a + authz(op('methods: [GET]'), 'p', 'selector: {matchLabels: {app: a}}, '),
    'AuthorizationPolicy/p',
  ],
  [
    'IST0128',
    a + dr('{host: a, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}'),
    a + dr('{host: a, trafficPolicy: {tls: {mode: SIMPLE}}}'),
    'DestinationRule/d',
  ],
  [
    'IST0129',
    a +
      dr(
        '{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, insecureSkipVerify: true}}]}}',
      ),
    a + dr('{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}'),
    'DestinationRule/d',
  ],
  [
    'IST0130',
    a + vs(`{hosts: [a], http: [{${to}}, {match: [{uri: {prefix: /x}}], ${to}}]}`),
    a + vs(`{hosts: [a], http: [{match: [{uri: {prefix: /x}}], ${to}}, {${to}}]}`),
    'VirtualService/r',
  ],
  [
    'IST0131',
    a +
      vs(
        `{hosts: [a], http: [{match: [{uri: {prefix: /x}}], ${to}}, {match: [{uri: {prefix: /x}}, {uri: {exact: /y}}], ${to}}]}`,
      ),
    a +
      vs(
        `{hosts: [a], http: [{match: [{uri: {prefix: /x}}], ${to}}, {match: [{uri: {exact: /x}}, {uri: {exact: /y}}], ${to}}]}`,
      ),
    'VirtualService/r',
  ],
  [
    'IST0132',
    a + edge + gw(http(80, 'x.example.com')) + vs(`{hosts: [y.example.com], gateways: [g], http: [{${to}}]}`),
    a + edge + gw(http(80, 'x.example.com')) + vs(`{hosts: [x.example.com], gateways: [g], http: [{${to}}]}`),
    'VirtualService/r',
  ],
  [
    'IST0133',
    svc('a', '[{name: http, port: 80, targetPort: 8080}, {name: u, port: 81, protocol: UDP}]') + proc('a'),
    a,
    'Service/a',
  ],
  [
    'IST0135',
    svc('a') + proc('a', '', '', ', annotations: {sidecar.istio.io/inject: "true"}'),
    svc('a') + proc('a', '', ', sidecar.istio.io/inject: "true"'),
    'Process/a',
  ],
  [
    'IST0136',
    a + doc(SEC, 'AuthorizationPolicy', at('p', ', annotations: {istio.io/dry-run: "true"}'), 'spec: {rules: [{}]}'),
    a + authz('{}'),
    'AuthorizationPolicy/p',
  ],
  [
    'IST0137',
    a + svc('b', '[{name: http, port: 81, targetPort: 8080}]', 'a'),
    a + svc('b', '[{name: http, port: 80, targetPort: 8080}]', 'a'),
    'Service/b',
  ],
  [
    'IST0138',
    edge + secret('cert') + gw(https('x.example.com')) + gw(https('y.example.com'), 'h'),
    edge + secret('cert') + secret('other') + gw(https('x.example.com')) + gw(https('y.example.com', 'other'), 'h'),
    'Gateway/h',
  ],
  ['IST0144', proc('a', ', runAsUser: 1337'), proc('a', ', runAsUser: 1000'), 'Process/a'],
  [
    'IST0145',
    edge + secret('cert') + gw(https('x.example.com')) + gw(https('x.example.com'), 'h'),
    edge + secret('cert') + gw(https('x.example.com')) + gw(https('y.example.com'), 'h'),
    'Gateway/h',
  ],
  ['IST0162', edge + gw(http(8888)), edge + gw(http(80)), 'Gateway/g'],
  [
    'IST0167',
    svc('a') + proc('a', '', ', sidecar.istio.io/inject: "false"') + authz('{}'),
    a + authz('{}'),
    'AuthorizationPolicy/p',
  ],
  [
    'IST0173',
    a + dr('{host: a, subsets: [{name: v2, labels: {version: v2}}]}'),
    a + dr('{host: a, subsets: [{name: v1, labels: {version: v1}}]}'),
    'DestinationRule/d',
  ],
  ['IST0174', a + dr('{host: b}'), a + dr('{host: a}'), 'DestinationRule/d'],
  ['KIA0002', a + STRICT + pa('{}', 'second'), a + STRICT, 'PeerAuthentication/second'],
  [
    'KIA0003',
    a + pa('{selector: {matchLabels: {app: a}}}', 'x') + pa('{selector: {matchLabels: {version: v1}}}', 'y'),
    a + STRICT + pa('{selector: {matchLabels: {version: v1}}}', 'y'),
    'PeerAuthentication/y',
  ],
  ['KIA0101', a + authz(from('namespaces: [nowhere]')), a + authz(from('namespaces: [shop]')), 'AuthorizationPolicy/p'],
  ['KIA0102', a + authz(op('methods: [get]')), a + authz(op('methods: [GET, "P*"]')), 'AuthorizationPolicy/p'],
  [
    'KIA0104',
    a + authz(op('hosts: [b.shop.svc.cluster.local]')),
    a + authz(op('hosts: [a.shop.svc.cluster.local, x.example.com]')),
    'AuthorizationPolicy/p',
  ],
  [
    'KIA0105',
    a + DISABLED + authz(from('namespaces: [shop]')),
    a + STRICT + authz(from('namespaces: [shop]')),
    'AuthorizationPolicy/p',
  ],
  [
    'KIA0106',
    a + authz(from('principals: [cluster.local/ns/shop/sa/nobody]')),
    a + authz(from('principals: [cluster.local/ns/shop/sa/default, "*/sa/nobody"]')),
    'AuthorizationPolicy/p',
  ],
  [
    'KIA0108',
    a + authz(from('principals: [elsewhere.example/ns/shop/sa/default]')),
    a + authz(from('principals: [cluster.local/ns/shop/sa/default]')),
    'AuthorizationPolicy/p',
  ],
  [
    'KIA0201',
    a + dr('{host: a}') + dr('{host: a.shop.svc.cluster.local}', 'e'),
    a + dr('{host: a, trafficPolicy: {}}') + dr('{host: a, subsets: [{name: v1, labels: {version: v1}}]}', 'e'),
    'DestinationRule/e',
  ],
  [
    'KIA0206',
    a + DISABLED + dr('{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}'),
    a + STRICT + dr('{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}'),
    'DestinationRule/d',
  ],
  [
    'KIA0207',
    a + STRICT + dr('{host: a, trafficPolicy: {tls: {mode: SIMPLE}}}'),
    a + DISABLED + dr('{host: a, trafficPolicy: {tls: {mode: DISABLE}}}'),
    'DestinationRule/d',
  ],
  [
    'KIA0209',
    a + dr('{host: a, subsets: [{name: all}]}'),
    a + dr('{host: a, subsets: [{name: all, labels: {version: v1}}]}'),
    'DestinationRule/d',
  ],
  [
    'KIA0602',
    svc('a', '[{name: http, port: 80, targetPort: 8080, appProtocol: gopher}]') + proc('a'),
    svc('a', '[{name: http, port: 80, targetPort: 8080, appProtocol: kubernetes.io/h2c}]') + proc('a'),
    'Service/a',
  ],
  ['KIA0701', svc('a', '[{name: http, port: 80, targetPort: none}]') + proc('a'), a, 'Service/a'],
  [
    'KIA1104',
    a + vs('{hosts: [a], http: [{route: [{destination: {host: a}, weight: 50}]}]}'),
    a + vs('{hosts: [a], http: [{route: [{destination: {host: a}, weight: 100}]}]}'),
    'VirtualService/r',
  ],
  [
    'KIA1105',
    a +
      vs('{hosts: [a], http: [{route: [{destination: {host: a}, weight: 50}, {destination: {host: a}, weight: 50}]}]}'),
    a +
      dr('{host: a, subsets: [{name: v1, labels: {version: v1}}]}') +
      vs(
        '{hosts: [a], http: [{route: [{destination: {host: a}, weight: 50}, {destination: {host: a, subset: v1}, weight: 50}]}]}',
      ),
    'VirtualService/r',
  ],
  ['IST0110', a + sidecar(forA) + sidecar(forA, 't'), a + sidecar(forA) + sidecar('{}', 't'), 'Sidecar/t'],
  ['IST0111', a + sidecar('{}') + sidecar('{}', 't'), a + sidecar('{}') + sidecar('{}', 't', 'other'), 'Sidecar/t'],
  ['IST0177', entry('x', 'HTTP') + entry('y', 'TCP'), entry('x', 'HTTP') + entry('y', 'TCP', 81), 'ServiceEntry/y'],
  [
    'KIA1702',
    members('g', 'app: a') + members('h', 'app: a'),
    members('g', 'app: a') + members('h', 'app: b'),
    'WorkloadGroup/h',
  ],
  ['KIA1211', entry('x', 'HTTP') + entry('y', 'HTTP'), entry('x', 'HTTP') + entry('y', 'HTTP', 81), 'ServiceEntry/y'],
  [
    'KIA1004',
    a + sidecar('{egress: [{hosts: [./b.shop.svc.cluster.local]}]}'),
    a + sidecar('{egress: [{hosts: [./a.shop.svc.cluster.local, "*/*"]}]}'),
    'Sidecar/s',
  ],
  ['KIA1006', a + sidecar(forA, 's', 'istio-system'), a + sidecar('{}', 's', 'istio-system'), 'Sidecar/s'],
  ['KIA1301', a + proc('b') + authz('{}', 'p', 'selector: {matchLabels: {app: b}}, '), a + authz('{}'), 'Process/a'],
  [
    'KIA1701',
    svc('a') + proc('a', ', serviceAccountName: pay'),
    svc('a') + proc('a', ', serviceAccountName: pay') + doc('v1', 'ServiceAccount', at('pay'), ''),
    'Process/a',
  ],
  [
    'WEFT-RETRY-UNSAFE',
    a + vs(`{hosts: [a], http: [{${to}, retries: {attempts: 3, retryOn: "5xx,connect-failure"}}]}`),
    a +
      vs(
        `{hosts: [a], http: [{match: [{method: {exact: GET}}], ${to}, retries: {attempts: 3, retryOn: 5xx}}, {${to}, retries: {attempts: 3, retryOn: "connect-failure,refused-stream"}}]}`,
      ),
    'VirtualService/r',
  ],
  [
    'KIA1401',
    a + site() + route('HTTPRoute', 'name: nobody'),
    a + site() + route('HTTPRoute', 'name: s'),
    'HTTPRoute/r',
  ],
  [
    'KIA1402',
    a + route('HTTPRoute', 'group: "", kind: Service, name: nobody'),
    a + route('HTTPRoute', onA),
    'HTTPRoute/r',
  ],
  [
    'WEFT-TCP-POLICY',
    svc('a', '[{name: tcp, port: 80, targetPort: 8080}]') +
      proc('a') +
      authz(op('methods: [GET], ports: ["8080"]'), 'p', 'selector: {matchLabels: {app: a}}, '),
    a + authz(op('methods: [GET], ports: ["8080"]'), 'p', 'selector: {matchLabels: {app: a}}, '),
    'AuthorizationPolicy/p',
  ],
  [
    'WEFT-CLOSED',
    a + doc('policy.linkerd.io/v1beta3', 'Server', at('s'), 'spec: {podSelector: {}, port: 8080}'),
    a +
      doc(
        'policy.linkerd.io/v1beta3',
        'Server',
        at('s'),
        'spec: {podSelector: {}, port: 8080, accessPolicy: all-authenticated}',
      ),
    'Server/s',
  ],
  [
    'WEFT-TWO-APIS',
    a +
      authz('{}', 'p', 'selector: {matchLabels: {app: a}}, ') +
      doc('policy.linkerd.io/v1beta3', 'Server', at('s'), 'spec: {podSelector: {matchLabels: {app: a}}, port: 8080}'),
    a + authz('{}', 'p', 'selector: {matchLabels: {app: a}}, '),
    'AuthorizationPolicy/p',
  ],
  [
    'WEFT-IGNORED',
    a + route('HTTPRoute', onA) + vs(`{hosts: [a], http: [{${to}}]}`, 'v'),
    a + route('HTTPRoute', onA),
    'VirtualService/v',
  ],
  ['KIA1504', site('nix'), site('istio'), 'Gateway/s'],
  [
    'KIA1401',
    a + site() + route('HTTPRoute', 'name: s, sectionName: m'),
    a + site() + route('HTTPRoute', 'name: s, sectionName: l'),
    'HTTPRoute/r',
  ],
  [
    'KIA1401',
    a + site() + route('HTTPRoute', 'name: s, namespace: shop', '', 'name: r, namespace: far'),
    a + site() + route('HTTPRoute', 'name: s', ''),
    'HTTPRoute/r',
  ],
  [
    'WEFT-NO-GRANT',
    a +
      route(
        'HTTPRoute',
        `${onA}, namespace: shop`,
        'backendRefs: [{name: a, namespace: shop, port: 80}]',
        'name: r, namespace: far',
      ),
    a + route('HTTPRoute', onA, 'backendRefs: [{name: a, namespace: shop, port: 80}]'),
    'HTTPRoute/r',
  ],
  ['WEFT-NO-CONFIGMAP', a + backendTls, a + backendTls + roots, 'BackendTLSPolicy/b'],
  [
    'WEFT-ROUTE-CONFLICT',
    a + route('GRPCRoute', onA) + route('HTTPRoute', onA),
    a + route('HTTPRoute', onA),
    'GRPCRoute/r',
  ],
  [
    'WEFT-IGNORED',
    a +
      doc('weft.dev/v1alpha1', 'MeshDefaults', at('x'), 'spec: {timeout: 1s}') +
      doc('weft.dev/v1alpha1', 'MeshDefaults', at('y'), 'spec: {timeout: 2s}'),
    a + doc('weft.dev/v1alpha1', 'MeshDefaults', at('x'), 'spec: {timeout: 1s}'),
    'MeshDefaults/y',
  ],
  ['WEFT-DUPLICATE', a + proc('a'), a + proc('b'), 'Process/a'],
  [
    'WEFT-PENDING',
    `${a}---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t}\nspec: {}\n`,
    a,
    '',
  ],
  [
    'WEFT-NO-FILE',
    edge +
      gw(
        '{port: {number: 443, name: https, protocol: HTTPS}, hosts: [x.example.com], tls: {mode: SIMPLE, serverCertificate: c.pem, privateKey: k.pem}}',
      ),
    edge + secret('cert') + gw(https('x.example.com')),
    'Gateway/g',
  ],
];

for (const [code, bad, good, resource] of CASES) {
  test(`${code} is found, and only where it is due`, () => {
    const found = analyze(bad).filter((f) => f.code === code);
    assert.ok(found.length > 0, JSON.stringify(analyze(bad), null, 1));
    assert.equal(found[0].resource, resource);
    assert.equal(found[0].severity, CODES.get(code)?.severity);
    assert.equal(found[0].file, 'a.yaml');
    const line = bad.split('\n')[found[0].line - 1];
    assert.ok(line && line !== '---', `line ${found[0].line}`);
    assert.equal(has(analyze(good), code), false, JSON.stringify(analyze(good), null, 1));
  });
}

test('IST0161: a certificate that does not belong to its key', () => {
  const text = edge + secret('cert') + gw(https('x.example.com'));
  const judged = analyze(text, { judgeKeyPair: () => ({ error: 'the key is of another certificate' }) });
  assert.ok(judged.some((f) => f.code === 'IST0161' && f.severity === 'error'));
  assert.equal(has(analyze(text, { judgeKeyPair: () => ({ names: ['x.example.com'] }) }), 'IST0161'), false);
});

test('every code of loading has a public one', () => {
  const folder = new URL('../', import.meta.url);
  const codes = new Set<string>();
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    if (!name.endsWith('.ts') || name.endsWith('.test.ts') || name.includes('analysis/')) continue;
    for (const [, code] of readFileSync(new URL(name, folder), 'utf8').matchAll(/'(WEFT-[A-Z-]+)'/g)) codes.add(code);
  }
  assert.ok(codes.size >= 20);
  for (const code of codes) {
    const place = { resource: 'Service/a', namespace: 'shop', file: 'a', line: 1, field: 'spec' };
    const found = findingOf({ severity: 'error', code, message: 'x', ...place });
    assert.ok(CODES.has(found.code), `${code}: say in analysis/findings.ts which code is shown, and document it`);
  }
});

test('every code has its cases and its place in the documentation', () => {
  const tested = new Set([...CASES.map(([code]) => code), 'IST0161']);
  assert.deepEqual(
    [...CODES.keys()].filter((c) => !tested.has(c)),
    [],
  );
  const page = readFileSync(new URL('../../../../docs/analysis.md', import.meta.url), 'utf8');
  for (const { code, severity, name, when } of CODES.values()) {
    const row = page.split('\n').find((line) => line.startsWith(`| ${code} `)) ?? '';
    assert.ok(row.includes(name) && row.includes(severity) && row.includes(when), `${code}: ${row}`);
  }
});

test('a good mesh has nothing to say', () => {
  assert.deepEqual(
    analyze(ns('istio-injection: enabled') + a + vs(`{hosts: [a], http: [{${to}}]}`) + dr('{host: a}')),
    [],
  );
});

test('all problems at once, in the order of the files, one broken file or not', () => {
  const files = [
    { path: 'z.yaml', text: `${a}${vs('{hosts: [nobody], http: [{rout: []}]}')}` },
    { path: 'b.yaml', text: 'a: [' },
  ];
  const found = analyzeFiles(files);
  assert.deepEqual([...new Set(found.map((f) => f.file))], ['z.yaml', 'b.yaml']);
  assert.equal(found.filter((f) => f.code === 'IST0106').length >= 2, true);
});

test('a resource may say what it knows of', () => {
  const bad = (codes: string) =>
    svc('a', '[{name: web, port: 80}]', 'a', `, annotations: {galley.istio.io/analyze-suppress: "${codes}"}`) +
    proc('a') +
    svc('b', '[{name: web, port: 80}]') +
    proc('b');
  const of = (codes: string) =>
    analyze(bad(codes))
      .filter((f) => f.code === 'IST0118')
      .map((f) => f.resource);
  assert.deepEqual(of('IST0001'), ['Service/a', 'Service/b']);
  assert.deepEqual(of('IST0001, IST0118'), ['Service/b']);
  assert.deepEqual(of('KIA0601'), ['Service/b']);
  assert.deepEqual(of('*'), ['Service/b']);
});

test('-S takes a code and a resource, with wildcards', () => {
  const [finding] = analyze(svc('a', '[{name: web, port: 80}]') + proc('a'));
  const says = (text: string) => {
    const s = parseSuppression(text);
    assert.ok(s, text);
    return suppressed(finding, [s]);
  };
  assert.equal(finding.code, 'IST0118');
  for (const yes of ['IST0118=Service a.shop', 'IST0118=Service *', 'KIA0601=*', 'IST0118=*a.sh*op'])
    assert.equal(says(yes), true, yes);
  for (const no of ['IST0117=Service a.shop', 'IST0118=Service a', 'IST0118=Service b*', 'IST0118=*a.shop*p'])
    assert.equal(says(no), false, no);
  for (const wrong of ['IST0118', '=x', 'IST0118=', 'ist0118=x']) assert.equal(parseSuppression(wrong), undefined);
});
