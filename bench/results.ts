/** Results of rows: what is printed, the JSON lines, and RESULTS.md. */
import { median } from './measure.ts';
import type { Figure, Row, Sample } from './rows/row.ts';

export interface RowResult {
  row: Row;
  /** By peer, in the order of the columns; each round's sample. */
  samples: ReadonlyMap<string, readonly Sample[]>;
}

/** One line of `-o json`. The unit tells apart the figures of a row; ratio is weft / peerValue. */
export interface Line {
  row: string;
  peer: string;
  weft: number;
  peerValue: number;
  ratio: number;
  unit: string;
}

function values(result: RowResult, peer: string, figure: Figure): number[] {
  return (result.samples.get(peer) ?? []).flatMap((s) => s[figure.key] ?? []);
}

/** The median of the rounds. */
export function value(result: RowResult, peer: string, figure: Figure): number | undefined {
  const all = values(result, peer, figure);
  return all.length > 0 ? median(all) : undefined;
}

export function lines(result: RowResult): Line[] {
  return result.row.figures.flatMap((figure) => {
    const ours = value(result, 'weft', figure);
    return [...result.samples.keys()].flatMap((peer): Line[] => {
      const theirs = value(result, peer, figure);
      if (peer === 'weft' || ours === undefined || theirs === undefined) return [];
      return [
        {
          row: result.row.name,
          peer,
          weft: round(ours),
          peerValue: round(theirs),
          ratio: round(ours / theirs),
          unit: figure.unit,
        },
      ];
    });
  });
}

const round = (n: number): number => Number(n.toPrecision(4));

/** Cells of a table: a line per figure, a column per peer with Weft's ratio to it. */
export function cells(result: RowResult, peers: readonly string[]): string[][] {
  return result.row.figures.map((figure, i) => {
    const ours = value(result, 'weft', figure);
    return [
      i === 0 ? result.row.name : '',
      figure.unit,
      ...peers.map((peer) => {
        const theirs = value(result, peer, figure);
        if (theirs === undefined) return '';
        const text = theirs.toFixed(figure.digits);
        if (peer === 'weft') return `${text}${spread(values(result, peer, figure), figure)}`;
        return ours === undefined || theirs === 0 ? text : `${text} (${(ours / theirs).toFixed(2)}×)`;
      }),
    ];
  });
}

function spread(all: readonly number[], figure: Figure): string {
  if (all.length < 2) return '';
  return ` [${Math.min(...all).toFixed(figure.digits)}–${Math.max(...all).toFixed(figure.digits)}]`;
}

export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((r) => r[i]!.length)));
  return rows
    .map((r) =>
      r
        .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
