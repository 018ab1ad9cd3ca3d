/** The way to STRICT, with real processes: who would break is named before it does, and nothing fails. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { meshOf, needsRoot, peers, request, type TestMesh, weftBin } from './harness.ts';

const LEGACY = { label: 'labels:\n    app: legacy\n', without: '    sidecar.istio.io/inject: "false"\n' };
const LONG = process.env.WEFT_LONG === '1';
const STRICT = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { selector: { matchLabels: { app: cart } }, mtls: { mode: STRICT } }
`;
const RULE = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: plain, namespace: shop }
spec: { host: cart, trafficPolicy: { tls: { mode: DISABLE } } }
`;

/** Who calls is in the namespace `edge`, where the test speaks plaintext to them; `legacy` has no proxy. */
function services(called: string[]): string {
  const of = (names: string[]) => peers(Object.fromEntries(names.map((n) => [n, { v1: 1 }])));
  const edge = of(['frontend', 'legacy'])
    .replaceAll('namespace: shop', 'namespace: edge')
    .replace('name: shop', 'name: edge')
    .replace(LEGACY.label, LEGACY.label + LEGACY.without);
  return `${of(called)}---\n${edge}`;
}

interface Said {
  code: number;
  text: string;
}

/** A command that may end with another code than 0; `heard` is told of what it has said so far. */
function said(mesh: TestMesh, args: string[], heard?: (text: string) => void): Promise<Said> {
  return new Promise((resolve) => {
    let text = '';
    const child = execFile(
      process.execPath,
      [weftBin, ...args, '--mesh', mesh.name],
      { env: mesh.env },
      (error, stdout, stderr) => {
        const code = error ? Number((error as { code?: number }).code ?? 1) : 0;
        resolve({ code, text: `${stdout}${stderr}` });
      },
    );
    child.stdout?.on('data', (d) => {
      text += d;
      heard?.(text);
    });
  });
}

