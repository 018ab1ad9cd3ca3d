import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance } from '@weft/model';
import { loadFiles } from './index.ts';

const service =
  'apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {selector: {app: a}, ports: [{name: http, port: 80}]}\n' +
  '---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, namespace: shop, labels: {app: a}}\nspec: {command: [run]}\n';
const vs = (spec: string, name = 'a', namespace = 'shop') =>
  `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n`;
const load = (...texts: string[]) => loadFiles([service, ...texts].map((text, i) => ({ path: `f${i}.yaml`, text })));
const to = 'route: [{destination: {host: a}}]';
const http = (fields: string) => load(vs(`{hosts: [a], http: [{${fields}}]}`));
const findings = (r: ReturnType<typeof load>) => r.problems.map((p) => [p.code, p.severity, p.field]);

function routesSeenFrom(namespace: string, ...texts: string[]) {
  const { model, problems } = load(...texts);
  assert.ok(model, JSON.stringify(problems));
  const client = { name: 'c', workload: 'c', namespace, labels: {}, address: '10.0.0.9', ports: [] };
  const instance = { ...client, serviceAccount: 'c', dialAddress: '', injected: true, ready: true, draining: false };
  const runtime = { mesh: 'm', trustDomain: 't', domain: 'cluster.local', capture: 'transparent' as const };
  const { parts } = compile(model, { ...runtime, instances: [], vips: new Map() }, instance satisfies Instance);
  const kind = parts.get('service/a.shop.svc.cluster.local')?.kind;
  assert.equal(kind?.case, 'service');
  return kind.case === 'service' ? kind.value.ports[0].http : [];
}

test('rewrite by regular expression, redirect ports, CORS, bytes of a direct response reach the plan', () => {
  const spec = `{hosts: [a], http: [
    {name: rewrite, match: [{uri: {prefix: /r}}], rewrite: {uriRegexRewrite: {match: "/r/(.*)", rewrite: '/\\1'}}, ${to}},
    {name: redirect, match: [{uri: {prefix: /m}}], redirect: {prefixRewrite: /n, derivePort: FROM_REQUEST_PORT}},
    {name: bytes, match: [{uri: {prefix: /b}}], directResponse: {status: 200, body: {bytes: aGVsbG8=}}},
    {name: cors, corsPolicy: {allowOrigins: [{exact: "https://x.test"}], maxAge: 90s, unmatchedPreflights: IGNORE}, ${to}}]}`;
  const [rewrite, redirect, bytes, cors] = routesSeenFrom('shop', vs(spec));
  assert.deepEqual([rewrite.rewrite?.regex, rewrite.rewrite?.substitution], ['/r/(.*)', '/\\1']);
  assert.deepEqual([redirect.redirect?.prefixRewrite, redirect.redirect?.derivePort], ['/n', 2]);
  assert.equal(bytes.directResponse?.body, 'hello');
  assert.deepEqual(
    [cors.cors?.allowOrigins[0].kind.value, cors.cors?.maxAgeSeconds, cors.cors?.ignoreUnmatchedPreflights],
    ['https://x.test', 90, true],
  );
});

