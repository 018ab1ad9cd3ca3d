/** WorkloadGroup: what joins by it, and what is wrong with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { analyzeFiles, loadFiles } from './index.ts';

const service = `apiVersion: v1
kind: Service
metadata: { name: pay, namespace: shop }
spec: { selector: { app: pay }, ports: [{ name: http, port: 80, targetPort: http }] }
`;
const group = (spec: string, name = 'pay-vm', api = 'networking.istio.io/v1') =>
  `---\napiVersion: ${api}\nkind: WorkloadGroup\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n`;

function only(text: string) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text }]);
  assert.ok(model, JSON.stringify(problems, null, 1));
  return model.workloadGroups[0];
}

test('a group provides a service that no Process does; all versions of the API', () => {
  for (const api of ['v1', 'v1beta1', 'v1alpha3']) {
    const g = only(
      service + group('{ metadata: { labels: { app: pay } }, template: {} }', 'g', `networking.istio.io/${api}`),
    );
    assert.deepEqual([g.members, g.serviceAccount, g.ports.size, g.probe], [{ app: 'pay' }, 'default', 0, undefined]);
  }
});

test('all fields, and the defaults of probes', () => {
  const g = only(
    service +
      group(`
  metadata: { labels: { app: other, tier: back } }
  template:
    labels: { app: pay }
    ports: { http: 8080, grpc: 9090 }
    serviceAccount: pay
    locality: eu/a/b
  probe:
    httpGet: { path: /ready, port: 8080, host: 127.0.0.1, scheme: HTTPS, httpHeaders: [{ name: X-Why, value: probe }] }`),
  );
  assert.deepEqual(g.members, { 'istio-locality': 'eu.a.b', app: 'pay', tier: 'back' });
  assert.deepEqual(
    [g.serviceAccount, [...g.ports]],
    [
      'pay',
      [
        ['http', 8080],
        ['grpc', 9090],
      ],
    ],
  );
  assert.deepEqual(g.probe, {
    action: { type: 'http', path: '/ready', port: 8080, https: true, headers: [{ name: 'X-Why', value: 'probe' }] },
    ...{ initialDelayMs: 0, periodMs: 10_000, timeoutMs: 1000, successThreshold: 1, failureThreshold: 3 },
  });
  const probe = (text: string) => only(group(`{ template: { labels: { a: b } }, probe: ${text} }`)).probe;
  assert.deepEqual(probe('{ grpc: { port: 9, service: s }, periodSeconds: 2 }')?.action, {
    type: 'grpc',
    port: 9,
    service: 's',
  });
  assert.deepEqual(probe('{ tcpSocket: { port: 9 }, timeoutSeconds: 5 }')?.timeoutMs, 5000);
  assert.deepEqual(probe('{ exec: { command: [run, x] } }')?.action, { type: 'exec', command: ['run', 'x'] });
});

test('mistakes have a place; two groups with the same labels', () => {
  const wrong: [string, RegExp][] = [
    ['{}', /template/],
    ['{ template: { address: 1.2.3.4 } }', /address/],
    ['{ template: { network: n } }', /network/],
    ['{ template: { ports: { http: 0 } } }', /ports/],
    ['{ template: { locality: a/b/c/d } }', /region\/zone\/subzone/],
    ['{ template: {}, probe: {} }', /needs one of httpGet/],
    ['{ template: {}, probe: { httpGet: { port: 1 }, tcpSocket: { port: 1 } } }', /httpGet/],
    ['{ template: {}, probe: { httpGet: { port: http } } }', /port/],
    ['{ template: {}, probe: { tcpSocket: { port: 1, host: 10.0.0.1 } } }', /itself/],
    ['{ template: {}, probes: {} }', /probes/],
  ];
  for (const [spec, pattern] of wrong) {
    const { model, problems } = loadFiles([{ path: 'a.yaml', text: group(spec) }]);
    assert.equal(model, undefined, spec);
    assert.match(problems.map((p) => `${p.field} ${p.message}`).join('\n'), pattern, spec);
    assert.ok(problems.every((p) => p.line >= 2));
  }
  const twice = ['a', 'b'].map((n) => group('{ template: { labels: { app: pay } } }', n)).join('');
  const found = analyzeFiles([{ path: 'a.yaml', text: service + twice }]);
  const codes = (Array.isArray(found) ? found : []).map((f) => `${f.code} ${f.resource}`);
  assert.ok(codes.includes('KIA1702 WorkloadGroup/b'), codes.join());
});
