/** One mesh test: what happens to its request, and whether that is what it expects. */
import { WeftError } from '@weft/base';
import { applyHeaderOps, headValue } from '@weft/engine';
import { explain } from '../explain.ts';
import { percent } from '../http.ts';
import type { LabMesh } from '../mesh.ts';
import { outcomeLines } from '../render.ts';
import type { End, Explanation, RuleReference, Way } from '../types.ts';
import { hint } from './read.ts';
import type { DestinationExpectation, Expectation, Failure, HeadExpectation, MeshTest, TestResult } from './types.ts';

/** Shares are sums of products of decimal fractions. */
const SAME = 1e-9;

export interface Judged extends TestResult {
  readonly touched: ReadonlySet<string>;
}

export function judgeTest(mesh: LabMesh, test: MeshTest): Judged {
  let answer: Explanation;
  try {
    answer = explain(mesh, test.question);
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    const field = error.code === 'lab.from' ? 'request.from' : error.code === 'lab.to' ? 'request.to' : 'request';
    const failures = [{ line: test.lineOf(field), message: error.message }];
    return { test, failures, outcomes: [], decidedBy: [], touched: new Set() };
  }
  const failures = new Judge(mesh, test, answer.ways).failures();
  const rules = new Map<string, RuleReference>();
  for (const o of answer.outcomes) for (const r of o.from) rules.set(`${r.resource}#${r.field}`, r);
  const { touched } = answer;
  return { test, failures, outcomes: outcomeLines(answer.outcomes), decidedBy: [...rules.values()], touched };
}

const ENDS: Readonly<Record<End, string>> = {
  allowed: 'allowed',
  denied: 'denied',
  answered: 'answered by the mesh',
  fault: 'ended by an injected fault',
  unreachable: 'sent nowhere',
};

class Judge {
  readonly #mesh: LabMesh;
  readonly #test: MeshTest;
  readonly #all: readonly Way[];
  /** Without those that an injected fault ends: they are judged as such alone. */
  readonly #ways: readonly Way[];
  /** Of these, what is sent to somebody. */
  readonly #sent: readonly Way[];
  readonly #failures: Failure[] = [];

  constructor(mesh: LabMesh, test: MeshTest, ways: readonly Way[]) {
    this.#mesh = mesh;
    this.#test = test;
    this.#all = ways;
    this.#ways = ways.filter((w) => w.end !== 'fault');
    this.#sent = this.#ways.filter((w) => w.cluster !== '' || w.endpoint !== '');
  }

  failures(): readonly Failure[] {
    const e = this.#test.expect;
    this.#decision(e);
    this.#by(e);
    this.#faults(e);
    if (e.status !== undefined) this.#each('expect.status', this.#ways, String(e.status), (w) => statusOf(w));
    if (e.location !== undefined) this.#each('expect.location', this.#ways, e.location, (w) => w.location || 'none');
    if (e.to) this.#shares('expect.to', e.to, (w, d) => this.#goesTo(w, d), true);
    if (e.mirrors) this.#mirrors(e.mirrors);
    if (e.timeoutMs !== undefined) this.#each('expect.timeout', this.#sent, ms(e.timeoutMs), (w) => ms(w.timeoutMs));
    if (e.retries) this.#retries(e.retries);
    if (e.mtls !== undefined) {
      const how = (yes: boolean): string => (yes ? 'mTLS' : 'no mTLS');
      this.#each('expect.mtls', this.#sent, how(e.mtls), (w) => how(w.mtls));
    }
    if (e.sent) this.#head('expect.sent', e.sent, (w) => w.sent);
    if (e.response) {
      // What would be removed has to be there before.
      const before = e.response.without.flatMap((name) => [name, '']);
      const ways = this.#ways.filter((w) => w.end === 'allowed' || w.end === 'answered');
      this.#head('expect.response', e.response, (w) => headAfter(before, w), ways);
    }
    return this.#failures;
  }

