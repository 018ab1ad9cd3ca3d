/** weft.dev/fault-bandwidth from YAML to routes of the plan. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance } from '@weft/model';
import { loadFiles } from './index.ts';

const text = (annotation: string, http = ROUTES): string => `apiVersion: v1
kind: Service
metadata: { name: pay, namespace: shop }
spec: { selector: { app: pay }, ports: [{ name: http, port: 80 }] }
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: pay, namespace: shop, labels: { app: pay } }
spec: { command: [run], ports: [{ containerPort: 80 }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: pay
  namespace: shop
  annotations: { weft.dev/fault-bandwidth: '${annotation}' }
spec:
  hosts: [pay]
  http:
${http}`;
const ROUTES = `    - name: slow
      match: [{ uri: { prefix: /big } }]
      fault: { delay: { percentage: { value: 10 }, fixedDelay: 1s } }
      route: [{ destination: { host: pay } }]
    - name: away
      match: [{ uri: { exact: /away } }]
      redirect: { uri: /there }
    - route: [{ destination: { host: pay } }]
`;

function faults(annotation: string) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: text(annotation) }]);
  assert.ok(model, JSON.stringify(problems, null, 1));
  const client: Instance = {
    ...{ name: 'web-0', workload: 'web', namespace: 'shop', serviceAccount: 'web', labels: {} },
    ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', injected: true, ready: true, draining: false, ports: [] },
  };
  const runtime = {
    ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' as const },
    ...{ instances: [client], vips: new Map() },
  };
  const kind = compile(model, runtime, client).parts.get('service/pay.shop.svc.cluster.local')?.kind;
  assert.ok(kind?.case === 'service');
  return kind.value.ports[0].http.map(
    (r) => r.fault && [r.fault.ref, r.fault.delayMs, r.fault.bandwidthPercent, r.fault.bandwidthBytesPerSecond],
  );
}

const BLOCK = 'VirtualService/shop/pay#spec.http[0].fault';
const NOTE = 'VirtualService/shop/pay#metadata.annotations.weft.dev/fault-bandwidth';

test('of all routes that send on, or of those that are named, with a share', () => {
  assert.deepEqual(faults('16384'), [[BLOCK, 1000, 100, 16384], undefined, [NOTE, 0, 100, 16384]]);
  assert.deepEqual(faults('slow=2000@12.5%'), [[BLOCK, 1000, 12.5, 2000], undefined, undefined]);
  assert.deepEqual(faults('9000, slow=1@0%'), [[BLOCK, 1000, 0, 1], undefined, [NOTE, 0, 100, 9000]]);
});

test('mistakes have a place', () => {
  for (const [annotation, pattern] of [
    ['64k', /has "64k"; say bytes a second/],
    ['0', /has "0"/],
    ['10@101%', /has "10@101%"/],
    ['fast=10', /names the route "fast"; routes with a name: slow/],
    ['away=10', /names the route "away"; routes with a name: slow/],
  ] as const) {
    const { model, problems } = loadFiles([{ path: 'a.yaml', text: text(annotation) }]);
    assert.equal(model, undefined, annotation);
    assert.match(problems[0].message, pattern);
    assert.equal(problems[0].line, 16);
  }
});
