/** VirtualServices that hand routes over to others, and routes of connections by address. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance } from '@weft/model';
import { loadFiles } from './index.ts';

const service =
  'apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {selector: {app: a}, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}\n' +
  '---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, namespace: shop, labels: {app: a}}\nspec: {command: [run]}\n' +
  '---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: team}\nspec: {selector: {app: a}, ports: [{name: http, port: 80}]}\n' +
  '---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, namespace: team, labels: {app: a}}\nspec: {command: [run]}\n';
const vs = (name: string, spec: string, namespace = 'shop') =>
  `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec:\n${spec}`;
const load = (...texts: string[]) => loadFiles([service, ...texts].map((text, i) => ({ path: `f${i}.yaml`, text })));
const problems = (...texts: string[]) =>
  load(...texts).problems.map((p) => `${p.file}:${p.line} ${p.severity} ${p.code} ${p.field}`);

function portsOf(...texts: string[]) {
  const { model, problems: found } = load(...texts);
  assert.ok(model, JSON.stringify(found, null, 1));
  const client = { name: 'c', workload: 'c', namespace: 'shop', labels: {}, address: '10.0.0.9', ports: [] };
  const instance = { ...client, serviceAccount: 'c', dialAddress: '', injected: true, ready: true, draining: false };
  const runtime = { mesh: 'm', trustDomain: 't', domain: 'cluster.local', capture: 'transparent' as const };
  const compiled = compile(model, { ...runtime, instances: [], vips: new Map() }, instance satisfies Instance);
  const kind = compiled.parts.get('service/a.shop.svc.cluster.local')?.kind;
  assert.ok(kind?.case === 'service');
  const lines = new Map(compiled.references.map((r) => [r.ref, `${r.file}:${r.line}`]));
  return { ports: kind.value.ports, at: (ref: string | undefined) => lines.get(ref ?? '') };
}

const ROOT = vs(
  'a',
  `  hosts: [a]
  http:
  - name: team
    match:
    - uri: {prefix: /team}
      headers: {x-user: {}}
    delegate: {name: routes, namespace: team}
    timeout: 3s
    retries: {attempts: 4}
  - route: [{destination: {host: a, port: {number: 80}}}]
`,
);
const LEAF = vs(
  'routes',
  `  http:
  - name: exact
    match: [{uri: {exact: /team/one}, method: {exact: GET}}]
    retries: {attempts: 0}
    route: [{destination: {host: a}}]
  - name: other
    match: [{uri: {prefix: /other}}]
    route: [{destination: {host: a}}]
  - route: [{destination: {host: a}}]
`,
  'team',
);

test('routes of a delegate: the conditions of both, its own settings before the root, names of its own namespace', () => {
  const { ports, at } = portsOf(ROOT, LEAF);
  const [exact, all, rest] = ports[0].http;
  assert.equal(ports[0].http.length, 3, 'what lies outside of the root is not there');
  assert.deepEqual([exact.name, all.name, rest.name], ['team-exact', 'team', '']);
  assert.deepEqual(
    [exact.match[0].uri?.kind, exact.match[0].method?.kind.value, exact.match[0].headers.map((h) => h.name)],
    [{ case: 'exact', value: '/team/one' }, 'GET', ['x-user']],
  );
  assert.deepEqual(all.match[0].uri?.kind, { case: 'prefix', value: '/team' });
  assert.equal(exact.clusters[0].cluster, 'outbound|80||a.team.svc.cluster.local');
  assert.deepEqual([exact.timeoutMs, exact.retry?.attempts, all.retry?.attempts], [3000, 0, 4]);
  // Each where it was written.
  assert.deepEqual([exact.ref, exact.timeoutRef, exact.retry?.ref, all.retry?.ref].map(at), [
    'f2.yaml:6',
    'f1.yaml:12',
    'f2.yaml:8',
    'f1.yaml:13',
  ]);
  assert.deepEqual([exact.match[0].ref, all.match[0].ref].map(at), ['f2.yaml:7', 'f1.yaml:9']);
  assert.deepEqual(problems(ROOT, LEAF), ['f2.yaml:10 warning WEFT-UNREACHABLE spec.http[1]']);
});

test('what cannot be handed over', () => {
  const fails = (text: string, ...more: string[]) => problems(text, ...more).filter((p) => p.includes(' error '));
  assert.deepEqual(fails(ROOT), ['f1.yaml:11 error WEFT-NO-TARGET spec.http[0].delegate.name']);
  assert.deepEqual(fails(ROOT, LEAF.replace('spec:\n', 'spec:\n  hosts: [a]\n')), [
    'f1.yaml:11 error WEFT-NO-TARGET spec.http[0].delegate',
  ]);
  assert.deepEqual(fails(ROOT, LEAF.replace('spec:\n', 'spec:\n  exportTo: ["."]\n')), [
    'f1.yaml:11 error WEFT-NO-TARGET spec.http[0].delegate',
  ]);
  const again = vs('b', '  http: [{delegate: {name: routes, namespace: team}}]\n');
  assert.deepEqual(fails(again, LEAF), ['f1.yaml:5 error WEFT-VALUE spec.http[0].delegate']);
  const bound = vs('b', '  gateways: [shop/x]\n  http: [{route: [{destination: {host: a, port: {number: 80}}}]}]\n');
  assert.ok(fails(bound).some((p) => p.endsWith('WEFT-VALUE spec.gateways')));
  const both = vs('b', '  hosts: [a]\n  http: [{delegate: {name: x}, redirect: {uri: /}}]\n');
  assert.ok(fails(both).includes('f1.yaml:6 error WEFT-VALUE spec.http[0]'));
  assert.deepEqual(problems(LEAF), ['f1.yaml:3 warning WEFT-NO-EFFECT metadata.name']);
});

test('connections by address, and by name and address', () => {
  const to = (port: number) => `route: [{destination: {host: a, port: {number: ${port}}}}]`;
  const { ports } = portsOf(
    vs(
      'a',
      `  hosts: [a]
  tcp:
  - match: [{destinationSubnets: [10.1.0.0/16]}, {destinationSubnets: [10.2.0.1], port: 81}]
    ${to(80)}
  tls:
  - match: [{sniHosts: [x.test], destinationSubnets: [10.1.0.0/16]}, {sniHosts: [y.test, z.test]}]
    ${to(81)}
`,
    ),
  );
  const tcp = ports.find((p) => p.port === 81)!.tcp;
  assert.deepEqual(
    tcp.map((r) => [r.destinationSubnets, r.clusters[0].cluster.split('|')[1]]),
    [
      [['10.1.0.0/16', '10.2.0.1'], '80'],
      [[], '81'],
    ],
  );
  const tls = ports.find((p) => p.port === 81)!.tls;
  assert.deepEqual(
    tls.map((r) => [r.sniHosts, r.destinationSubnets]),
    [
      [['x.test'], ['10.1.0.0/16']],
      [['y.test', 'z.test'], []],
    ],
  );
  assert.deepEqual(
    problems(vs('a', `  hosts: [a]\n  tcp:\n  - match: [{destinationSubnets: [10.1]}]\n    ${to(81)}\n`)),
    ['f1.yaml:7 error WEFT-VALUE spec.tcp[0].match[0].destinationSubnets[0]'],
  );
});
