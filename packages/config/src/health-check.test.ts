/** HealthCheck from YAML to the clusters of a client's plan, and on to what `weft explain` says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance } from '@weft/model';
import { loadFiles } from './index.ts';

const base = `apiVersion: v1
kind: Service
metadata: { name: pay, namespace: shop }
spec:
  selector: { app: pay }
  ports: [{ name: http, port: 80 }, { name: tcp-db, port: 81 }, { name: grpc, port: 82 }]
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: pay, namespace: shop, labels: { app: pay } }
spec: { command: [run], ports: [{ containerPort: 80 }, { containerPort: 81 }, { containerPort: 82 }] }
`;
const check = (spec: string, name = 'pay', namespace = 'shop') =>
  `---\napiVersion: weft.dev/v1alpha1\nkind: HealthCheck\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`;

function checks(text: string, namespace = 'shop') {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: base + text }]);
  assert.ok(model, JSON.stringify(problems, null, 1));
  const client: Instance = {
    ...{ name: 'web-0', workload: 'web', namespace, serviceAccount: 'web', labels: {} },
    ...{ address: '10.0.0.9', dialAddress: '10.0.0.9', injected: true, ready: true, draining: false, ports: [] },
  };
  const runtime = {
    ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' as const },
    ...{ instances: [client], vips: new Map() },
  };
  const { parts } = compile(model, runtime, client);
  return [80, 81, 82].map((port) => {
    const kind = parts.get(`cluster/outbound|${port}||pay.shop.svc.cluster.local`)?.kind;
    assert.ok(kind?.case === 'cluster');
    return kind.value.healthCheck;
  });
}

test('defaults; each port is asked by a check that it can answer', () => {
  const [http, tcp, grpc] = checks(check('{ host: pay, http: {} }') + check('{ host: pay, tcp: {} }', 'db'));
  assert.deepEqual(
    [http?.ref, http?.intervalMs, http?.timeoutMs, http?.unhealthyThreshold, http?.healthyThreshold],
    ['HealthCheck/shop/pay#spec', 60_000, 15_000, 5, 1],
  );
  assert.deepEqual([http?.jitterPercent, http?.panicPercent], [10, 0]);
  assert.ok(http?.check.case === 'http');
  assert.deepEqual([http.check.value.path, http.check.value.statuses], ['/', [200]]);
  assert.deepEqual([tcp?.check.case, tcp?.ref, grpc?.ref], ['tcp', 'HealthCheck/shop/db#spec', http.ref]);
});

test('all fields; the port that is named goes first, and the client’s namespace before the service’s', () => {
  const all = `{ host: pay.shop.svc.cluster.local, port: 82, interval: 5s, timeout: 1s, unhealthyThreshold: 2, healthyThreshold: 3,
    intervalJitterPercent: 0, healthyPanicThreshold: 40, grpc: { serviceName: shop.Pay, authority: pay } }`;
  const text =
    check('{ host: pay, http: { path: /a, expectedStatuses: [204], headers: { X-Why: check } } }') + check(all, 'rpc');
  const [http, tcp, grpc] = checks(text);
  assert.ok(http?.check.case === 'http');
  assert.deepEqual([http.check.value.statuses, http.check.value.headers[0].name], [[204], 'x-why']);
  assert.equal(tcp, undefined);
  assert.ok(grpc?.check.case === 'grpc');
  assert.deepEqual(
    [grpc.intervalMs, grpc.timeoutMs, grpc.unhealthyThreshold, grpc.healthyThreshold, grpc.jitterPercent],
    [5000, 1000, 2, 3, 0],
  );
  assert.deepEqual([grpc.panicPercent, grpc.check.value.service, grpc.check.value.authority], [40, 'shop.Pay', 'pay']);
  const [own, , other] = checks(text + check('{ host: pay.shop.svc.cluster.local, http: {} }', 'mine', 'ops'), 'ops');
  assert.deepEqual([own?.ref, other?.ref], ['HealthCheck/ops/mine#spec', 'HealthCheck/ops/mine#spec']);
});

test('mistakes have a place', () => {
  const wrong: [string, RegExp][] = [
    ['{ host: nobody, http: {} }', /there is no service nobody/],
    ['{ host: pay, port: 99, http: {} }', /has no port 99/],
    ['{ host: pay, port: 81, http: {} }', /not those declared tcp or tls/],
    ['{ host: pay, port: 80, tcp: {} }', /declared opaque/],
    ['{ host: pay }', /spec says nothing to ask/],
    ['{ host: pay, http: {}, tcp: {} }', /http.*tcp/],
    ['{ host: pay, interval: 10ms, http: {} }', /interval/],
    ['{ host: pay, http: { path: healthz } }', /begins with "\/"/],
    ['{ host: pay, tcp: { send: aGk= } }', /send/],
  ];
  for (const [spec, pattern] of wrong) {
    const { problems } = loadFiles([{ path: 'a.yaml', text: base + check(spec) }]);
    const errors = problems.filter((p) => p.severity === 'error');
    assert.ok(errors.length > 0 && errors.every((p) => p.line > 12), `${spec}: ${JSON.stringify(problems)}`);
    assert.match(errors.map((p) => `${p.field} ${p.message}`).join('\n'), pattern, spec);
  }
});
