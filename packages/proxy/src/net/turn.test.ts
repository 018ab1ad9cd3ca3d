import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { arrived, endOfTurn, flushAtEnd, gather, onSocketError } from './turn.ts';

/** Resolves when the turn that was begun is over. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A read or more of `size` bytes, as sockets report them. */
function read(count: number, size = 100): void {
  for (let i = 0; i < count; i++) arrived(size);
}

/** Says in which turn, from 1, a link was flushed that was written to in the first, when the turns bring so many reads. */
async function flushedIn(reads: readonly number[], size?: number): Promise<number> {
  let flushed = false;
  for (let i = 0; i < reads.length; i++) {
    read(reads[i]!, size);
    if (i === 0) gather(() => (flushed = true));
    await turn();
    if (flushed) return i + 1;
  }
  return 0;
}

beforeEach(async () => {
  // What waiting brought is remembered from test to test: it brought nothing.
  await flushedIn([2, 0]);
});

test('a link that one read wrote to is flushed at the end of its turn', async () => {
  assert.equal(await flushedIn([1, 0]), 1);
  assert.equal(await flushedIn([0]), 1);
});

test('while turns bring something a link waits; the first that brings nothing ends it', async () => {
  assert.equal(await flushedIn([2, 0]), 2);
  assert.equal(await flushedIn([2, 3, 2, 0]), 4);
});

test('one read is waited with as long as that brought more the last time', async () => {
  assert.equal(await flushedIn([1, 1]), 1);
  assert.equal(await flushedIn([2, 2, 0]), 3);
  assert.equal(await flushedIn([1, 1, 0]), 3);
  assert.equal(await flushedIn([1, 0]), 2);
  assert.equal(await flushedIn([1, 1]), 1);
});

test('there is an end to waiting: turns, reads and bytes', async () => {
  assert.equal(await flushedIn(new Array(20).fill(2)), 9);
  assert.equal(await flushedIn([40, 2, 2]), 1);
  assert.equal(await flushedIn([20, 20, 2]), 2);
  assert.equal(await flushedIn([2, 2], 20_000), 1);
});

test('what is not gathered runs and is written in its own turn, in order, and errors are told', async () => {
  const seen: string[] = [];
  onSocketError((error) => seen.push(String(error)));
  read(2);
  flushAtEnd({ flush: () => seen.push('socket') });
  gather(() => seen.push('link'));
  endOfTurn(() => {
    throw new Error('bad codec');
  });
  endOfTurn(() => {
    endOfTurn(() => seen.push('same turn'));
  });
  await turn();
  assert.deepEqual(seen, ['Error: bad codec', 'same turn', 'socket']);
  await turn();
  assert.deepEqual(seen.slice(3), ['link']);
  onSocketError(() => {});
});

test('what is deferred while links are flushed runs too', async () => {
  const seen: string[] = [];
  gather(() => {
    gather(() => seen.push('link'));
    endOfTurn(() => {
      gather(() => seen.push('link of the next turn'));
      seen.push('codec');
    });
  });
  await turn();
  assert.deepEqual(seen, ['link']);
  await turn();
  assert.deepEqual(seen, ['link', 'codec', 'link of the next turn']);
});
