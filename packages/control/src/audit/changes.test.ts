import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { ChangeLog } from './changes.ts';
import { JsonLines } from './log.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'weft-audit-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const policy = (name: string, action: string) =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {action: ${action}}\n`;

test('an epoch is a line with who, which files, and which resources at which line', (t) => {
  const dir = folder(t);
  const path = join(dir, 'a.yaml');
  const gone = join(dir, 'gone.yaml');
  writeFileSync(path, 'x');
  const lines = new JsonLines(join(dir, 'audit', 'changes.jsonl'), silentLogger);
  const clock = new VirtualClock(Date.UTC(2026, 0, 1));
  const before = [
    { path, text: `${policy('one', 'ALLOW')}---\n${policy('two', 'ALLOW')}` },
    { path: gone, text: policy('old', 'ALLOW') },
  ];
  const changes = new ChangeLog(lines, clock, before);
  clock.advance(1000);
  // One moves, and has its fields in another order: nothing changed.
  const one =
    'kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nspec: {action: ALLOW}\nmetadata: {namespace: shop, name: one}\n';
  changes.epoch(7, [{ path, text: `# words\n${policy('two', 'DENY')}---\n${one}---\n${policy('new', 'ALLOW')}` }]);
  const problem = { severity: 'error' as const, code: 'WEFT-FIELD', message: 'what', resource: 'X/y', namespace: '' };
  const broken = [{ path, text: 'other' }];
  changes.refused(7, broken, [{ ...problem, file: path, line: 3, field: '' }]);
  const refused = changes.since(0)[1];
  assert.deepEqual(
    [refused.event, refused.epoch, refused.actor.uid, refused.files!.length],
    ['refused', 7, statSync(path).uid, 1],
  );
  assert.deepEqual(refused.problems, [{ code: 'WEFT-FIELD', message: 'what', resource: 'X/y', file: path, line: 3 }]);
  const linkerds = {
    path: gone,
    text: policy('new', 'x').replace('security.istio.io/v1', 'policy.linkerd.io/v1alpha1'),
  };
  const both = new ChangeLog(new JsonLines(join(dir, 'both.jsonl'), silentLogger), clock, []);
  both.epoch(1, [{ path, text: policy('new', 'ALLOW') }, linkerds]);
  assert.equal(both.since(0)[0].resources!.length, 2, 'of one name, in two APIs');
  changes.authority(7, 'ca-revoke', { what: '1a' });
  const [first, , second] = changes.since(0);
  const { uid, user } = first.actor;
  assert.equal(uid, statSync(path).uid);
  if (uid === 0) assert.equal(user, 'root');
  assert.equal(first.at, '2026-01-01T00:00:01.000Z');
  assert.deepEqual(
    first.files!.map((f) => [f.path, f.change, f.owner?.uid]),
    [
      [path, 'changed', uid],
      [gone, 'removed', undefined],
    ],
  );
  assert.deepEqual(first.resources, [
    { change: 'changed', resource: 'AuthorizationPolicy/shop/two', file: path, line: 2 },
    { change: 'added', resource: 'AuthorizationPolicy/shop/new', file: path, line: 12 },
    { change: 'removed', resource: 'AuthorizationPolicy/shop/old', file: gone, line: 1 },
  ]);
  assert.deepEqual([second.event, second.what, second.detail], ['certificate-authority', 'ca-revoke', { what: '1a' }]);
  assert.equal(changes.since(clock.wall() + 1).length, 0);
});

test('the log is bounded: full files are moved on, the oldest goes', (t) => {
  const dir = folder(t);
  const lines = new JsonLines(join(dir, 'x.jsonl'), silentLogger, { bytes: 100, files: 3 });
  for (let i = 0; i < 40; i++) lines.add({ i, text: 'twenty characters...' });
  assert.deepEqual(readdirSync(dir).sort(), ['x.jsonl', 'x.jsonl.1', 'x.jsonl.2']);
  for (const name of readdirSync(dir)) {
    assert.ok(statSync(join(dir, name)).size <= 100);
    assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600);
  }
  const kept = lines.read().map((l) => l.i as number);
  assert.deepEqual(
    kept,
    [...Array(kept.length).keys()].map((i) => 40 - kept.length + i),
  );
  writeFileSync(join(dir, 'x.jsonl'), '{"i":1}\n{"i":');
  assert.equal(lines.read().at(-1)!.i, 1, 'a cut line is left out');
});
