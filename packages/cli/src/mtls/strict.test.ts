import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadFiles } from '@weft/config';
import type { MtlsCaller, MtlsState, MtlsWorkload } from '@weft/control';
import { mtlsFor } from '@weft/model';
import { policyFiles } from './policies.ts';
import { makeStrict } from './strict.ts';

const OWN = `# the team's
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: PERMISSIVE } } # until all have a proxy
`;

/** A namespace whose modes are those that the files in the folder say; callers come by a script. */
function stage(t: TestContext, names: string[], files: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-strict-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const said: string[] = [];
  let now = Date.UTC(2026, 0, 1);
  const began = now;
  let epoch = 1;
  let last = '';
  const callers: { atMs: number; workload: string; caller: Partial<MtlsCaller> }[] = [];
  const direct: { atMs: number; workload: string }[] = [];
  const read = () =>
    readdirSync(folder).map((f) => ({ path: join(folder, f), text: readFileSync(join(folder, f), 'utf8') }));
  let model = loadFiles([]).model!;
  const mode = (name: string) => {
    model = loadFiles(read()).model ?? model;
    const { mode, policy } = mtlsFor(model, { namespace: 'shop', labels: { app: name } }, 8080);
    const level = !policy ? '' : policy.selector ? 'workload' : 'namespace';
    const where = policy ? `${policy.source.file}:${policy.source.line}` : '';
    return { port: 8080, mode, policy: policy ? `shop/${policy.name}` : '', where, level };
  };
  const modes = () => names.map((n) => mode(n).mode).join(' ');
  const seenModes: string[] = [];
  const state = async (): Promise<MtlsState> => ({
    sinceMs: 0,
    dropped: 0,
    workloads: names.map(
      (name, i): MtlsWorkload => ({
        ...{ namespace: 'shop', workload: name, instances: 1, injected: name !== 'bare', reason: 'its label says so' },
        ...{ labels: { app: name }, ports: [mode(name)] },
        verified: [{ principal: 'p', requests: 10 * (names.length - i), lastMs: now }],
        plaintext: callers
          .filter((c) => c.workload === name && now >= c.atMs)
          .map(({ atMs, caller }) => ({
            ...{ source: 'old/legacy', address: '10.0.0.9', injected: false, port: 8080, requests: 1, refused: 0 },
            ...{ firstMs: atMs, lastMs: atMs, lastRefusedMs: 0 },
            ...caller,
          })),
      }),
    ),
  });
  const run = (more: { allowNoProxy?: boolean; stopAt?: number } = {}) =>
    makeStrict(
      { namespace: 'shop', watchMs: 5000, historyMs: 60_000, allowNoProxy: more.allowNoProxy ?? false },
      {
        policies: policyFiles('shop', join(folder, 'strict-shop.yaml')),
        state,
        callers: async (w, sinceMs) =>
          direct
            .filter((c) => c.workload === w.workload && now >= c.atMs && c.atMs >= sinceMs)
            .map(() => ({ caller: '10.0.0.7', port: 8080, requests: 2 })),
        applied: async () => {
          const text = JSON.stringify(read());
          if (text !== last) {
            if (last !== '') epoch++;
            last = text;
            if (seenModes.at(-1) !== modes()) seenModes.push(modes());
          }
          const { problems } = loadFiles(read());
          return { epoch, synced: true, refused: problems.find((p) => p.severity === 'error')?.message ?? '' };
        },
        now: () => now,
        wait: async (ms) => {
          now += ms;
        },
        say: (line) => said.push(line),
        stopped: () => more.stopAt !== undefined && now >= began + more.stopAt,
      },
    );
  return { folder, said, callers, direct, run, modes, seenModes, began };
}

test('nobody without mTLS: workload by workload, the least called first, then the namespace', async (t) => {
  const s = stage(t, ['busy', 'idle']);
  assert.equal(await s.run(), true);
  assert.deepEqual(s.seenModes, ['PERMISSIVE PERMISSIVE', 'PERMISSIVE STRICT', 'STRICT STRICT']);
  const text = readFileSync(join(s.folder, 'strict-shop.yaml'), 'utf8');
  assert.equal(text.match(/kind:/g)?.length, 1, text);
  assert.doesNotMatch(text, /selector/);
  assert.match(s.said.join('\n'), /1\/5.*2\/5.*3\/5.*STRICT for shop\/idle.*4\/5.*STRICT for shop\/busy.*5\/5/s);
});

