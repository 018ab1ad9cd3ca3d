/** Results of rows: medians, the JSON lines, and what is printed. */
import { median } from './measure.ts';
import type { Figure, Row, Sample } from './rows/row.ts';

export interface RowResult {
  row: Row;
  /** By peer, in the order of the columns; each round's sample. */
  samples: ReadonlyMap<string, readonly Sample[]>;
}

/** One line of `-o json`. The unit tells apart the figures of a row; ratio is weft / peerValue, null where the peer's is 0. */
export interface Line {
  row: string;
  peer: string;
  weft: number;
  peerValue: number;
  ratio: number | null;
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
          ratio: theirs === 0 ? null : round(ours / theirs),
          unit: figure.unit,
        },
      ];
    });
  });
}

const round = (n: number): number => Number(n.toPrecision(4));

export interface Cell {
  peer: string;
  value: number | undefined;
  text: string;
}

/** A figure's cells, one for each peer: Weft's with its smallest and largest round, the others' with Weft's ratio to it. */
export function cells(result: RowResult, figure: Figure, peers: readonly string[]): Cell[] {
  const ours = value(result, 'weft', figure);
  return peers.map((peer) => {
    const own = value(result, peer, figure);
    if (own === undefined) return { peer, value: own, text: '' };
    const text = own.toFixed(figure.digits);
    if (peer === 'weft') return { peer, value: own, text: `${text}${spread(values(result, peer, figure), figure)}` };
    const ratio = ours === undefined || own === 0 ? '' : ` (${(ours / own).toFixed(2)}×)`;
    return { peer, value: own, text: `${text}${ratio}` };
  });
}

function spread(all: readonly number[], figure: Figure): string {
  if (all.length < 2) return '';
  return ` [${Math.min(...all).toFixed(figure.digits)}–${Math.max(...all).toFixed(figure.digits)}]`;
}

/** The figure's target and whether it was met; empty where it has none. */
export function verdict(result: RowResult, figure: Figure): string {
  if (!figure.target) return '';
  const met = figure.target.met((peer) => value(result, peer, figure));
  return `${figure.target.text}: ${met === undefined ? 'not measured' : met ? 'met' : 'missed'}`;
}

/** A row as lines of text. */
export function text(result: RowResult, peers: readonly string[]): string {
  const rows = [
    ['row', 'figure', ...peers, 'target'],
    ...result.row.figures.map((figure, i) => [
      i === 0 ? result.row.name : '',
      figure.unit,
      ...cells(result, figure, peers).map((c) => c.text),
      verdict(result, figure),
    ]),
  ];
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((r) => r[i]!.length)));
  const left = (i: number): boolean => i < 2 || i === widths.length - 1;
  return rows
    .map((r) =>
      r
        .map((cell, i) => (left(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
