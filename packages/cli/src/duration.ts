import { InvalidArgumentError } from 'commander';

const UNITS = new Map([
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** `30s`, `2m`, `24h`, `90d` as milliseconds, for an option. */
export function duration(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  if (!match) throw new InvalidArgumentError('write it as 30s, 2m, 24h or 90d.');
  return Number(match[1]) * UNITS.get(match[2]!)!;
}