  #fail(field: string, message: string): void {
    this.#failures.push({ line: this.#test.lineOf(field), message });
  }

  #share(of: readonly Way[], among: readonly Way[] = this.#all): number {
    const sum = (list: readonly Way[]): number => list.reduce((s, w) => s + w.probability, 0);
    return of.length === 0 ? 0 : sum(of) / sum(among);
  }

  #decision({ decision }: Expectation): void {
    if (decision === undefined) return;
    if (this.#ways.length === 0) {
      this.#fail('expect.decision', `${decision} is expected, and a fault ends each request`);
      return;
    }
    const wrong = this.#ways.filter((w) => w.end !== decision);
    for (const end of new Set(wrong.map((w) => w.end))) {
      const some = wrong.filter((w) => w.end === end);
      const why = [...new Set(some.map(whyText).filter(Boolean))].join('; ');
      const what = `${percent(this.#share(some, this.#ways))} of the requests are ${ENDS[end]}`;
      this.#fail('expect.decision', `${decision} is expected, and ${what}${why && ` (${why})`}`);
    }
  }

  #by({ by }: Expectation): void {
    if (by.length === 0) return;
    const rules = this.#mesh.rules();
    const written = new Set([...this.#mesh.written, ...rules.values()].map((r) => r.resource));
    for (const [i, text] of by.entries()) {
      const field = `expect.by[${i}]`;
      const hash = text.indexOf('#');
      const resource = hash < 0 ? text : text.slice(0, hash);
      const path = hash < 0 ? '' : text.slice(hash + 1);
      if (!written.has(resource)) {
        this.#fail(field, `there is no ${resource}${hint(resource, [...written])}`);
        continue;
      }
      const without = this.#ways.filter((w) => !w.from.some((r) => r.resource === resource && within(r.field, path)));
      if (without.length === 0 && this.#ways.length > 0) continue;
      const others = new Set(
        without.flatMap((w) => w.from.map((r) => (r.field ? `${r.resource}#${r.field}` : r.resource))),
      );
      const share =
        this.#ways.length === 0 ? 'no request' : `${percent(this.#share(without, this.#ways))} of the requests`;
      this.#fail(field, `${text} does not decide ${share}; what does: ${[...others].join(', ') || 'no rule'}`);
    }
  }

  #faults({ delay, abort }: Expectation): void {
    const near = (a: number, b: number): boolean => Math.abs(a - b / 100) < SAME;
    const delayed = this.#all.filter((w) => w.delayMs > 0);
    const share = this.#share(delayed);
    if (!delay && share > 0) {
      const times = [...new Set(delayed.map((w) => ms(w.delayMs)))].join(', ');
      this.#fail('expect', `${percent(share)} of the requests are delayed by ${times}, and no fault.delay is expected`);
    } else if (delay) {
      const as = this.#share(delayed.filter((w) => w.delayMs === delay.delayMs));
      if (!near(as, delay.percentage) || share - as > SAME) {
        const times = [...new Set(delayed.map((w) => ms(w.delayMs)))].join(', ');
        const real = share > 0 ? `${percent(share)} by ${times}` : 'none';
        this.#fail(
          'expect.fault.delay',
          `${delay.percentage} % delayed by ${ms(delay.delayMs)} are expected; it is ${real}`,
        );
      }
    }
    const aborted = this.#all.filter((w) => w.end === 'fault');
    const ended = this.#share(aborted);
    const kinds = [
      ...new Set(aborted.map((w) => (w.grpcStatus >= 0 ? `grpc-status ${w.grpcStatus}` : String(w.status)))),
    ];
    if (!abort && ended > 0) {
      const how = `${percent(ended)} of the requests are ended by a fault with ${kinds.join(', ')}`;
      this.#fail('expect', `${how}, and no fault.abort is expected`);
    } else if (abort) {
      const wanted = aborted.filter(
        (w) =>
          (abort.httpStatus === undefined || (w.grpcStatus < 0 && w.status === abort.httpStatus)) &&
          (abort.grpcStatus === undefined || w.grpcStatus === abort.grpcStatus),
      );
      const as = this.#share(wanted);
      if (!near(as, abort.percentage) || ended - as > SAME) {
        const real = ended > 0 ? `${percent(ended)} with ${kinds.join(', ')}` : 'none';
        this.#fail('expect.fault.abort', `${abort.percentage} % ended by the fault are expected; it is ${real}`);
      }
    }
  }

  #retries({ attempts, perTryTimeoutMs, retryOn }: NonNullable<Expectation['retries']>): void {
    const field = 'expect.retries';
    if (attempts !== undefined) this.#each(field, this.#sent, String(attempts), (w) => String(w.retries));
    if (perTryTimeoutMs !== undefined)
      this.#each(`${field}.perTryTimeout`, this.#sent, ms(perTryTimeoutMs), (w) => ms(w.perTryTimeoutMs));
    if (retryOn === undefined) return;
    const same = (list: string): string =>
      list
        .split(',')
        .map((x) => x.trim())
        .filter(Boolean)
        .sort()
        .join(',') || 'defaults';
    this.#each(`${field}.retryOn`, this.#sent, same(retryOn), (w) => same(w.retryOn.join(',')));
  }

  /** All of `ways` must show one text. */
  #each(field: string, ways: readonly Way[], wanted: string, show: (w: Way) => string): void {
    if (ways.length === 0) {
      this.#fail(field, `${wanted} is expected, and no request gets there`);
      return;
    }
    const wrong = ways.filter((w) => show(w) !== wanted);
    if (wrong.length === 0) return;
    const what = field.slice(field.indexOf('.') + 1);
    const texts = [...new Set(wrong.map(show))].join(', ');
    const part = wrong.length < ways.length ? `, for ${percent(this.#share(wrong, ways))} of the requests` : '';
    this.#fail(field, `${what}: ${wanted} is expected; it is ${texts}${part}`);
  }

  #shares(
    field: string,
    wanted: readonly DestinationExpectation[],
    matches: (w: Way, d: DestinationExpectation) => boolean,
    all: boolean,
  ): void {
    const ways = this.#sent;
    if (ways.length === 0) {
      this.#fail(field, 'no request is sent to anybody');
      return;
    }
    for (const d of wanted) {
      const share = this.#share(
        ways.filter((w) => matches(w, d)),
        ways,
      );
      const good = d.share === undefined ? share > 0 : Math.abs(share - d.share / 100) < SAME;
      const want = d.share === undefined ? 'some' : `${d.share} %`;
      const message = `${want} to ${named(d)} ${d.share === undefined ? 'is' : 'are'} expected; it is ${percent(share)}`;
      if (!good) this.#failures.push({ line: d.line, message });
    }
    const others = all ? ways.filter((w) => !wanted.some((d) => matches(w, d))) : [];
    if (others.length === 0) return;
    const where = [...new Set(others.map((w) => w.cluster || w.endpoint))].join(', ');
    this.#fail(field, `${percent(this.#share(others, ways))} of the requests go to ${where}, which is not expected`);
  }

  #mirrors(wanted: readonly DestinationExpectation[]): void {
    const to = (cluster: string, d: DestinationExpectation): boolean => clusterIs(cluster, d);
    if (wanted.length > 0) this.#shares('expect.mirrors', wanted, (w, d) => w.mirrors.some((m) => to(m, d)), false);
    const others = new Set(this.#sent.flatMap((w) => w.mirrors.filter((m) => !wanted.some((d) => to(m, d)))));
    if (others.size > 0)
      this.#fail('expect.mirrors', `requests are copied to ${[...others].join(', ')}, which is not expected`);
  }

  #goesTo(w: Way, d: DestinationExpectation): boolean {
    if (d.workload !== undefined) {
      const workload = this.#mesh.instances.find((i) => i.name === w.instance)?.workload;
      if (workload !== d.workload) return false;
    }
    return clusterIs(w.cluster, d);
  }

  #head(
    field: string,
    wanted: HeadExpectation,
    of: (w: Way) => readonly string[],
    ways: readonly Way[] = this.#sent.filter((w) => w.sent.length > 0),
  ): void {
    const check = (name: string, at: string, value: string): void =>
      this.#each(at, ways, value, (w) => headValue(of(w), name) ?? 'none');
    if (wanted.path !== undefined) check(':path', `${field}.path`, wanted.path);
    if (wanted.host !== undefined) check(':authority', `${field}.host`, wanted.host);
    for (const [name, value] of wanted.headers) check(name, `${field}.headers.${name}`, value);
    for (const name of wanted.without) {
      const there = ways.filter((w) => headValue(of(w), name) !== undefined);
      if (there.length > 0) this.#fail(`${field}.without`, `no ${name} is expected, and there is one`);
    }
  }
}

