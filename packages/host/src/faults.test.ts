import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { VirtualClock } from '@weft/base';
import { type FaultRequest, Faults, type FaultText, textHash } from './faults.ts';

/** A fault is a line `weft-fault-ID-0` at the top; a text with "[" cannot be read. */
const TEXT: FaultText = {
  add: (text, edit) => `weft-fault-${edit}-0\n${text ?? 'plain\n'}`,
  remove(text, id) {
    const line = `weft-fault-${id}-0\n`;
    return text.includes('[') || !text.includes(line) ? undefined : text.replace(line, '');
  },
  has: (text) => text.includes('weft-fault-'),
};

function setUp(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'weft-faults-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const clock = new VirtualClock(1_000_000);
  const said: string[] = [];
  const file = join(dir, 'routes.yaml');
  const noted = join(dir, 'faults.json');
  const make = () => new Faults(noted, TEXT, (line) => said.push(line), clock);
  const request = (id: string, more: Partial<FaultRequest> = {}): FaultRequest => {
    const { file: to = file } = more;
    const before = existsSync(to) ? textHash(readFileSync(to, 'utf8')) : '';
    return { ...{ id, service: 'shop/pay', what: 'delay 2s', forMs: 60_000, before, edit: id }, file: to, ...more };
  };
  writeFileSync(file, 'own words\n');
  return { dir, clock, said, file, noted, make, request, read: (path = file) => readFileSync(path, 'utf8') };
}

test('each is taken back when its time is over, and a file made for them goes with the last', (t) => {
  const { clock, said, noted, make, request, read, dir } = setUp(t);
  const faults = make();
  const own = join(dir, 'weft-fault-pay.yaml');
  assert.equal(faults.add(request('f1')).untilMs, 1_060_000);
  faults.add(request('f2', { file: own, forMs: 10_000 }));
  assert.equal(faults.add(request('f3', { file: own, forMs: 20_000 })).created, true, 'in a file made for them');
  assert.equal(read(), 'weft-fault-f1-0\nown words\n');
  clock.advance(10_500);
  assert.equal(read(own), 'weft-fault-f3-0\nplain\n');
  clock.advance(10_000);
  assert.equal(existsSync(own), false);
  assert.deepEqual(
    faults.list().map((f) => f.id),
    ['f1'],
  );
  clock.advance(40_000);
  assert.equal(read(), 'own words\n');
  assert.deepEqual([existsSync(noted), faults.list(), said.length], [false, [], 3]);
  assert.match(said[0]!, /^fault f2 \(shop\/pay: delay 2s\) is taken back: its time is over$/);
});

test('what a dead process left is taken back by the next, also where it died before it wrote', (t) => {
  const { make, request, read, noted, said, file } = setUp(t);
  const dead = make();
  dead.add(request('f1'));
  const notes = read(noted);
  assert.equal(statSync(noted).mode & 0o777, 0o600);
  const next = make();
  assert.deepEqual(
    next.removeAll('an earlier run left it').map((f) => f.id),
    ['f1'],
  );
  assert.equal(read(), 'own words\n');
  writeFileSync(noted, notes);
  assert.equal(make().removeAll('again').length, 1, 'noted, and nothing in the file');
  assert.equal(read(), 'own words\n');
  writeFileSync(noted, notes);
  rmSync(file);
  assert.equal(make().removeAll('again').length, 1, 'the file is gone');
  writeFileSync(noted, 'no json');
  assert.deepEqual(make().list(), []);
  assert.equal(said.length, 3);
});

test('a file that somebody edits is tried again; the change stays', (t) => {
  const { make, request, read, clock, file, said } = setUp(t);
  const faults = make();
  faults.add(request('f1', { forMs: 1000 }));
  writeFileSync(file, `[${read()}`);
  clock.advance(2000);
  assert.equal(faults.list().length, 1);
  assert.throws(() => faults.remove('f1'), /cannot be read as YAML now/);
  writeFileSync(file, `${read().slice(1)}more words\n`);
  clock.advance(500);
  assert.equal(read(), 'own words\nmore words\n');
  assert.equal(said.length, 2, 'the trouble is said once');
});

test('modes and links stay; what was changed since it was checked, and names in use, are refused', (t) => {
  const { make, request, read, file, dir } = setUp(t);
  const faults = make();
  const link = join(dir, 'link.yaml');
  symlinkSync(file, link);
  chmodSync(file, 0o640);
  faults.add(request('f1', { file: link }));
  assert.equal(statSync(file).mode & 0o777, 0o640);
  assert.match(read(), /^weft-fault-f1-0/);
  assert.throws(() => faults.add(request('f1')), /there is a fault f1 already/);
  assert.throws(() => faults.add(request('f2', { before: 'x' })), /was changed in this moment/);
  assert.throws(() => faults.add(request('F 2')), /is no name of a fault/);
  assert.throws(() => faults.add(request('f2', { forMs: 31 * 86_400_000 })), /up to 30d/);
  assert.throws(() => faults.remove('f7'), /there is no fault f7; there are: f1/);
  assert.throws(() => faults.add(request('f2', { file: join(dir, 'none', 'x.yaml') })), /could not be written/);
  assert.deepEqual(
    faults.list().map((f) => f.id),
    ['f1'],
  );
  faults.remove('f1');
  assert.deepEqual([read(), statSync(file).mode & 0o777], ['own words\n', 0o640]);
  for (let i = 0; i < 100; i++) faults.add(request(`f${i}`));
  assert.throws(() => faults.add(request('more')), /there are 100 faults already/);
});
