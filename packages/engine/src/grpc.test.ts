import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grpcTimeoutMs } from './grpc.ts';

test('grpc-timeout: digits and a unit', () => {
  for (const [text, ms] of [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['15S', 15_000],
    ['100m', 100],
    ['2500u', 2.5],
    ['99999999n', 99.999_999],
    ['0m', 0],
  ] as const) {
    assert.ok(Math.abs(grpcTimeoutMs(text) - ms) < 1e-9, text);
  }
});

test('grpc-timeout: what is none is -1', () => {
  for (const text of ['', 'm', '1', '1s', '-1m', '+1m', '1.5S', '123456789m', '1 m', ' 1m', '1mm', '0x1m'])
    assert.equal(grpcTimeoutMs(text), -1, text);
});
