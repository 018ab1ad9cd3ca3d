/** Two answers to one question, aspect by aspect. */
import type { LabMesh } from '../mesh.ts';
import type { Explanation, RuleReference, Way } from '../types.ts';

/** Shares are sums of products of decimal fractions. */
const SAME = 1e-9;

/** Words for what happens, with the share of requests to which it does; they sum to 1. */
export type Shares = Readonly<Record<string, number>>;

export interface AnswerChange {
  /** What differs: `outcome`, `destination`, `timeout` … */
  readonly aspect: string;
  readonly before: Shares;
  readonly after: Shares;
}

interface Aspect {
  readonly name: string;
  /** Of requests that are sent to somebody alone: of others it means nothing. */
  readonly sent: boolean;
  say(way: Way, workloads: ReadonlyMap<string, string>): string;
}

const ASPECTS: readonly Aspect[] = [
  {
    name: 'outcome',
    sent: false,
    say(w) {
      const ends = { application: 'the application answers', connected: 'connected', closed: 'closed' };
      const what = typeof w.status === 'number' ? String(w.status) : ends[w.status];
      const grpc = w.grpcStatus >= 0 ? `grpc-status ${w.grpcStatus}` : '';
      const why = [w.end === 'allowed' ? '' : w.end, w.location, grpc, w.details].filter(Boolean).join(', ');
      return why ? `${what} (${why})` : what;
    },
  },
  {
    name: 'destination',
    sent: false,
    say(w, workloads) {
      if (w.cluster === '') return 'nowhere';
      const [, port, subset, host] = w.cluster.split('|');
      const cluster = host === undefined ? w.cluster : `${host}:${port}${subset ? ` ${subset}` : ''}`;
      return w.instance === '' ? cluster : `${cluster} → ${workloads.get(w.instance) ?? w.instance}`;
    },
  },
  { name: 'delay', sent: false, say: (w) => (w.delayMs > 0 ? `${w.delayMs} ms` : 'none') },
  { name: 'bandwidth', sent: true, say: (w) => (w.bytesPerSecond > 0 ? `${w.bytesPerSecond} bytes/s` : 'as it comes') },
  { name: 'timeout', sent: true, say: (w) => (w.timeoutMs > 0 ? `${w.timeoutMs} ms` : 'none') },
  {
    name: 'retries',
    sent: true,
    say(w) {
      if (w.retries === 0) return 'none';
      const perTry = w.perTryTimeoutMs > 0 ? `, each ${w.perTryTimeoutMs} ms` : '';
      return `${w.retries} on ${w.retryOn.join(',') || 'the defaults'}${perTry}`;
    },
  },
  { name: 'copies', sent: true, say: (w) => w.mirrors.join(', ') || 'none' },
  { name: 'mtls', sent: true, say: (w) => (w.mtls ? 'mTLS' : 'none') },
  { name: 'request head', sent: true, say: (w) => pairs(w.sent).join('; ') },
  {
    name: 'response head',
    sent: true,
    say(w) {
      const ops = w.responseOps.flatMap(({ remove, set, add }) => [
        ...remove.map((n) => `-${n}`),
        ...pairs(set).map((p) => `=${p}`),
        ...pairs(add).map((p) => `+${p}`),
      ]);
      return ops.join('; ') || 'as it is';
    },
  },
];

function pairs(head: readonly string[]): string[] {
  return head.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${head[i + 1]}`] : []));
}

/** Copies of one workload are one, and none of them is the same in two meshes. */
export function compareAnswers(
  before: Explanation,
  after: Explanation,
  meshes: { readonly before: LabMesh; readonly after: LabMesh },
): AnswerChange[] {
  const workloads = [meshes.before, meshes.after].map(
    (mesh) => new Map(mesh.instances.map((i) => [i.name, `${i.namespace}/${i.workload}`])),
  );
  return ASPECTS.flatMap((aspect): AnswerChange[] => {
    const a = sharesOf(before, aspect, workloads[0]);
    const b = sharesOf(after, aspect, workloads[1]);
    if (aspect.sent && (a.size === 0 || b.size === 0)) return [];
    const same = a.size === b.size && [...a].every(([text, share]) => Math.abs(share - (b.get(text) ?? -1)) < SAME);
    return same ? [] : [{ aspect: aspect.name, before: Object.fromEntries(a), after: Object.fromEntries(b) }];
  });
}

/** The most frequent first; they sum to 1 where there is any. */
function sharesOf(
  { ways }: Explanation,
  { sent, say }: Aspect,
  workloads: ReadonlyMap<string, string>,
): Map<string, number> {
  const out = new Map<string, number>();
  const counted = sent ? ways.filter((w) => w.cluster !== '') : ways;
  const total = counted.reduce((sum, w) => sum + w.probability, 0);
  for (const w of counted) {
    const text = say(w, workloads);
    out.set(text, (out.get(text) ?? 0) + w.probability / total);
  }
  return new Map([...out].sort(([x, p], [y, q]) => q - p || (x < y ? -1 : 1)));
}

/** Rules that decided, those with a file alone. */
export function decidedBy({ outcomes }: Explanation): RuleReference[] {
  const rules = new Map<string, RuleReference>();
  for (const o of outcomes) for (const r of o.from) if (r.file) rules.set(`${r.resource}#${r.field}`, r);
  return [...rules.values()];
}
