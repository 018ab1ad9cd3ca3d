import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSnapshot, findService, findServiceByAuthority, routeHttp } from '@weft/engine';
import { compile, compileEndpoints, type Instance, type MeshRuntime, type Model, namesToResolve } from '@weft/model';
import { loadFiles } from './index.ts';

const doc = (kind: string, name: string, spec: string, namespace = 'shop') =>
  `apiVersion: networking.istio.io/v1\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}\n`;
const entry = (spec: string, name = 'api', namespace = 'shop') => doc('ServiceEntry', name, spec, namespace);
const load = (...texts: string[]) => loadFiles(texts.map((text, i) => ({ path: `f${i}.yaml`, text })));
const findings = (...texts: string[]) => load(...texts).problems.map((p) => [p.code, p.severity, p.field]);
const http = 'ports: [{number: 80, name: http, protocol: HTTP}]';

function must(...texts: string[]): Model {
  const { model, problems } = load(...texts);
  assert.ok(model, JSON.stringify(problems, null, 1));
  return model;
}

const client = (namespace = 'shop', labels = {}): Instance => ({
  ...{
    name: 'c-0',
    workload: 'c',
    namespace,
    serviceAccount: 'c',
    labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
  },
  ...{ ports: [], injected: true, ready: true, draining: false },
});
const runtime = (resolved?: [string, string[]][]): MeshRuntime => ({
  ...{ mesh: 'm', trustDomain: 'td', domain: 'cluster.local', capture: 'transparent', instances: [] },
  ...{ vips: new Map(), resolved: new Map(resolved) },
});
const endpointsOf = (model: Model, name: string, resolved?: [string, string[]][]) =>
  compileEndpoints(model, runtime(resolved))
    .get(`endpoints/${name}`)
    ?.endpoints.map((e) => `${e.address}:${e.port}`);
const services = (model: Model, instance: Instance) =>
  [...compile(model, runtime(), instance).parts.keys()].filter((k) => k.startsWith('service/')).map((k) => k.slice(8));

test('endpoints by resolution: static ones, looked up names, names left to the proxy, selected workloads', () => {
  const stat = must(
    entry(
      `{hosts: [api.test, alt.test], resolution: STATIC, ports: [{number: 80, name: http, targetPort: 8080}], endpoints: [{address: 10.1.1.1}, {address: 10.1.1.2, ports: {http: 9090}}]}`,
    ),
  );
  assert.deepEqual(endpointsOf(stat, 'api.test:80'), ['10.1.1.1:8080', '10.1.1.2:9090']);
  assert.deepEqual(endpointsOf(stat, 'alt.test:80'), ['10.1.1.1:8080', '10.1.1.2:9090']);
  assert.deepEqual([...namesToResolve(stat).keys()], []);

  const dns = must(
    entry(`{hosts: [api.test], resolution: DNS, ${http}, endpoints: [{address: db.test}, {address: 10.1.1.1}]}`),
  );
  assert.deepEqual([...namesToResolve(dns).keys()], ['db.test']);
  assert.deepEqual(endpointsOf(dns, 'api.test:80'), ['db.test:80', '10.1.1.1:80']);
  assert.deepEqual(endpointsOf(dns, 'api.test:80', [['db.test', ['10.2.0.1', '10.2.0.2']]]), [
    ...['10.2.0.1:80', '10.2.0.2:80'],
    '10.1.1.1:80',
  ]);

  for (const resolution of ['DNS_ROUND_ROBIN', 'NONE']) {
    const model = must(entry(`{hosts: [api.test], resolution: ${resolution}, ${http}}`));
    assert.deepEqual([...namesToResolve(model).keys()], []);
    assert.deepEqual(endpointsOf(model, 'api.test:80', [['api.test', ['10.2.0.1']]]), ['api.test:80'], resolution);
  }

  const selected = must(
    entry(
      `{hosts: [old.test], resolution: STATIC, location: MESH_INTERNAL, ${http}, workloadSelector: {labels: {app: old}}}`,
    ),
    doc(
      'WorkloadEntry',
      'vm-1',
      '{address: 10.3.0.1, labels: {app: old, version: v1}, ports: {http: 8000}, serviceAccount: old}',
    ),
    doc('WorkloadEntry', 'vm-2', '{address: 10.3.0.2, labels: {app: other}}'),
  );
  assert.deepEqual(endpointsOf(selected, 'old.test:80'), ['10.3.0.1:8000']);
  const [vm] = compileEndpoints(selected, runtime()).get('endpoints/old.test:80')?.endpoints ?? [];
  assert.deepEqual([vm.identity, vm.meshPort, vm.version], ['spiffe://td/ns/shop/sa/old', 0, 'v1']);
});

