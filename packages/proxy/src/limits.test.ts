import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultWireLimits } from '@weft/wire';
import { defaultProxyLimits, edgeProxyLimits, readLimits, wireLimits } from './limits.ts';

test('limits: defaults, changes, and errors that name the field', () => {
  assert.deepEqual(readLimits(undefined, 'b.json'), defaultProxyLimits);
  assert.equal(readLimits({ maxConnections: 5 }, 'b.json').maxConnections, 5);
  assert.throws(() => readLimits({ maxConections: 5 }, 'b.json'), /b\.json: limits\.maxConections is not known/);
  for (const bad of [0, -1, 1.5, '5', null, 2 ** 31]) {
    assert.throws(() => readLimits({ maxRequests: bad }, 'b.json'), /limits\.maxRequests must be a whole number/);
  }
  assert.equal(readLimits({ continuationFrames: 4 }, 'b.json').continuationFrames, 4, 'a limit of a codec');
  assert.equal(readLimits({ memoryBytes: 2 ** 40 }, 'b.json').memoryBytes, 2 ** 40);
  assert.equal(readLimits({ requestTimeoutMs: 0 }, 'b.json').requestTimeoutMs, 0);
  assert.throws(() => readLimits({ overloadPercent: 101 }, 'b.json'), /from 1 to 100/);
  assert.throws(() => readLimits({ overloadPercent: 96 }, 'b.json'), /overloadCriticalPercent must not be below/);
  assert.deepEqual(wireLimits(defaultProxyLimits), defaultWireLimits);
  assert.equal(wireLimits({ ...defaultProxyLimits, headerBytes: 5 }).headerBytes, 5);
  assert.throws(() => readLimits([], 'b.json'), /limits must be an object/);
});

test('a gateway has bounds of its own, as changeable', () => {
  const edge = readLimits(undefined, 'b.json', 'gateway');
  assert.deepEqual(edge, edgeProxyLimits);
  assert.deepEqual(
    [edge.headerFieldBytes, edge.maxConcurrentStreams, edge.bufferBytes, edge.requestTimeoutMs, edge.maxConnections],
    [8192, 100, 32_768, 300_000, 50_000],
  );
  assert.ok(edge.maxWindowBytes < edge.connectionWindowBytes, 'one stream leaves room for others');
  assert.equal(readLimits({ maxConcurrentStreams: 7 }, 'b.json', 'gateway').maxConcurrentStreams, 7);
  assert.equal(wireLimits(edge).headerFieldBytes, 8192);
});
