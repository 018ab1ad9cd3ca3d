/** The way to STRICT, with real processes: who would break is named before it does, and nothing fails. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { meshOf, needsRoot, peers, type TestMesh } from './harness.ts';

const LEGACY_LABEL = 'labels:\n    app: legacy\n    sidecar.istio.io/inject: "false"\n';

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
});
