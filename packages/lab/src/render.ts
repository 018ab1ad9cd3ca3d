/** An explanation as people read it: the steps of both sides, then the outcomes as a tree of probabilities. */
import type { Explanation, Outcome, RuleReference, Step } from './types.ts';

const WIDTH = 100;
const KIND_WIDTH = 13;

const TITLES: Readonly<Record<Step['side'], string>> = {
  client: 'THE CALLER AND ITS PROXY',
  gateway: 'THE GATEWAY ON THE WAY',
  server: 'THE PROXY OF THE ONE CALLED',
};

/** `show` makes a file's name short, e.g. relative to where the reader is. */
export function renderExplanation(e: Explanation, show: (file: string) => string = (f) => f): string {
  const { question: q } = e;
  const what = q.sni !== undefined ? 'TLS' : q.tcp ? 'a connection' : `${q.method ?? 'GET'} ${q.path ?? '/'}`;
  const lines = [`${what} from ${q.from} to ${q.to}`, ''];
  for (const side of ['client', 'gateway', 'server'] as const) {
    const steps = e.steps.filter((s) => s.side === side);
    if (steps.length === 0) continue;
    lines.push(TITLES[side]);
    let before = '';
    for (const s of steps) {
      lines.push(...stepLines(s, s.kind === before ? '' : s.kind, show));
      before = s.kind;
    }
    lines.push('');
  }
  lines.push('OUTCOMES', ...outcomeLines(e.outcomes));
  const rules = rulesOf(e.outcomes);
  if (rules.length > 0) lines.push('', 'DECIDED BY', ...rules.map((r) => clip(`  ${referenceText(r, show)}`)));
  if (e.missing.length > 0)
    lines.push('', ...wrap(`not looked at, since their plans are not known: ${e.missing.join(', ')}`, ''));
  return lines.join('\n');
}

export function referenceText(r: RuleReference, show: (file: string) => string): string {
  const rule = r.field ? `${r.resource} ${r.field}` : r.resource;
  return r.file ? `${show(r.file)}:${r.line}  ${rule}` : rule;
}

function stepLines(s: Step, kind: string, show: (file: string) => string): string[] {
  const text = s.because ? `${s.decision}: ${s.because}` : s.decision;
  const lines = wrap(text, ' '.repeat(KIND_WIDTH + 2));
  lines[0] = `  ${kind.padEnd(KIND_WIDTH)}${lines[0].trimStart()}`;
  if (s.reference?.file) {
    const [first, ...rest] = wrap(referenceText(s.reference, show), ' '.repeat(KIND_WIDTH + 4));
    lines.push(`${' '.repeat(KIND_WIDTH + 2)}└ ${first.trimStart()}`, ...rest);
  }
  return lines;
}

/** Lines of at most 100 columns, each with the indentation; a word longer than a line stays whole. */
export function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(indent + line);
  return lines;
}

/** A path is cut in front: its end says more. */
function clip(line: string): string {
  if (line.length <= WIDTH) return line;
  const body = line.trimStart();
  const indent = line.length - body.length;
  return `${' '.repeat(indent)}…${body.slice(body.length - (WIDTH - indent - 1))}`;
}

interface Branch {
  readonly label: string;
  probability: number;
  readonly branches: Map<string, Branch>;
}

/** What happens to the request, level by level: delay, where to, which endpoint, what comes back. */
function levels(o: Outcome): string[] {
  const path: string[] = [];
  if (o.delayMs > 0) path.push(`delayed by ${o.delayMs} ms`);
  const flags = o.flags.split(',').filter((f) => f !== '' && f !== 'DI');
  const why = [o.details, ...flags].filter(Boolean).join(', ');
  const end = `${statusText(o)}${why ? ` (${why})` : ''}`;
  if (o.cluster) path.push(o.mirrors.length > 0 ? `${o.cluster}, copied to ${o.mirrors.join(', ')}` : o.cluster);
  if (o.endpoint) path.push(o.mtls ? `${o.endpoint}, mTLS` : o.endpoint);
  path.push(o.bytesPerSecond > 0 ? `${end}, its body at ${o.bytesPerSecond} bytes a second` : end);
  return path;
}

function statusText(o: Outcome): string {
  switch (o.status) {
    case 'application':
      return 'the application answers';
    case 'connected':
      return 'connected to the application';
    case 'closed':
      return 'the connection is closed';
    default:
      return o.location ? `${o.status} to ${o.location}` : String(o.status);
  }
}

/** The outcomes alone, as a tree of probabilities. */
export function outcomeLines(outcomes: readonly Outcome[]): string[] {
  const root: Branch = { label: '', probability: 1, branches: new Map() };
  for (const o of outcomes) {
    let at = root;
    for (const label of levels(o)) {
      let next = at.branches.get(label);
      if (!next) at.branches.set(label, (next = { label, probability: 0, branches: new Map() }));
      next.probability += o.probability;
      at = next;
    }
  }
  const lines: string[] = [];
  const show = (branch: Branch, indent: string): void => {
    const all = [...branch.branches.values()].sort((a, b) => b.probability - a.probability);
    for (const [i, b] of all.entries()) {
      // What is certain at its place needs no line of its own.
      let label = b.label;
      let end = b;
      while (end.branches.size === 1) {
        [end] = end.branches.values();
        label += ` → ${end.label}`;
      }
      const last = i === all.length - 1;
      const head = `${indent}${last ? '└─' : '├─'} ${shareText(b.probability)}  `;
      const next = `${indent}${last ? '  ' : '│ '}  `;
      const [first, ...rest] = wrap(label, ' '.repeat(head.length));
      lines.push(head + first.trimStart(), ...rest.map((l) => next + l.slice(next.length)));
      show(end, `${indent}${last ? '   ' : '│  '}`);
    }
  };
  show(root, '  ');
  return lines;
}

function shareText(p: number): string {
  const share = p * 100;
  const text = share > 0 && share < 0.01 ? '< 0.01' : String(Number(share.toFixed(2)));
  return `${text} %`.padStart(8);
}

function rulesOf(outcomes: readonly Outcome[]): RuleReference[] {
  const rules = new Map<string, RuleReference>();
  for (const o of outcomes) for (const r of o.from) if (r.file) rules.set(`${r.resource} ${r.field}`, r);
  return [...rules.values()];
}

/** The shape of `-o json`. */
export function explanationJson(e: Explanation): unknown {
  const { question, outcomes, steps, missing } = e;
  return { question, outcomes, steps: steps.map((s) => ({ ...s, reference: s.reference ?? null })), missing };
}
