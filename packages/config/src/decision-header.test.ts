import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, type Instance } from '@weft/model';
import { loadFiles } from './load.ts';

const header = (namespace: string, ...callers: string[]): string => `---
apiVersion: weft.dev/v1alpha1
kind: DecisionHeader
metadata: { name: debug, namespace: ${namespace} }
spec:
  callers: ${JSON.stringify(callers)}
`;

/** What the proxies of shop/payment and shop/cart, and a gateway with cart's identity, are told. */
function told(text: string) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text }]);
  assert.deepEqual(problems, []);
  const instance = (name: string, gateway = false): Instance => ({
    ...{ name: `${name}-0`, workload: name, namespace: 'shop', serviceAccount: name, labels: {}, address: '10.0.0.1' },
    ...{ ports: [], injected: true, gateway, ready: true, draining: false, dialAddress: '10.0.0.1' },
  });
  const instances = [instance('payment'), instance('cart'), { ...instance('cart', true), name: 'gate-0' }];
  const common = { mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', vips: new Map() };
  return instances.map((i) => {
    const self = compile(model!, { ...common, capture: 'explicit', instances }, i).parts.get('self')!.kind;
    assert.equal(self.case, 'self');
    const { decisionCallers, decisionNamespaces } = self.value as Exclude<typeof self.value, undefined> & {
      decisionCallers: string[];
      decisionNamespaces: string[];
    };
    return [decisionCallers, decisionNamespaces];
  });
}

test('of its namespace, or in the root namespace of the mesh; a gateway is never told', () => {
  const cart = 'cluster.local/ns/shop/sa/cart';
  assert.deepEqual(told(header('shop', cart)), [
    [[cart], []],
    [[cart], ['shop']],
    [[], []],
  ]);
  assert.deepEqual(told(header('istio-system', cart)), [
    [[cart], []],
    [[cart], ['*']],
    [[], []],
  ]);
  assert.deepEqual(told(header('other', 'cluster.local/ns/shop/*')), [
    [[], ['other']],
    [[], ['other']],
    [[], []],
  ]);
});

test('callers are principals, with their line where they are not', () => {
  const bad = ['spiffe://cluster.local/ns/a/sa/b', 'cart', 'cluster.local/ns/*/sa/x', ''];
  for (const caller of bad) {
    const { problems } = loadFiles([{ path: 'a.yaml', text: header('shop', '*', caller) }]);
    assert.deepEqual(
      problems.map((p) => [p.line, p.field]),
      [[6, 'spec.callers[1]']],
      caller,
    );
  }
  assert.match(loadFiles([{ path: 'a.yaml', text: header('shop') }]).problems[0]!.message, /at least 1/);
});
