/** Seeds, mutation and judgement: the same for the replay in CI and for the open-ended form. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Random, seededRandom } from '@weft/base';
import type { Target } from './target.ts';
import { firstBytesTargets } from './targets/first-bytes.ts';
import { http1Targets } from './targets/http1.ts';
import { http2Targets } from './targets/http2.ts';
import { textTargets } from './targets/text.ts';

export const targets: readonly Target[] = [...http1Targets, ...http2Targets, ...firstBytesTargets, ...textTargets];

export function seedFile(target: Target): string {
  return join(import.meta.dirname, 'seeds', `${target.name}.jsonl`);
}

/** A line each: a JSON string whose characters are the bytes. */
export function seedsOf(target: Target): Buffer[] {
  const lines = readFileSync(seedFile(target), 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => Buffer.from(JSON.parse(line) as string, 'latin1'));
}

const SPICE = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  'ffffffffffffffff',
  'Content-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n',
  '\xff\xff\xff\xff',
  '\x00\x00\x00\x04\x00\x00\x00\x00\x00',
  '\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff',
  '%2f',
  '%00',
  '/../',
];

/** One change: what (by its number), where (0 to 1), how much or which. */
export type Change = readonly [kind: number, where: number, value: number];

/** A seed with bytes changed, taken out, doubled, or spiced. */
export function mutate(seed: Uint8Array, changes: readonly Change[]): Buffer {
  let text = Buffer.from(seed).toString('latin1');
  for (const [kind, where, value] of changes) {
    const at = Math.floor(where * text.length);
    const to = Math.min(text.length, at + 1 + (value % 8));
    switch (kind % 5) {
      case 0:
        text = text.slice(0, at) + String.fromCharCode(value % 256) + text.slice(at + 1);
        break;
      case 1:
        text = text.slice(0, at) + text.slice(to);
        break;
      case 2:
        text = text.slice(0, to) + text.slice(at, to) + text.slice(to);
        break;
      case 3:
        text = text.slice(0, at) + SPICE[value % SPICE.length]! + text.slice(at);
        break;
      default:
        text = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << (value % 8))) + text.slice(at + 1);
    }
  }
  return Buffer.from(text, 'latin1');
}

/** Cut into pieces of these sizes, again and again. */
export function split(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = Math.max(1, sizes[i % sizes.length] ?? 1);
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

export function feed(target: Target, pieces: readonly Uint8Array[]): string {
  const session = target.start();
  for (const piece of pieces) session.push(piece);
  return session.end();
}

/** Throws, naming the input, where a parser throws or means something else when the input comes in these pieces. */
export function judge(target: Target, bytes: Uint8Array, pieces: readonly Uint8Array[]): void {
  let problem: string;
  try {
    const atOnce = feed(target, [bytes]);
    const parted = feed(target, pieces);
    if (atOnce === parted) return;
    problem = `whole: ${JSON.stringify(atOnce)}\nin pieces: ${JSON.stringify(parted)}`;
  } catch (error) {
    problem = error instanceof Error ? String(error.stack) : String(error);
  }
  const input = JSON.stringify(Buffer.from(bytes).toString('latin1'));
  throw new Error(`${target.name}, input ${input} in pieces of ${pieces.map((p) => p.length).join(' ')}\n${problem}`);
}

function below(random: Random, limit: number): number {
  return Math.floor(random.next() * limit);
}

/** `count` inputs made of one seed number. `found` gets the first that fails, before its error is thrown. */
export function fuzz(target: Target, seed: number, count: number, found?: (bytes: Buffer) => void): void {
  const random = seededRandom(seed);
  const seeds = seedsOf(target);
  for (let run = 0; run < count; run++) {
    const changes = Array.from(
      { length: below(random, 7) },
      (): Change => [below(random, 5), random.next(), below(random, 256)],
    );
    const bytes = mutate(seeds[below(random, seeds.length)]!, changes);
    const longest = 1 + below(random, 24);
    const pieces = split(
      bytes,
      Array.from({ length: 8 }, () => 1 + below(random, longest)),
    );
    try {
      judge(target, bytes, pieces);
    } catch (error) {
      found?.(bytes);
      throw error;
    }
  }
}
