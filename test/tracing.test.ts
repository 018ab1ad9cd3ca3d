/** Spans of a mesh of real processes, at a collector that is a workload of it and takes mTLS alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRoot, meshOf, request } from './harness.ts';

const RULES = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay]
  http:
    - match: [{uri: {prefix: /charge}}]
      route: [{destination: {host: pay}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: pay, namespace: shop}
spec:
  selector: {matchLabels: {app: pay}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/front"]}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: pay, namespace: shop}
spec: {selector: {matchLabels: {app: pay}}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: zipkin, namespace: shop}
spec: {selector: {matchLabels: {app: zipkin}}, mtls: {mode: STRICT}}
`;
const COLLECTOR = `apiVersion: v1
kind: Service
metadata: {name: zipkin, namespace: shop}
spec: {selector: {app: zipkin}, ports: [{name: http, port: 9411}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: zipkin, namespace: shop, labels: {app: zipkin}}
spec:
  command: [node, apps/collector.mjs]
  ports: [{name: http, containerPort: 9411}]
  readinessProbe: {httpGet: {path: /, port: 9411}}
`;
const settings = (sampling: number) => `apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    enableTracing: true
    defaultProviders: {tracing: [zipkin]}
    defaultConfig: {tracing: {sampling: ${sampling}}}
    extensionProviders: [{name: zipkin, zipkin: {service: zipkin.shop.svc.cluster.local, port: 9411}}]
`;

/** As apps/collector.mjs tells them. */
interface Span {
  traceId: string;
  id: string;
  parentId?: string;
  kind: string;
  service: string;
  decisions: [kind: string, rule: string][];
}

test('a request of two hops in one trace, each span with the rules that decided', async (t) => {
  const mesh = await meshOf(
    t,
    isRoot ? 'transparent' : 'explicit',
    { front: { v1: 1 }, pay: { v1: 1 } },
    { 'rules.yaml': RULES, 'collector.yaml': COLLECTOR, 'settings.yaml': settings(0) },
  );
  const front = mesh.row('front').address;
  const run = async (call: unknown) => (await request(front, 8080, '/run', call)).json.sample;
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  const sampled = { traceparent: `00-${trace}-00f067aa0ba902b7-01` };
  const untold = { traceparent: '00-11112222333344445555666677778888-00f067aa0ba902b7-00' };
  const call = async (path: string, headers: Record<string, string>): Promise<string> => {
    return (await run({ url: `http://pay:8080${path}`, headers })).key;
  };
  // None of its own is sampled, and what its caller says holds.
  assert.equal(await call('/charge/none', {}), '200');
  assert.equal(await call('/charge/untold', untold), '200');
  assert.equal(await call('/charge/told', sampled), '200');
  const about = async (path: string): Promise<Span[]> => {
    const url = `http://zipkin:9411/?about=${encodeURIComponent(path)}`;
    return JSON.parse((await run({ url, headers: untold })).text);
  };
  let spans: Span[] = [];
  await mesh.until('both spans', 60_000, async () => {
    spans = await about('/charge/told');
    return spans.length === 2;
  });
  const client = spans.find((s) => s.kind === 'CLIENT');
  const called = spans.find((s) => s.kind === 'SERVER');
  assert.deepEqual([client?.traceId, called?.traceId], [trace, trace]);
  assert.deepEqual([client?.parentId, called?.parentId], ['00f067aa0ba902b7', client?.id]);
  assert.deepEqual([client?.service, called?.service], ['front.shop', 'pay.shop']);
  const lineOf = (text: string): number => RULES.split('\n').findIndex((l) => l.includes(text)) + 1;
  const decision = (span: Span | undefined, kind: string): string =>
    new Map(span?.decisions).get(`weft.decision.${kind}`) ?? '';
  const is = (text: string, rule: string, line: number): void => {
    assert.ok(
      text.startsWith(`VirtualService/shop/${rule} `) || text.startsWith(`AuthorizationPolicy/shop/${rule} `),
      text,
    );
    assert.ok(text.endsWith(`/rules.yaml:${line}`), text);
  };
  is(decision(client, 'route'), 'pay#spec.http[0]', lineOf('- match'));
  is(decision(client, 'destination'), 'pay#spec.http[0].route[0]', lineOf('route: ['));
  is(decision(called, 'authorization'), 'pay#spec.rules[0]', lineOf('rules: [{from'));
  assert.match(decision(called, 'authentication'), /^PeerAuthentication\/shop\/pay\S* \S+\/rules\.yaml:\d+$/);
  assert.ok(Number(decision(client, 'epoch')) >= 1);

  assert.deepEqual([...(await about('/charge/none')), ...(await about('/charge/untold'))], []);

  mesh.write('settings.yaml', settings(100));
  await mesh.until('all are sampled', 60_000, async () => {
    await call('/charge/own', {});
    return (await about('/charge/own')).length > 0;
  });
  assert.deepEqual(await about('/api/v2/spans'), [], 'what the collector is told is in no span');
});