test('the way to STRICT: readiness, check, and a guard that takes all back', { skip: needsRoot }, async (t) => {
  const m = await meshOf(t, 'transparent', {}, { 'services.yaml': services(['cart', 'books']) });
  const rows = new Map(m.ps().map((r) => [r.workload, r.address]));
  const cart = `http://${rows.get('cart')}:8080/x`;
  const from = (workload: string, call: object) => request(rows.get(workload) as string, 8080, '/run', call);

  await t.test('readiness names who would break, with counts; check and secret tell of both sides', async () => {
    m.write('rule.yaml', RULE.replace('cart', 'books'));
    await from('legacy', { url: cart, count: 5 });
    await from('frontend', { url: 'http://cart.shop:8080/x', count: 3 });
    let r: Said = { code: 0, text: '' };
    await m.until('both are counted', 60_000, async () => {
      r = await said(m, ['mtls', 'readiness', '-n', 'shop']);
      return (
        /edge\/legacy \(no proxy\) +shop\/cart:8080 +would break +5/.test(r.text) &&
        /shop\/cart .*\s3 +5 +0$/m.test(r.text)
      );
    });
    assert.equal(r.code, 1);
    const [good, bad, secret, ruled] = await Promise.all([
      said(m, ['mtls', 'check', '--from', 'frontend', '--to', 'shop/cart']),
      said(m, ['mtls', 'check', '--from', 'legacy', '--to', 'cart', '-o', 'json']),
      said(m, ['proxy-config', 'secret', 'deploy/cart', '-n', 'shop']),
      said(m, ['mtls', 'check', '--from', 'frontend', '--to', 'books']),
    ]);
    assert.deepEqual([good.code, /mTLS works with cart-0/.test(good.text)], [0, true], good.text);
    const found = JSON.parse(bad.text).findings.map((f: { code: string }) => f.code);
    assert.deepEqual([bad.code, found], [1, ['source-no-proxy']]);
    assert.match(secret.text, /^RESOURCE NAME +TYPE +STATUS +VALID CERT +SERIAL NUMBER +NOT AFTER +NOT BEFORE/);
    assert.match(secret.text, /default \(spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart\) +Cert Chain +ACTIVE +true/);
    assert.match(secret.text, /ROOTCA \(cluster\.local\) +CA +ACTIVE +true/);
    assert.match(ruled.text, /client-tls-rule: .*DISABLE.*rule\.yaml:\d+/);
    m.write('rule.yaml', '');
  });

  await t.test(
    'strict --guard: a caller that comes in the middle is named, all is as before, nothing failed',
    async (t) => {
      t.after(() =>
        Promise.all(
          ['frontend', 'legacy'].map(async (w) => request(rows.get(w) as string, 8080, '/set', { stop: true })),
        ),
      );
      const load = from('frontend', { url: 'http://cart.shop:8080/y', rate: 40, count: 100_000 });
      let late: ReturnType<typeof from> | undefined;
      // Books is called by nobody and is the first, by its name too where no call is counted yet; cart's turn would come next.
      const run = await said(m, ['mtls', 'strict', 'shop', '--guard', '--watch', '2s', '--since', '1s'], (text) => {
        if (late === undefined && text.includes('4/5')) late = from('legacy', { url: cart, rate: 20, count: 100_000 });
      });
      assert.equal(run.code, 1, run.text);
      assert.match(
        run.text,
        /3\/5 STRICT for shop\/books .*stopped: edge\/legacy \(no proxy\) would break at shop\/cart:8080/s,
      );
      assert.match(run.text, /reverted .*strict-shop\.yaml: every mode is as it was/);
      assert.ok(!existsSync(join(m.folder, 'strict-shop.yaml')));
      for (const w of ['frontend', 'legacy']) await request(rows.get(w) as string, 8080, '/set', { stop: true });
      const results = [(await load).json, (await late)?.json];
      for (const r of results) assert.deepEqual(Object.keys(r.statuses), ['200'], JSON.stringify(r.statuses));
      assert.ok(results[0].sent > 40, JSON.stringify(results[0]));
    },
  );

  await t.test('leave and join under load: nothing fails, no rule is left; STRICT is said before', async (t) => {
    const stop = () => request(rows.get('frontend') as string, 8080, '/set', { stop: true });
    t.after(stop);
    const through = {
      method: 'POST',
      url: 'http://books.shop:8080/run',
      body: JSON.stringify({ url: 'http://cart.shop:8080/z' }),
    };
    const refusedByStrict = async () => {
      await from('frontend', through);
      m.write('strict.yaml', STRICT);
      let refused: Said = { code: 0, text: '' };
      await m.until('who calls a STRICT one is named', 60_000, async () => {
        refused = await said(m, ['leave', 'books']);
        return /shop\/books calls shop\/cart, which is STRICT and would refuse it: \d+ calls? seen/.test(refused.text);
      });
      assert.match(refused.text, /nothing was changed/);
      assert.equal(refused.code, 1);
      m.write('strict.yaml', '');
      await m.until('all is PERMISSIVE again', 60_000, async () => {
        const { workloads } = JSON.parse((await said(m, ['mtls', 'readiness', '-n', 'shop', '-o', 'json'])).text);
        return workloads.every((w: { ports: { mode: string }[] }) => w.ports.every((p) => p.mode === 'PERMISSIVE'));
      });
    };
    // The short form leaves this to the unit tests of what is said.
    if (LONG) await refusedByStrict();
    const load = [from('frontend', { url: 'http://cart.shop:8080/y', rate: 30, count: 100_000 })];
    if (LONG) load.push(from('frontend', { ...through, rate: 5, count: 100_000 }));
    const who = LONG ? ['--all', '-n', 'shop'] : ['cart'];
    const left = await said(m, ['leave', ...who]);
    assert.equal(left.code, 0, left.text);
    const gone = m.ps().filter((r) => r.namespace === 'shop' && (LONG || r.workload === 'cart'));
    assert.equal(gone.length, LONG ? 2 : 1);
    for (const r of gone) {
      assert.equal(r.injected, false, r.name);
      assert.equal(execFileSync('ip', ['netns', 'exec', r.netns as string, 'nft', 'list', 'ruleset']).toString(), '');
    }
    if (LONG) await new Promise((resolve) => setTimeout(resolve, 2000));
    const back = await said(m, ['join', ...who]);
    assert.equal(back.code, 0, back.text);
    assert.ok(m.ps().every((r) => r.injected || r.workload === 'legacy'));
    await stop();
    for (const r of (await Promise.all(load)).map((l) => l.json)) {
      assert.deepEqual(Object.keys(r.statuses), ['200'], JSON.stringify(r));
      assert.deepEqual(
        Object.keys(r.nested).filter((key) => key !== '200'),
        [],
        JSON.stringify(r),
      );
      assert.ok(r.sent > 0);
    }
  });
});
