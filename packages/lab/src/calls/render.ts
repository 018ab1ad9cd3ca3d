/** A tree of calls as people read it, and as a list of lines in causal order. */
import type { CallTree, Hop, LoggedDecision, SaidLine } from './tree.ts';

type Show = (place: string) => string;

/** Of each hop which rules decided, below the hop that caused it. `show` makes a place short. */
export function renderCalls(tree: CallTree, show: Show = (p) => p): string {
  const lines = [`request ${clean(tree.requestId)}`, ...tree.traceIds.map((t) => `trace   ${t}`)];
  for (const root of tree.roots) {
    lines.push('');
    addHop(lines, root, '', '', show);
  }
  return lines.join('\n');
}

function addHop(lines: string[], hop: Hop, first: string, rest: string, show: Show): void {
  const side = hop.reporter === 'source' ? 'caller' : 'called';
  lines.push(`${first}${hop.instance} (${side})  ${summary(hop)}`);
  const inner = rest + (hop.children.length > 0 ? '│    ' : '     ');
  const width = Math.max(...hop.decisions.map((d) => d.kind.length), 0);
  for (const d of hop.decisions) lines.push(`${inner}${d.kind.padEnd(width)}  ${decisionText(d, show)}`);
  if (hop.decisions.length === 0) lines.push(`${inner}by defaults alone`);
  lines.push(`${inner}${'epoch'.padEnd(width)}  ${hop.epoch}`);
  for (const [i, child] of hop.children.entries()) {
    const last = i === hop.children.length - 1;
    addHop(lines, child, `${rest}${last ? '└─ ' : '├─ '}`, `${rest}${last ? '   ' : '│  '}`, show);
  }
}

function decisionText({ rule, place }: LoggedDecision, show: Show): string {
  return place === '' || place === rule ? clean(rule) : `${clean(rule)}  ${clean(show(place))}`;
}

/** `POST payment:8080/charge → 10.0.0.7:8080: 403 rbac_… in 12 ms`. */
export function summary(hop: Hop): string {
  const status = hop.grpcStatus >= 0 ? `${hop.status} (grpc-status ${hop.grpcStatus})` : String(hop.status);
  const why = [hop.details, hop.flags].filter(Boolean).join(' ');
  const tries = hop.retries > 0 ? `, ${hop.retries + 1} tries` : '';
  const to = hop.upstream ? ` → ${hop.upstream}` : '';
  return clean(`${hop.method} ${hop.authority}${hop.path}${to}: ${status} ${why} in ${hop.durationMs} ms${tries}`);
}

/** The shape of `weft explain --request-id -o json`. */
export function callsJson(tree: CallTree): unknown {
  const hop = ({ line: _line, children, said, ...rest }: Hop): unknown => ({
    ...rest,
    said: said.map((s) => s.text),
    children: children.map(hop),
  });
  return { requestId: tree.requestId, traceIds: tree.traceIds, hops: tree.roots.map(hop) };
}

export interface OrderedLine {
  readonly instance: string;
  readonly from: 'proxy' | 'application';
  /** Calls that it is below. */
  readonly depth: number;
  /** As it was written. */
  readonly text: string;
  /** Of a proxy's line. */
  readonly hop: Hop | undefined;
}

/** Every line of the tree: what caused others before them, what is side by side by time. */
export function orderedLines(tree: CallTree): OrderedLine[] {
  const out: OrderedLine[] = [];
  const say = ({ instance, text }: SaidLine, depth: number): void =>
    void out.push({ instance, from: 'application', depth, text, hop: undefined });
  const walk = (hop: Hop, depth: number): void => {
    out.push({ instance: hop.instance, from: 'proxy', depth, text: hop.line, hop });
    let i = 0;
    for (const child of hop.children) {
      // What does not say when it was written was written before what it may have caused.
      for (; i < hop.said.length && !(hop.said[i].timeMs > child.startMs); i++) say(hop.said[i], depth + 1);
      walk(child, depth + 1);
    }
    for (; i < hop.said.length; i++) say(hop.said[i], depth + 1);
  };
  for (const root of tree.roots) walk(root, 0);
  for (const line of tree.loose) say(line, 0);
  return out;
}

/** Paths and application lines are a stranger's: they may not move the terminal. */
export function clean(text: string): string {
  return text.replaceAll(/[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]/g, '\ufffd');
}
