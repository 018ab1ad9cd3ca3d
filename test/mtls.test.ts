/** The way to STRICT, with real processes: who would break is named before it does, and nothing fails. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { meshOf, needsRoot, peers, type TestMesh } from './harness.ts';

const LEGACY_LABEL = 'labels:\n    app: legacy\n    sidecar.istio.io/inject: "false"\n';

const RULE = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: plain, namespace: shop }
spec: { host: cart, trafficPolicy: { tls: { mode: DISABLE } } }
`;

function services(names: string[]): string {
  return peers(Object.fromEntries(names.map((n) => [n, { v1: 1 }]))).replace(
    'labels:\n    app: legacy\n',
    LEGACY_LABEL,
  );
}

async function start(t: TestContext, names: string[], files: Record<string, string> = {}): Promise<TestMesh> {
  return meshOf(t, 'transparent', {}, { 'services.yaml': services(names), ...files });
}

/** The output of a command that may end with another code than 0. */
function said(mesh: TestMesh, ...args: string[]): { code: number; text: string } {
  try {
    return { code: 0, text: mesh.weft(...args) };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { code: status, text: `${stdout}${stderr}` };
  }
}

test('readiness names who would break, with counts, and who has no proxy', { skip: needsRoot }, async (t) => {
  const m = await start(t, ['cart', 'frontend', 'legacy']);
  const cart = `http://${m.row('cart').address}:8080/x`;
  await m.ask('legacy', '/run', { url: cart, count: 5 });
  await m.ask('frontend', '/run', { url: 'http://cart:8080/x', count: 3 });
  let text = '';
  await m.until('both are counted', 8000, () => {
    const r = said(m, 'mtls', 'readiness', '-n', 'shop');
    text = r.text;
    return r.code === 1 && /shop\/legacy \(no proxy\).*5/.test(text) && /shop\/cart .*\s3 +\d+ +0$/m.test(text);
  });
  assert.match(text, /shop\/legacy: sidecar\.istio\.io\/inject: false/);

  const good = said(m, 'mtls', 'check', '--from', 'frontend', '--to', 'shop/cart');
  assert.deepEqual([good.code, /mTLS works with cart-0/.test(good.text)], [0, true], good.text);
  const bad = said(m, 'mtls', 'check', '--from', 'legacy', '--to', 'cart', '-o', 'json');
  const found = JSON.parse(bad.text).findings.map((f: { code: string }) => f.code);
  assert.deepEqual([bad.code, found], [1, ['source-no-proxy']]);
  m.write('rule.yaml', RULE);
  await m.until('the rule is found', 10_000, () => {
    const r = said(m, 'mtls', 'check', '--from', 'frontend', '--to', 'cart');
    return r.code === 1 && /client-tls-rule: .*DISABLE.*rule\.yaml:\d+/.test(r.text);
  });
  const secret = m.weft('proxy-config', 'secret', 'deploy/cart', '-n', 'shop');
  assert.match(secret, /^RESOURCE NAME +TYPE +STATUS +VALID CERT +SERIAL NUMBER +NOT AFTER +NOT BEFORE/);
  assert.match(secret, /default \(spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart\) +Cert Chain +ACTIVE +true/);
  assert.match(secret, /ROOTCA \(cluster\.local\) +CA +ACTIVE +true/);
});