test('a wildcard leads to the host that the client names, with the routes of the entry', () => {
  const model = must(
    entry(`{hosts: ["*.wild.test"], ${http}}`),
    doc(
      'VirtualService',
      'w',
      '{hosts: ["*.wild.test"], http: [{timeout: 3s, route: [{destination: {host: "a.wild.test"}}]}]}',
    ),
  );
  const { parts } = compile(model, runtime(), client());
  const snapshot = buildSnapshot(parts.values(), compileEndpoints(model, runtime()).values());
  const view = findServiceByAuthority(snapshot, 'b.wild.test', 80);
  assert.ok(view);
  assert.equal(view.pinned?.pinned?.endpoint.address, 'b.wild.test');
  assert.equal(findServiceByAuthority(snapshot, 'b.wild.test', 80), view, 'one host, one view: its state stays');
  assert.equal(findServiceByAuthority(snapshot, 'wild.test', 80), undefined);
  const head = [':method', 'GET', ':authority', 'b.wild.test', ':path', '/'];
  const decision = routeHttp(view, head, { next: () => 0.5 });
  assert.equal(decision.kind === 'forward' && decision.timeoutMs, 3000);
});

test('exportTo and Sidecar say which services a workload is told of, and what becomes of unknown ones', () => {
  const hidden = entry(`{hosts: [hidden.test], exportTo: ["."], ${http}}`, 'hidden', 'other');
  const open = entry(`{hosts: [open.test], ${http}}`, 'open', 'other');
  const own = entry(`{hosts: [own.test], ${http}}`, 'own');
  const routed = doc('VirtualService', 'v', '{hosts: [own.test], http: [{route: [{destination: {host: open.test}}]}]}');
  assert.deepEqual(services(must(hidden, open, own), client()), ['open.test', 'own.test']);
  assert.deepEqual(services(must(hidden, open, own), client('other')), ['hidden.test', 'open.test', 'own.test']);

  const sidecar = doc(
    'Sidecar',
    'default',
    '{egress: [{hosts: ["./*"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}',
  );
  const special = doc(
    'Sidecar',
    'special',
    '{workloadSelector: {labels: {app: x}}, egress: [{hosts: ["other/open.test"]}]}',
  );
  const root = doc('Sidecar', 'root', '{egress: [{hosts: ["~/*"]}]}', 'istio-system');
  const model = must(hidden, open, own, routed, sidecar, special, root);
  assert.deepEqual(services(model, client()), ['own.test']);
  const { parts } = compile(model, runtime(), client());
  assert.ok(parts.has('cluster/outbound|80||open.test'), 'where a route leads is there without being told of');
  const self = parts.get('self')?.kind;
  assert.equal(self?.case === 'self' && self.value.registryOnly, true);
  assert.deepEqual(services(model, client('shop', { app: 'x' })), ['open.test']);
  assert.deepEqual(services(model, client('third')), []);
});

test('what cannot be meant is refused with its field', () => {
  assert.deepEqual(findings(entry(`{hosts: [a.test], resolution: STATIC, ${http}}`)), [
    ['WEFT-VALUE', 'error', 'spec.resolution'],
  ]);
  assert.deepEqual(findings(entry(`{hosts: [a.test], resolution: STATIC, ${http}, endpoints: [{address: b.test}]}`)), [
    ['WEFT-VALUE', 'error', 'spec.endpoints[0].address'],
  ]);
  assert.deepEqual(findings(entry(`{hosts: ["*.test"], resolution: DNS, ${http}}`)), [
    ['WEFT-VALUE', 'error', 'spec.hosts[0]'],
  ]);
  assert.deepEqual(findings(entry(`{hosts: [a.test], ${http}, endpoints: [{address: 10.0.0.1}]}`)), [
    ['WEFT-VALUE', 'error', 'spec.endpoints'],
  ]);
  assert.deepEqual(
    findings(
      entry(`{hosts: [a.test], resolution: STATIC, ${http}, endpoints: [{address: 10.0.0.1, ports: {https: 1}}]}`),
    ),
    [['WEFT-NO-PORT', 'error', 'spec.endpoints[0].ports.https']],
  );
  assert.deepEqual(findings(entry('{hosts: [a.test], ports: [{number: 80, name: x, protocol: QUIC}]}')), [
    ['WEFT-VALUE', 'error', 'spec.ports[0].protocol'],
  ]);
  assert.deepEqual(findings(doc('Sidecar', 's', '{egress: [{hosts: ["a.test"]}]}')), [
    ['WEFT-VALUE', 'error', 'spec.egress[0].hosts[0]'],
  ]);
});

