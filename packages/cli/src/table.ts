/** Plain tables that fit a terminal of 100 columns. */

const MAX_WIDTH = 100;

export type Cell = string | number | undefined;

/** Left-aligned columns, numbers to the right; the widest text columns are cut with `…` until a line fits. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[], maxWidth = MAX_WIDTH): string {
  const text = rows.map((r) => head.map((_, i) => String(r[i] ?? '-')));
  const right = head.map(
    (_, i) => rows.length > 0 && rows.every((r) => typeof r[i] === 'number' || r[i] === undefined),
  );
  const width = head.map((h, i) => Math.max(h.length, ...text.map((r) => r[i]!.length)));
  const total = () => width.reduce((a, b) => a + b, 0) + 2 * (width.length - 1);
  while (total() > maxWidth) {
    const widest = width.indexOf(Math.max(...width));
    if (width[widest]! <= 8) break;
    width[widest]! -= 1;
  }
  const line = (cells: readonly string[]) =>
    cells
      .map((c, i) => {
        const cut = c.length > width[i]! ? `${c.slice(0, width[i]! - 1)}…` : c;
        return right[i] ? cut.padStart(width[i]!) : cut.padEnd(width[i]!);
      })
      .join('  ')
      .trimEnd();
  return [line(head), ...text.map(line)].join('\n');
}

/** One value of a row that may lack it. */
export function column(row: unknown, name: string): Cell {
  const value = (row as Record<string, unknown> | null | undefined)?.[name];
  if (value === undefined || value === null) return undefined;
  return typeof value === 'number' ? value : typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** `1.5 s`, `3 min`, `2 h`. */
export function age(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}
