import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type References, ReferencesSchema } from '@weft/plan';
import { ReferenceIndex } from './references.ts';
import { noDecisions } from './types.ts';

const at = (line: number, file = 'a.yaml'): Map<string, References> =>
  new Map([
    ['own', create(ReferencesSchema, { entries: [{ ref: 'r', kind: 'K', namespace: 'n', name: 'x', file, line }] })],
  ]);

test('what is told once is not told again of another: fields that differ, and lines that move', () => {
  const references = new ReferenceIndex();
  references.update(at(1));
  const base = { ...noDecisions(), route: 'r', destination: 'd' };
  const first = '{"route":["r","a.yaml:1"],"destination":["d",""]}';
  assert.equal(references.decisions(base), first);
  const reused = { ...base };
  for (const kind of Object.keys(base) as (keyof typeof base)[]) {
    reused[kind] = 'other';
    assert.notEqual(references.decisions(reused), first, kind);
    reused[kind] = base[kind];
    assert.equal(references.decisions(reused), first, kind);
  }
  references.update(at(2));
  assert.equal(references.decisions(base), '{"route":["r","a.yaml:2"],"destination":["d",""]}');
  assert.equal(references.decisions(noDecisions()), '');
});

test('a place is ASCII, whatever its file is called', () => {
  const references = new ReferenceIndex();
  references.update(at(1, 'süß\u0000\u007f"\r\n.yaml'));
  const text = references.decisions({ ...noDecisions(), route: 'r' });
  assert.match(text, /^[\x20-\x7e]*$/);
  assert.deepEqual(JSON.parse(text), { route: ['r', 'süß\u0000\u007f"\r\n.yaml:1'] });
});
