import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '@weft/base';
import type { Instance } from '@weft/model';
import { State } from './state.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'weft-state-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const instance = (name: string, ready: boolean): Instance =>
  ({ name, workload: name, namespace: 'shop', serviceAccount: name, labels: {}, ready }) as unknown as Instance;
const token = (name: string) => ({ instance: name, identity: `spiffe://x/${name}`, expiresMs: 9e15 });

/** All of it, as a control plane that starts anew in the folder finds it. */
const found = (dir: string) => {
  const s = new State(dir, silentLogger);
  return { epoch: s.epoch, at: s.epochAtMs, files: s.files, instances: [...s.instances], tokens: [...s.tokens] };
};
const of = (s: State) => ({
  ...{ epoch: s.epoch, at: s.epochAtMs, files: s.files },
  ...{ instances: [...s.instances], tokens: [...s.tokens] },
});

function changed(dir: string): State {
  const state = new State(dir, silentLogger);
  const a = { path: 'a.yaml', text: 'a' };
  state.nextEpoch([a, { path: 'b.yaml', text: 'b' }], 5);
  state.putInstance(instance('cart-0', false));
  state.putInstance(instance('cart-1', true));
  state.setToken('h1', token('cart-0'));
  state.setToken('h2', token('cart-1'), true);
  state.putInstance(instance('cart-0', true));
  state.deleteInstance('cart-1');
  state.deleteTokens(['h1', 'unknown']);
  state.nextEpoch([a, { path: 'b.yaml', text: 'other' }], 6);
  state.nextEpoch([{ path: 'c.yaml', text: 'c' }, a], 7);
  return state;
}

test('each change survives at once, and costs what it changes', (t) => {
  const dir = folder(t);
  const state = changed(dir);
  const wanted = of(state);
  assert.deepEqual(
    [wanted.epoch, wanted.at, wanted.files, wanted.instances.map(([n, i]) => [n, i.ready]), wanted.tokens.length],
    [
      3,
      7,
      [
        { path: 'c.yaml', text: 'c' },
        { path: 'a.yaml', text: 'a' },
      ],
      [['cart-0', true]],
      1,
    ],
  );
  const journal = join(dir, 'control.journal');
  assert.equal(statSync(journal).mode & 0o777, 0o600);
  const lines = readFileSync(journal, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  assert.equal(lines.length, 10);
  assert.deepEqual(JSON.parse(lines[8]!).texts, [{ path: 'b.yaml', text: 'other' }], 'the file that changed alone');
  assert.deepEqual(found(dir), wanted);
  assert.equal(existsSync(journal), false, 'a start writes the whole');
  assert.deepEqual(found(dir), wanted);
});

test('a crash while a change is written loses that change alone; between file and journal it loses nothing', (t) => {
  const dir = folder(t);
  const state = changed(dir);
  const wanted = of(state);
  const journal = join(dir, 'control.journal');
  const text = readFileSync(journal, 'utf8');
  appendFileSync(journal, '\n{"noInstance":"car');
  assert.deepEqual(found(dir), wanted);
  // The file is written, the journal not yet removed.
  writeFileSync(journal, text);
  assert.deepEqual(found(dir), wanted);
  state.save();
  assert.equal(existsSync(journal), false);
});

test('a file that cannot be read is put aside with its journal: half a state is none', (t) => {
  const dir = folder(t);
  const state = changed(dir);
  state.save();
  state.nextEpoch([...state.files, { path: 'd.yaml', text: 'd' }], 8);
  writeFileSync(join(dir, 'control.json'), '{"epoch":');
  const empty = found(dir);
  assert.deepEqual([empty.epoch, empty.files, empty.instances], [0, [], []]);
  assert.ok(existsSync(join(dir, 'control.json.broken')));
});

test('a journal that has grown becomes the file', (t) => {
  const dir = folder(t);
  const state = new State(dir, silentLogger);
  for (let i = 0; i < 10; i++) state.nextEpoch([{ path: 'a.yaml', text: `${i}${'x'.repeat(1_000_000)}` }], i);
  assert.ok(statSync(join(dir, 'control.journal')).size < 3_000_000);
  assert.equal(found(dir).epoch, 10);
});
