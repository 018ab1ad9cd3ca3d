/** The live table of who calls whom: values in, text out, so that it can be tested and drawn anywhere. */

/** One line. `requestsPerSecond`, success and durations are of the window that the control plane answered for. */
export interface EdgeLine {
  source: string;
  destination: string;
  version: string;
  requestsPerSecond: number;
  /** 0 to 1; null or NaN where nothing was asked. */
  successRate: number | null;
  p50Ms: number | null;
  p90Ms: number | null;
  p99Ms: number | null;
  inFlight: number;
  mtls: boolean;
}

export interface RenderOptions {
  /** Width of the terminal; no line is longer. At least 60. */
  columns: number;
  /** ANSI colours. */
  color: boolean;
  /** Lines of edges at most; the busiest stay, a last line says how many are not shown. Default: all. */
  maxRows?: number;
}

const reset = '\u001b[0m';
const style = { dim: '\u001b[2m', bold: '\u001b[1m', red: '\u001b[31m', yellow: '\u001b[33m', green: '\u001b[32m' };

const header = ['FROM', 'TO', 'VERSION', 'REQ/S', 'SUCCESS', 'P50', 'P90', 'P99', 'IN FLIGHT', 'MTLS'];
const right = [false, false, false, true, true, true, true, true, true, false];
/** Columns that give way when the terminal is narrow, and what is left of them at least. */
const shrinkable = [0, 1, 2];
const leastWidth = 6;
const gap = 2;

/** A table with its header, one edge a line, no line feed at the end. Control characters in names are shown as `?`. */
export function renderEdges(edges: readonly EdgeLine[], options: RenderOptions): string {
  const paint = (text: string, ...codes: string[]): string => (options.color ? codes.join('') + text + reset : text);
  const max = options.maxRows ?? edges.length;
  let shown = [...edges];
  if (shown.length > max) {
    const busiest = new Set([...shown].sort((a, b) => b.requestsPerSecond - a.requestsPerSecond).slice(0, max));
    shown = shown.filter((e) => busiest.has(e));
  }
  const rows = shown.map(cells);
  const widths = header.map((name, i) => Math.max(name.length, ...rows.map((r) => r[i].length)));
  let over = widths.reduce((sum, w) => sum + w + gap, -gap) - Math.max(60, options.columns);
  while (over > 0) {
    const widest = shrinkable.reduce((a, b) => (widths[b] > widths[a] ? b : a));
    if (widths[widest] <= leastWidth) break;
    widths[widest]--;
    over--;
  }
  const line = (row: string[], codes: (i: number) => string[]): string =>
    row
      .map((cell, i) => {
        const cut = cell.length > widths[i] ? `${cell.slice(0, widths[i] - 1)}…` : cell;
        const padded = right[i] ? cut.padStart(widths[i]) : i === row.length - 1 ? cut : cut.padEnd(widths[i]);
        const style = codes(i);
        return style.length > 0 ? paint(padded, ...style) : padded;
      })
      .join(' '.repeat(gap));
  const lines = [line(header, () => [style.bold])];
  rows.forEach((row, r) => {
    lines.push(line(row, (i) => colours(shown[r], i)));
  });
  if (edges.length === 0) lines.push(paint('no traffic yet', style.dim));
  const hidden = edges.length - shown.length;
  if (hidden > 0) lines.push(paint(`… and ${hidden} more`, style.dim));
  return lines.join('\n');
}

function cells(e: EdgeLine): string[] {
  return [
    printable(shortHost(e.source)),
    printable(shortHost(e.destination)),
    printable(e.version || '-'),
    rate(e.requestsPerSecond),
    percent(e.successRate),
    duration(e.p50Ms),
    duration(e.p90Ms),
    duration(e.p99Ms),
    String(e.inFlight),
    e.mtls ? 'yes' : 'no',
  ];
}

function colours(e: EdgeLine, column: number): string[] {
  if (column === 4 && known(e.successRate)) {
    return [e.successRate >= 0.999 ? style.green : e.successRate >= 0.95 ? style.yellow : style.red];
  }
  if (column === 9) return [e.mtls ? style.green : style.yellow];
  return e.requestsPerSecond === 0 ? [style.dim] : [];
}

/** `payment.shop.svc.cluster.local` → `payment.shop`. */
function shortHost(host: string): string {
  const svc = host.indexOf('.svc.');
  return svc > 0 ? host.slice(0, svc) : host;
}

function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

function known(value: number | null): value is number {
  return value !== null && !Number.isNaN(value);
}

function rate(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

/** Never rounds a failure away: 100 % is said only where nothing failed. */
function percent(value: number | null): string {
  if (!known(value)) return '-';
  if (value === 1) return '100%';
  const cut = Math.floor(value * 10_000) / 100;
  return `${cut.toFixed(2)}%`;
}

/** Milliseconds, from ten seconds on seconds. */
function duration(ms: number | null): string {
  if (!known(ms)) return '-';
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)}s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)}ms`;
}