function headAfter(before: readonly string[], w: Way): string[] {
  const head = [...before];
  applyHeaderOps(head, w.responseOps);
  return head;
}

/** `path` is the field or one above it. */
function within(field: string, path: string): boolean {
  return path === '' || field === path || field.startsWith(`${path}.`) || field.startsWith(`${path}[`);
}

/** Clusters are named `outbound|port|subset|host`; a service by its host or its first labels. */
function clusterIs(cluster: string, d: DestinationExpectation): boolean {
  const [, , subset = '', host = cluster] = cluster.split('|');
  if (d.subset !== undefined && d.subset !== subset) return false;
  return d.service === undefined || host === d.service || host.startsWith(`${d.service}.`);
}

function named(d: DestinationExpectation): string {
  const parts = [
    d.service !== undefined && `service ${d.service}`,
    d.subset !== undefined && `subset ${d.subset || 'none'}`,
    d.workload !== undefined && `workload ${d.workload}`,
  ];
  return parts.filter(Boolean).join(', ') || 'anybody';
}

function statusOf(w: Way): string {
  return w.status === 'application' ? 'what the application answers' : String(w.status);
}

function whyText(w: Way): string {
  const rules = w.from.map((r) => (r.field ? `${r.resource}#${r.field}` : r.resource));
  return [w.details, rules.at(-1)].filter(Boolean).join(', by ');
}

function ms(value: number): string {
  if (value === 0) return 'none';
  return value % 1000 === 0 ? `${value / 1000}s` : `${value}ms`;
}
