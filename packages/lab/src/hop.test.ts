/** The way out through a gateway of the mesh, explained: both proxies' rules, and the caller's identity in between. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explain } from './explain.ts';
import { meshFromFiles } from './mesh.ts';
import type { Question } from './types.ts';

const client = (name: string): string => `
apiVersion: v1
kind: ServiceAccount
metadata: { name: ${name}, namespace: shop }
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { command: [x], serviceAccountName: ${name}, ports: [{ name: http, containerPort: 8080 }] }
---`;

const MESH = `${client('good')}${client('bad')}
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: { name: egress, namespace: edge, labels: { istio: egress } }
spec: { gateway: {} }
---
apiVersion: v1
kind: Service
metadata: { name: egress, namespace: edge }
spec:
  selector: { istio: egress }
  ports: [{ name: http, port: 80, targetPort: 8080 }, { name: tls, port: 443, targetPort: 8443 }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: out, namespace: edge }
spec:
  hosts: [out.test]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }, { number: 443, name: tls, protocol: TLS }]
  endpoints: [{ address: 192.0.2.9 }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: out, namespace: edge }
spec:
  host: out.test
  trafficPolicy: { tunnel: { targetHost: far.test, targetPort: 9 } }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: egress, namespace: edge }
spec:
  selector: { istio: egress }
  servers:
    - { port: { number: 80, name: mesh, protocol: HTTPS }, hosts: [out.test], tls: { mode: ISTIO_MUTUAL } }
    - { port: { number: 443, name: tls, protocol: TLS }, hosts: [out.test], tls: { mode: PASSTHROUGH } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: out, namespace: edge }
spec:
  hosts: [out.test]
  gateways: [mesh, egress]
  http:
    - match: [{ gateways: [mesh] }]
      route: [{ destination: { host: egress.edge.svc.cluster.local, port: { number: 80 } } }]
    - match: [{ gateways: [egress] }]
      fault: { abort: { httpStatus: 418, percentage: { value: 25 } } }
      route: [{ destination: { host: out.test, port: { number: 80 } } }]
  tls:
    - match: [{ gateways: [mesh], sniHosts: [out.test] }]
      route: [{ destination: { host: egress.edge.svc.cluster.local, port: { number: 443 } } }]
    - match: [{ gateways: [egress], sniHosts: [out.test] }]
      route: [{ destination: { host: out.test, port: { number: 443 } } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: who, namespace: edge }
spec:
  selector: { matchLabels: { istio: egress } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/good] } }] }]
`;

const mesh = meshFromFiles([{ path: 'mesh.yaml', text: MESH }]);
const ask = (q: Partial<Question>) => explain(mesh, { from: 'shop/good', to: 'out.test:80', ...q });

test('a request goes on by the gateway’s own rules, whose draws multiply', () => {
  const { outcomes, steps } = ask({});
  assert.deepEqual(
    outcomes.map((o) => [o.probability, o.status, o.endpoint.replace(/ \([^)]*\)/g, '')]),
    [
      [0.75, 'application', 'egress-0, then out/192.0.2.9'],
      [0.25, 418, 'egress-0'],
    ],
  );
  const between = steps.filter((s) => s.side === 'gateway').map((s) => s.kind);
  assert.deepEqual(between.slice(0, 2), ['service', 'authorize']);
  assert.ok(between.includes('endpoint') && between.includes('fault'));
  const decided = outcomes[0].from.map((r) => `${r.resource} ${r.field}`);
  for (const rule of ['spec.http[0]', 'spec.http[1]'])
    assert.ok(decided.includes(`VirtualService/edge/out ${rule}`), decided.join());
  assert.ok(decided.includes('AuthorizationPolicy/edge/who spec.rules[0]'));
});

test('who may not go out is told by whom, in requests and in connections', () => {
  assert.deepEqual(
    ask({ from: 'shop/bad' }).outcomes.map((o) => [o.status, o.details]),
    [[403, 'rbac_access_denied_matched_policy[none]']],
  );
  const refused = ask({ from: 'shop/bad', to: 'out.test:443', sni: 'out.test' });
  assert.deepEqual(
    refused.outcomes.map((o) => [o.status, o.details]),
    [['closed', 'rbac_access_denied_matched_policy[none]']],
  );
});

test('TLS passes by name, here through a forward proxy', () => {
  const { outcomes, steps } = ask({ to: 'out.test:443', sni: 'out.test' });
  assert.deepEqual(
    outcomes.map((o) => [o.status, o.endpoint.includes('then out/192.0.2.9')]),
    [['connected', true]],
  );
  const tunnel = steps.find((s) => s.decision === 'CONNECT to far.test:9');
  assert.deepEqual([tunnel?.side, tunnel?.reference?.field], ['gateway', 'spec.trafficPolicy.tunnel']);
});
