/** Clients of one class share a plan: two that some rule tells apart by a label are never of one class. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientClass, type Instance, type MeshRuntime } from '@weft/model';
import { loadFiles } from './index.ts';

const service = `apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}, {name: tcp, port: 81}, {name: tls, port: 443}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {command: [run], ports: [{containerPort: 80}, {containerPort: 81}, {containerPort: 443}]}
---
apiVersion: networking.istio.io/v1
`;
const to = (port: number): string => `route: [{destination: {host: cart, port: {number: ${port}}}}]`;
const virtual = (spec: string): string =>
  `kind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec: {hosts: [cart], ${spec}}\n`;

function classes(rule: string): string[] {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: service + rule }]);
  assert.ok(model, JSON.stringify(problems));
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: 'cluster.local',
    domain: 'cluster.local',
    capture: 'transparent',
    instances: [],
    vips: new Map(),
  };
  return ['a', 'b'].map((tier) => {
    const client: Instance = {
      name: `web-${tier}`,
      workload: 'web',
      namespace: 'shop',
      serviceAccount: 'web',
      labels: { tier, other: tier },
      address: '10.0.0.9',
      dialAddress: '10.0.0.9',
      ports: [],
      injected: true,
      ready: true,
      draining: false,
    };
    return clientClass(model, runtime, client);
  });
}

test('labels that no rule asks for do not part clients; those that one asks for do', () => {
  const [one, two] = classes(virtual(`http: [{${to(80)}}]`));
  assert.equal(one, two);
  for (const rule of [
    virtual(`http: [{match: [{sourceLabels: {tier: a}}], ${to(80)}}]`),
    virtual(`tcp: [{match: [{port: 81, sourceLabels: {tier: a}}], ${to(81)}}]`),
    virtual(`tls: [{match: [{port: 443, sniHosts: [cart], sourceLabels: {tier: a}}], ${to(443)}}]`),
    'kind: DestinationRule\nmetadata: {name: c, namespace: shop}\nspec: {host: cart, workloadSelector: {matchLabels: {tier: a}}}\n',
    'kind: Sidecar\nmetadata: {name: s, namespace: shop}\nspec: {workloadSelector: {labels: {tier: a}}, egress: [{hosts: ["./*"]}]}\n',
  ]) {
    const [a, b] = classes(rule);
    assert.notEqual(a, b, rule);
  }
});