test("the namespace's own policy is changed in its place, and nothing else of the file", async (t) => {
  const s = stage(t, ['a'], { 'team.yaml': OWN });
  assert.equal(await s.run(), true);
  assert.equal(readFileSync(join(s.folder, 'team.yaml'), 'utf8'), OWN.replace('PERMISSIVE', 'STRICT'));
  assert.ok(!existsSync(join(s.folder, 'strict-shop.yaml')));
  assert.equal(s.modes(), 'STRICT');
});

test('a caller that was seen: nothing is changed at all', async (t) => {
  const s = stage(t, ['a', 'b']);
  s.callers.push({ atMs: s.began - 30_000, workload: 'b', caller: {} });
  assert.equal(await s.run(), false);
  assert.deepEqual(readdirSync(s.folder), []);
  assert.match(s.said.join('\n'), /stopped: old\/legacy \(no proxy\) would break at shop\/b:8080: 1 call without mTLS/);
  assert.match(s.said.at(-1)!, /nothing was changed/);
});

test('a caller that comes in the middle is named before it is refused, and everything is as before', async (t) => {
  const s = stage(t, ['a', 'b', 'c'], { 'team.yaml': OWN });
  s.callers.push({ atMs: s.began + 10_000, workload: 'a', caller: {} });
  assert.equal(await s.run(), false);
  assert.equal(s.seenModes.at(-1), 'PERMISSIVE PERMISSIVE PERMISSIVE');
  assert.ok(s.seenModes.includes('PERMISSIVE PERMISSIVE STRICT'), 'c was STRICT');
  assert.ok(!s.seenModes.some((m) => m.startsWith('STRICT')), 'a never was');
  assert.deepEqual(readdirSync(s.folder), ['team.yaml']);
  assert.equal(readFileSync(join(s.folder, 'team.yaml'), 'utf8'), OWN);
  assert.match(s.said.join('\n'), /old\/legacy.*reverted .*strict-shop\.yaml: every mode is as it was/s);
});

test('a caller that is refused ends it; so do a stop, files that are refused, and a workload without a proxy', async (t) => {
  const refused = stage(t, ['a']);
  const atMs = refused.began + 8000;
  refused.callers.push({ atMs, workload: 'a', caller: { requests: 0, refused: 1, lastRefusedMs: atMs } });
  assert.equal(await refused.run(), false);
  assert.match(refused.said.join('\n'), /was refused at shop\/a:8080/);
  assert.equal(refused.modes(), 'PERMISSIVE');

  const stopped = stage(t, ['a', 'b']);
  assert.equal(await stopped.run({ stopAt: 9000 }), false);
  assert.deepEqual([stopped.modes(), readdirSync(stopped.folder)], ['PERMISSIVE PERMISSIVE', []]);

  const taken = stage(t, ['a'], {
    'own.yaml': OWN.replace('name: default', 'name: strict-a').replace(
      'spec: {',
      'spec: { selector: { matchLabels: { app: z } },',
    ),
  });
  assert.equal(await taken.run(), false);
  assert.match(taken.said.join('\n'), /the files are refused: .*strict-a/);
  assert.deepEqual(readdirSync(taken.folder), ['own.yaml']);

  const bare = stage(t, ['a', 'bare']);
  assert.equal(await bare.run(), false);
  assert.match(bare.said.join('\n'), /step 2 is not done: no proxy has shop\/bare \(its label says so\)/);
  assert.equal(await bare.run({ allowNoProxy: true }), true);
});

test('what has a policy of its own keeps it', async (t) => {
  const own = OWN.replace('name: default', 'name: mine').replace(
    'spec: {',
    'spec: { selector: { matchLabels: { app: b } },',
  );
  const s = stage(t, ['a', 'b'], { 'own.yaml': own });
  s.callers.push({ atMs: s.began, workload: 'b', caller: {} });
  assert.equal(await s.run(), true);
  assert.equal(s.modes(), 'STRICT PERMISSIVE');
  assert.match(s.said.join('\n'), /shop\/b keeps its own policy: PERMISSIVE by shop\/mine/);
});

test('a caller that only the proxy itself knows of yet', async (t) => {
  const s = stage(t, ['a']);
  s.direct.push({ atMs: s.began + 1000, workload: 'a' });
  assert.equal(await s.run(), false);
  assert.match(s.said.join('\n'), /10\.0\.0\.7 would break at shop\/a:8080: 2 calls without mTLS/);
  assert.deepEqual([readdirSync(s.folder), s.seenModes.at(-1)], [[], 'PERMISSIVE']);
});
