import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { readBuffer } from '@weft/wire';
import { WriteQueue } from './write-queue.ts';

/** Bytes that say where in the stream they stand. */
function fill(target: Uint8Array, at: number): Uint8Array {
  for (let i = 0; i < target.length; i++) target[i] = (at + i) % 251;
  return target;
}

test('what is pushed comes out in order, lent or not, and stays as it is until it is released', () => {
  const random = seededRandom(7);
  const pick = (n: number): number => Math.floor(random.next() * n);
  const sizes = [1, 30, 700, 5000, 16_384, 16_385, 40_000, 65_536];
  const queue = new WriteQueue();
  let pushed = 0;
  let seen = 0;
  const out: Uint8Array[] = [];
  const check = (): void => {
    for (const piece of out) {
      for (let i = 0; i < piece.length; i++) {
        if (piece[i] !== (seen + i) % 251) assert.fail(`byte ${seen + i} is wrong (seed 7)`);
      }
      seen += piece.length;
    }
    out.length = 0;
  };
  for (let round = 0; round < 3000; round++) {
    const what = pick(10);
    if (what < 6) {
      const size = sizes[pick(sizes.length)]!;
      const lent = pick(2) === 0;
      queue.push(fill(lent ? readBuffer.subarray(0, size) : new Uint8Array(size), pushed));
      if (lent) readBuffer.fill(0xff);
      pushed += size;
    } else if (what < 9) {
      const piece = queue.take();
      if (piece) out.push(piece);
      else assert.equal(queue.bytes, 0);
    } else {
      check();
      queue.release();
    }
  }
  for (let piece = queue.take(); piece; piece = queue.take()) out.push(piece);
  check();
  assert.equal(queue.bytes, 0);
  assert.equal(seen, pushed);
});

test('a head and the lent bytes behind it are one piece, and its block serves again', () => {
  const queue = new WriteQueue();
  queue.push(new Uint8Array(100));
  queue.push(readBuffer.subarray(0, 20_000));
  queue.push(new Uint8Array(5));
  const piece = queue.take()!;
  assert.equal(piece.length, 20_105);
  assert.equal(queue.take(), undefined);
  queue.release();
  queue.push(readBuffer.subarray(0, 10));
  assert.equal(queue.take()!.buffer, piece.buffer);
});
