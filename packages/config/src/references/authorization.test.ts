import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileAuthorization, RefTable } from '@weft/model';
import { loadFiles } from '../index.ts';

const BASE = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {command: [x], ports: [{port: 5432, name: tcp-pg}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: pay, namespace: shop, labels: {app: pay}}
spec: {command: [x], ports: [{port: 8080, name: http}, {port: 9000, name: raw}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {selector: {app: pay}, ports: [{port: 80, name: http, targetPort: 8080}, {port: 90, appProtocol: tcp, targetPort: 9000, name: raw}]}
`;

const problems = (spec: string) => {
  const policy = `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: ${spec}\n`;
  const r = loadFiles([
    { path: 'base.yaml', text: BASE },
    { path: 'p.yaml', text: policy },
  ]);
  return r.problems.filter((p) => p.file === 'p.yaml').map((p) => `${p.severity} ${p.code} ${p.field}`);
};
const select = (app: string, action: string, rules: string): string =>
  `{selector: {matchLabels: {app: ${app}}}, action: ${action}, rules: [${rules}]}`;

test('HTTP fields on TCP ports are refused or told of; what names HTTP ports is left alone', () => {
  const paths = 'spec.rules[0].to[0].operation.paths';
  const rule = (more = '') => `{to: [{operation: {paths: [/a, "/b/{*}/{**}"]${more}}}]}`;
  const refused = [`error WEFT-TCP-POLICY ${paths}`];
  const table: [string, string[]][] = [
    [select('db', 'ALLOW', rule()), refused],
    [select('db', 'DENY', rule()), refused],
    [select('pay', 'DENY', rule()), refused],
    [select('pay', 'ALLOW', rule(', ports: ["9000"]')), refused],
    [select('pay', 'ALLOW', rule()), [`warning WEFT-TCP-POLICY ${paths}`]],
    [`{action: DENY, rules: [${rule()}]}`, [`warning WEFT-TCP-POLICY ${paths}`]],
    [select('pay', 'DENY', rule(', ports: ["8080"]')), []],
    [select('db', 'DENY', '{from: [{source: {namespaces: [x]}}], to: [{operation: {ports: ["5432"]}}]}'), []],
    [
      select('db', 'ALLOW', '{when: [{key: "request.headers[x-a]", values: [b]}]}'),
      ['error WEFT-TCP-POLICY spec.rules[0].when[0].key'],
    ],
    [
      select('pay', 'DENY', `{to: [{operation: {methods: [GET]}}], when: [{key: destination.port, values: ["8080"]}]}`),
      [],
    ],
  ];
  for (const [spec, wanted] of table) assert.deepEqual(problems(spec), wanted, spec);
});

test('RequestAuthentication reaches the plan, with the places a token has by default', () => {
  const jwks = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}';
  const text = `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  selector: {matchLabels: {app: pay}}
  jwtRules:
    - {issuer: i, jwks: '${jwks}'}
    - {issuer: j, jwks: '${jwks}', fromCookies: [c], outputClaimToHeaders: [{header: X-A, claim: a.b}]}
`;
  const { model, problems } = loadFiles([
    { path: 'base.yaml', text: BASE },
    { path: 'jwt.yaml', text },
  ]);
  assert.deepEqual(problems, []);
  const plan = (app: string) =>
    compileAuthorization(model!, { namespace: 'shop', labels: { app } }, new RefTable(model!)).tokens;
  assert.deepEqual(plan('db'), []);
  const [first, second] = plan('pay');
  assert.deepEqual(
    [first.issuer, first.jwks, first.headers.map((h) => h.name + h.prefix), first.params],
    ['i', jwks, ['authorizationBearer '], ['access_token']],
  );
  assert.equal(first.ref, 'RequestAuthentication/shop/jwt#spec.jwtRules[0]');
  assert.deepEqual([second.headers, second.params, second.cookies], [[], [], ['c']]);
  assert.deepEqual(
    second.claimHeaders.map((c) => [c.header, c.claim]),
    [['x-a', ['a', 'b']]],
  );
});

test('an authorizer is not asked of the calls that ask it', () => {
  const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "extensionProviders: [{name: guard, envoyExtAuthzHttp: {service: pay.shop.svc.cluster.local, port: 80}}]"}
---
`;
  const found = (spec: string, namespace = 'shop'): string[] => {
    const text = `${settings}apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: ${namespace}}
spec: {action: CUSTOM, provider: {name: guard}, ${spec}}
`;
    const files = [
      { path: 'base.yaml', text: BASE },
      { path: 'p.yaml', text },
    ];
    return loadFiles(files).problems.map((p) => `${p.severity} ${p.code} ${p.field}`);
  };
  const itself = ['error WEFT-VALUE spec.provider.name'];
  assert.deepEqual(found('rules: [{}]', 'istio-system'), itself);
  assert.deepEqual(found('rules: [{from: [{source: {namespaces: [x]}}]}]'), itself);
  assert.deepEqual(found('rules: [{to: [{operation: {ports: ["8080"]}}]}]'), itself);
  assert.deepEqual(found('rules: [{to: [{operation: {notPorts: ["8080"]}}]}]'), []);
  assert.deepEqual(found('selector: {matchLabels: {app: db}}, rules: [{}]'), []);
});