test('subjectAltNames: what a rule begins TLS with looks for, where it says no names itself', () => {
  const out = entry(
    '{hosts: [api.test, alt.test], resolution: DNS, subjectAltNames: [a.test, spiffe://x/y], ' + http + '}',
  );
  const rule = (host: string, tls: string) =>
    doc('DestinationRule', host.slice(0, 3), `{host: ${host}, trafficPolicy: {tls: {${tls}}}}`);
  const names = (...tls: string[]) => {
    const rules = tls.map((said, i) => rule(['api.test', 'alt.test'][i], said));
    const { parts } = compile(must(out, ...rules), runtime(), client());
    return ['api.test', 'alt.test'].map((host) => {
      const kind = parts.get(`cluster/outbound|80||${host}`)?.kind;
      return kind?.case === 'cluster' ? kind.value.origination?.subjectAltNames : undefined;
    });
  };
  assert.deepEqual(names('mode: SIMPLE', 'mode: SIMPLE, subjectAltNames: [own]'), [
    ['a.test', 'spiffe://x/y'],
    ['own'],
  ]);
  assert.deepEqual(names('mode: SIMPLE, insecureSkipVerify: true', 'mode: DISABLE'), [[], undefined]);
  const [alone] = load(out, rule('api.test', 'mode: SIMPLE')).problems;
  assert.deepEqual([alone.code, alone.severity, alone.field], ['WEFT-NO-EFFECT', 'warning', 'spec.subjectAltNames']);
  assert.match(alone.message, /begins TLS for alt\.test/);
  const inside = `{hosts: [in.test], location: MESH_INTERNAL, subjectAltNames: [x], ${http}}`;
  assert.deepEqual(findings(entry(inside))[0], ['WEFT-VALUE', 'error', 'spec.subjectAltNames']);
});

test('DYNAMIC_DNS: a wildcard whose hosts are asked for when they are called', () => {
  const model = must(entry(`{hosts: ["*.wild.test"], resolution: DYNAMIC_DNS, ${http}}`));
  const { parts } = compile(model, runtime(), client());
  const snapshot = buildSnapshot(parts.values(), compileEndpoints(model, runtime()).values());
  const view = findServiceByAuthority(snapshot, 'b.wild.test', 80);
  assert.equal(view?.pinned?.pinned?.endpoint.address, 'b.wild.test');
  const wrong = `{hosts: [a.test], resolution: DYNAMIC_DNS, location: MESH_INTERNAL, addresses: [10.0.0.1], endpoints: [{address: b.test}], ${http}}`;
  assert.deepEqual(
    findings(entry(wrong)).map(([, , field]) => field),
    ['spec.hosts[0]', 'spec.addresses', 'spec.endpoints', 'spec.location'],
  );
});

test('blocks of addresses: the narrowest counts; with NONE the address that was dialled is the destination', () => {
  const at = (name: string, addresses: string, more: string) =>
    entry(
      `{hosts: [${name}.test], addresses: [${addresses}], ports: [{number: 5432, name: tcp, protocol: TCP}], ${more}}`,
      name,
    );
  const model = must(
    at('wide', '10.0.0.0/8, "2001:db8::/32"', 'resolution: STATIC, endpoints: [{address: 192.0.2.1}]'),
    at('near', '10.1.0.0/16', 'resolution: NONE'),
    at('one', '10.1.2.3', 'resolution: NONE'),
    at('given', '10.1.2.4', 'resolution: STATIC, endpoints: [{address: 192.0.2.2}]'),
  );
  const vips = new Map([
    ['one.test', ['10.1.2.3']],
    ['given.test', ['10.1.2.4']],
    ['near.test', ['240.0.0.9']],
  ]);
  const { parts } = compile(model, { ...runtime(), vips }, client());
  const snapshot = buildSnapshot(parts.values(), compileEndpoints(model, runtime()).values());
  const found = (address: string, port = 5432) => {
    const view = findService(snapshot, address, port);
    return view && [view.service.host, view.pinned?.pinned?.endpoint.address];
  };
  assert.deepEqual(found('10.9.9.9'), ['wide.test', undefined]);
  assert.deepEqual(found('2001:db8::7'), ['wide.test', undefined]);
  assert.deepEqual(found('10.1.9.9'), ['near.test', '10.1.9.9']);
  assert.deepEqual(found('10.1.2.3'), ['one.test', '10.1.2.3']);
  assert.deepEqual(found('10.1.2.4'), ['given.test', undefined], 'a virtual address goes before blocks');
  assert.deepEqual(found('240.0.0.9'), ['near.test', undefined], 'a virtual address of its own leads to its name');
  assert.equal(found('10.9.9.9', 80), undefined);
  assert.equal(found('11.0.0.1'), undefined);
  assert.equal(
    findService(snapshot, '10.1.9.9', 5432),
    findService(snapshot, '10.1.9.9', 5432),
    'one address, one view',
  );
});
