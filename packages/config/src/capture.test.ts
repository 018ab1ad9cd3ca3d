import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CaptureScope, captureAll, compile, type Instance } from '@weft/model';
import { loadFiles } from './index.ts';

const process_ = (annotations: Record<string, string>): string =>
  `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: client, namespace: shop, labels: {app: x, version: v1}, annotations: ${JSON.stringify(annotations)}}
spec: {command: [run], ports: [{containerPort: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: x}, ports: [{port: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: x}, ports: [{port: 80}]}
`;
const load = (annotations: Record<string, string>) => loadFiles([{ path: 'a.yaml', text: process_(annotations) }]);
const scopeOf = (annotations: Record<string, string>): CaptureScope => {
  const { model, problems } = load(annotations);
  assert.deepEqual(
    problems.filter((p) => p.severity === 'error'),
    [],
  );
  return model!.processes[0]!.capture;
};
const istio = (name: string): string => `traffic.sidecar.istio.io/${name}`;

test("Istio's and Linkerd's annotations say what is captured", () => {
  assert.equal(scopeOf({ 'example.com/x': 'y' }), captureAll);
  const scope = scopeOf({
    [istio('includeOutboundIPRanges')]: '10.0.0.0/8, 192.0.2.1',
    [istio('excludeOutboundIPRanges')]: '10.1.0.0/16',
    [istio('includeOutboundPorts')]: '80',
    [istio('excludeOutboundPorts')]: '3306,6379',
    [istio('includeInboundPorts')]: '',
    [istio('excludeInboundPorts')]: '9000',
    [istio('excludeInterfaces')]: 'eth1,docker0',
    'config.linkerd.io/skip-outbound-ports': '4000-5000',
    'config.linkerd.io/skip-inbound-ports': '25',
  });
  const one = (p: number) => ({ first: p, last: p });
  assert.deepEqual(scope, {
    includeOutboundRanges: ['10.0.0.0/8', '192.0.2.1'],
    excludeOutboundRanges: ['10.1.0.0/16'],
    includeOutboundPorts: [one(80)],
    excludeOutboundPorts: [one(3306), one(6379), { first: 4000, last: 5000 }],
    includeInboundPorts: [],
    excludeInboundPorts: [one(9000), one(25)],
    excludeInterfaces: ['eth1', 'docker0'],
  });
  const all = scopeOf({ [istio('includeOutboundIPRanges')]: '*', [istio('includeInboundPorts')]: '*' });
  assert.deepEqual(all, captureAll);
});

test('what is no port, no range, no interface is refused; what is unknown is said', () => {
  for (const [name, text] of [
    ['excludeOutboundPorts', '3306,x'],
    ['excludeOutboundPorts', '0'],
    ['excludeInboundPorts', '70000'],
    ['includeInboundPorts', '9-8'],
    ['excludeOutboundIPRanges', '10.0.0.0/33'],
    ['includeOutboundIPRanges', 'example.com'],
    ['excludeInterfaces', 'eth0"; flush ruleset'],
  ] as const) {
    const { problems } = load({ [istio(name)]: text });
    const errors = problems.filter((p) => p.severity === 'error');
    assert.deepEqual(
      errors.map((p) => p.field),
      [`metadata.annotations.${istio(name)}`],
      `${name}: ${text}`,
    );
  }
  const { model, problems } = load({ [istio('excludeOutboundPort')]: '3306' });
  assert.ok(model);
  assert.ok(problems.some((p) => p.severity === 'warning' && p.field.endsWith('excludeOutboundPort')));
});

test('a service that is reached past the proxy has the addresses of its workloads, not a virtual one', () => {
  const { model } = load({ [istio('excludeOutboundPorts')]: '3306' });
  const instance = (workload: string): Instance => ({
    ...{ name: `${workload}-0`, workload, namespace: 'shop', serviceAccount: 'default', labels: {} },
    ...{ address: '10.0.0.2', ports: [], injected: true, ready: true, draining: false, dialAddress: '10.0.0.2' },
  });
  const host = (name: string) => `${name}.shop.svc.cluster.local`;
  const vips = new Map([
    [host('db'), ['240.240.0.1']],
    [host('web'), ['240.240.0.2']],
  ]);
  const plan = (workload: string, name: string, capture: 'transparent' | 'explicit') => {
    const runtime = { mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture, instances: [], vips };
    const part = compile(model!, runtime, instance(workload)).parts.get(`service/${host(name)}`);
    assert.ok(part?.kind.case === 'service');
    return [part.kind.value.headless, ...part.kind.value.addresses];
  };
  assert.deepEqual(plan('client', 'db', 'transparent'), [true]);
  assert.deepEqual(plan('client', 'web', 'transparent'), [false, '240.240.0.2']);
  assert.deepEqual(plan('another', 'db', 'transparent'), [false, '240.240.0.1']);
  assert.deepEqual(plan('client', 'db', 'explicit'), [false, '240.240.0.1']);
});

test("Linkerd's opaque ports, of a workload and of a Service", () => {
  const text = `apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: a, namespace: shop, labels: {app: a, version: v1}, annotations: {config.linkerd.io/opaque-ports: "9000-9001"}}
spec: {command: [run], ports: [{containerPort: 9000, name: http}, {containerPort: 9002, name: http-b}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop, labels: {app: a, version: v1}, annotations: {config.linkerd.io/opaque-ports: "80"}}
spec: {selector: {app: a}, ports: [{port: 80, name: http}, {port: 81, name: http-b}]}
`;
  const { model } = loadFiles([{ path: 'a.yaml', text }]);
  assert.deepEqual(
    model!.processes[0]!.ports.map((p) => p.protocol),
    ['tcp', 'http'],
  );
  assert.deepEqual(
    model!.services[0]!.ports.map((p) => p.protocol),
    ['tcp', 'http'],
  );
});