test('what cannot be meant is refused, what does nothing is warned of', () => {
  const rewrite = (text: string) => findings(http(`rewrite: {uriRegexRewrite: ${text}}, ${to}`));
  const at = 'spec.http[0].rewrite.uriRegexRewrite';
  assert.deepEqual(rewrite(`{match: "/(a)", rewrite: '/\\2'}`), [['WEFT-VALUE', 'error', `${at}.rewrite`]]);
  assert.deepEqual(rewrite('{match: "(?=a)", rewrite: /}'), [['WEFT-VALUE', 'error', `${at}.match`]]);
  assert.deepEqual(findings(http('redirect: {port: 8080, derivePort: FROM_REQUEST_PORT}')), [
    ['WEFT-VALUE', 'error', 'spec.http[0].redirect'],
  ]);
  assert.deepEqual(findings(http('directResponse: {status: 200, body: {bytes: "_"}}')), [
    ['WEFT-VALUE', 'error', 'spec.http[0].directResponse.body.bytes'],
  ]);
  assert.deepEqual(findings(http(`corsPolicy: {}, ${to}`)), [['WEFT-NO-EFFECT', 'warning', 'spec.http[0].corsPolicy']]);
  assert.deepEqual(
    findings(http(`match: [{ignoreUriCase: true, uri: {regex: /a}}, {ignoreUriCase: true, uri: {exact: /a}}], ${to}`)),
    [['WEFT-NO-EFFECT', 'warning', 'spec.http[0].match[0].ignoreUriCase']],
  );
  const old = http(`mirror: {host: a}, mirrorPercent: 5, fault: {delay: {percent: 1, fixedDelay: 1s}}, ${to}`).problems;
  assert.deepEqual(
    old.flatMap((p) => (p.code === 'WEFT-UNSUPPORTED' ? [p.message.split('write ')[1]] : [])),
    ['mirrorPercentage: {value: …}', 'percentage: {value: …}'],
  );
  for (const name of ['uri', 'method'])
    assert.deepEqual(findings(http(`match: [{headers: {${name}: {exact: x}}}], ${to}`)), [
      ['WEFT-VALUE', 'error', `spec.http[0].match[0].headers.${name}`],
    ]);
  assert.deepEqual(findings(http(`match: [{statPrefix: x, uri: {exact: /}}], ${to}`)), [
    ['WEFT-NO-EFFECT', 'warning', 'spec.http[0].match[0].statPrefix'],
  ]);
});

test('exportTo: who does not see a rule goes without it; two rules that nobody sees both may be for one host', () => {
  const rule = (name: string, namespace: string, scope: string) =>
    vs(
      `{hosts: [a.shop.svc.cluster.local], ${scope} http: [{name: ${name}, ${to.replace('host: a', 'host: a.shop.svc.cluster.local')}}]}`,
      name,
      namespace,
    );
  const own = rule('own', 'shop', 'exportTo: ["."],');
  const other = rule('other', 'web', 'exportTo: [".", desk],');
  assert.equal(routesSeenFrom('shop', own, other)[0].name, 'own');
  assert.equal(routesSeenFrom('web', own, other)[0].name, 'other');
  assert.equal(routesSeenFrom('desk', own, other)[0].name, 'other');
  assert.equal(routesSeenFrom('third', own, other)[0].name, 'default');
  assert.deepEqual(findings(load(own, rule('all', 'web', ''))), [['WEFT-HOST-CONFLICT', 'error', 'spec.hosts[0]']]);
});

test('claims of tokens decide on gateways alone, with their names as they are written', () => {
  const match = (name: string, more = '') => `{headers: {"${name}": {exact: staff}}${more}}`;
  const gateway = `${vs('{selector: {app: edge}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}', 'gw').replace('VirtualService', 'Gateway')}---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: edge, namespace: shop, labels: {app: edge}}\nspec: {gateway: {}}\n`;
  const of = (gateways: string, m: string) =>
    load(
      gateway,
      vs(`{hosts: [a.test], gateways: [${gateways}], http: [{match: [${m}], route: [{destination: {host: a}}]}]}`),
    );
  const claim = '@request.auth.claims[Org][team]';
  const good = of('gw', match(claim));
  assert.deepEqual(findings(good), []);
  assert.equal(good.model?.virtualServices[0].http[0].match[0].headers[0].name, claim);
  assert.deepEqual(findings(of('gw', match('@request.auth.claims.group'))), []);
  const at = 'spec.http[0].match[0].headers';
  assert.deepEqual(findings(http(`match: [${match('@request.auth.claims.group')}], ${to}`)), [
    ['WEFT-VALUE', 'error', `${at}.@request.auth.claims.group`],
  ]);
  for (const bad of ['@request.auth.claims', '@request.auth.principal', '@request.auth.claims[a'])
    assert.deepEqual(findings(of('gw', match(bad))), [['WEFT-VALUE', 'error', `${at}.${bad}`]]);
});
