import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RE2JS } from 're2js';
import { sampleOfGlob, sampleOfPattern } from './samples.ts';

test('a text for each regular expression that is understood; none for the others', () => {
  const patterns = [
    '/api/v[0-9]+/users/.*',
    '^/a(b|c)d$',
    '(?i)/Shop/(?P<id>[a-f]{4,8})/x?',
    '\\d{3}-\\w+\\.html',
    '[^/]+\\.(?:png|jpg)',
    '(chrome|firefox).*',
    '[\\w-]+@[]x]+',
    '',
  ];
  for (const p of patterns) {
    const sample = sampleOfPattern(p);
    assert.ok(sample !== undefined && RE2JS.compile(p).matches(sample), `${p}: ${sample}`);
  }
  for (const p of ['\\p{Greek}', '[[:alpha:]]', 'a)', '(a', '*']) assert.equal(sampleOfPattern(p), undefined, p);
});

test('a text for each of Istio’s patterns', () => {
  assert.deepEqual(['/a', '/a*', '*.b', '*', '/a/{*}/b/{**}'].map(sampleOfGlob), [
    '/a',
    '/ax',
    'x.b',
    'x',
    '/a/x/b/x/x',
  ]);
});
