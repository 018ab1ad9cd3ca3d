import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileAuthorization as compiled, decideAuthorization } from '@weft/engine';
import { compileAuthorization, RefTable } from '@weft/model';
import { loadFiles } from './index.ts';

const SETTINGS = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "trustDomainAliases: [old.example, older.example]"}
---
`;
const policy = (action: string, from: string): string => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {action: ${action}, rules: [${from}]}
`;

test('the names of a trust domain mean the same in policies, those of others mean themselves', () => {
  const allows = (text: string, principal: string): boolean => {
    const { model, problems } = loadFiles([{ path: 'a.yaml', text: SETTINGS + text }]);
    assert.deepEqual(problems, []);
    const workload = { namespace: 'shop', labels: {} };
    const plan = compiled([compileAuthorization(model!, workload, new RefTable(model!), undefined, 'new.example')]);
    const at = { remoteIp: '10.0.0.1', localIp: '10.0.0.2', destPort: 80 };
    return decideAuthorization(plan, { ...at, principal: `spiffe://${principal}` }).allow;
  };
  const id = (domain: string, account = 'cart'): string => `${domain}/ns/shop/sa/${account}`;
  for (const written of ['old.example', 'older.example', 'new.example']) {
    for (const text of [
      policy('ALLOW', `{from: [{source: {principals: ["${id(written)}"]}}]}`),
      policy('ALLOW', `{when: [{key: source.principal, values: ["${id(written)}"]}]}`),
      policy('DENY', `{from: [{source: {notPrincipals: ["${id(written)}"]}}]}`),
    ]) {
      for (const domain of ['old.example', 'older.example', 'new.example']) {
        assert.equal(allows(text, id(domain)), true, `${text} ${domain}`);
        assert.equal(allows(text, id(domain, 'other')), false, `${text} ${domain}`);
      }
      assert.equal(allows(text, id('foreign.example')), false, text);
    }
  }
  const domains = policy('ALLOW', '{from: [{source: {trustDomains: [old.example]}}]}');
  assert.equal(allows(domains, id('new.example')), true);
  assert.equal(allows(domains, id('foreign.example')), false);
  const foreign = policy('ALLOW', `{from: [{source: {principals: ["${id('foreign.example')}", "old.example/*"]}}]}`);
  assert.equal(allows(foreign, id('foreign.example')), true);
  assert.equal(allows(foreign, id('new.example')), true);
  assert.equal(allows(foreign, id('other.example')), false);
});
