import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultProxyLimits, readLimits } from './limits.ts';

test('limits: defaults, changes, and errors that name the field', () => {
  assert.deepEqual(readLimits(undefined, 'b.json'), defaultProxyLimits);
  assert.equal(readLimits({ maxConnections: 5 }, 'b.json').maxConnections, 5);
  assert.throws(() => readLimits({ maxConections: 5 }, 'b.json'), /b\.json: limits\.maxConections is not known/);
  for (const bad of [0, -1, 1.5, '5', null, 2 ** 31]) {
    assert.throws(() => readLimits({ maxRequests: bad }, 'b.json'), /limits\.maxRequests must be a whole number/);
  }
  assert.throws(() => readLimits([], 'b.json'), /limits must be an object/);
});
