import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replaceValue } from './edit.ts';

const TEXT = `# ours
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec:
  mtls:
    mode: "PERMISSIVE"   # for now
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
spec: { mtls: { mode: PERMISSIVE } }
`;

test('one value is replaced, all else stays as it was', () => {
  const of = (namespace: string, name = 'default') => ({ kind: 'PeerAuthentication', namespace, name });
  const path = ['spec', 'mtls', 'mode'];
  assert.equal(replaceValue(TEXT, of('shop'), path, 'STRICT'), TEXT.replace('"PERMISSIVE"', 'STRICT'));
  assert.equal(replaceValue(TEXT, of('default'), path, 'STRICT'), TEXT.replace('mode: PERMISSIVE }', 'mode: STRICT }'));
  assert.equal(replaceValue(TEXT, of('other'), path, 'STRICT'), undefined);
  assert.equal(replaceValue(TEXT, of('shop', 'x'), path, 'STRICT'), undefined);
  assert.equal(replaceValue(TEXT, of('shop'), ['spec', 'portLevelMtls', '80'], 'STRICT'), undefined);
});
