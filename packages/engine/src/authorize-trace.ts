/** The policies of a workload one after the other, with what each rule said of a request and why: for people, not for requests. */
import { type AuthorizationRequest, type CompiledAuthorization, type CompiledPolicy, Subject } from './authorize.ts';
import type { FieldTest } from './authorize-rule.ts';
import type { CompiledTable } from './authorize-table.ts';

export interface AuthorizationTrial {
  readonly list: 'custom' | 'deny' | 'allow' | 'audit' | 'shadowDeny' | 'shadowAllow' | 'table';
  /** `namespace/name`. */
  readonly policy: string;
  readonly ref: string;
  readonly matched: boolean;
  readonly because: string;
}

const LISTS = ['custom', 'deny', 'allow', 'audit', 'shadowDeny', 'shadowAllow'] as const;

/** Every rule that is looked at, in order: as `authorize`, a matching rule ends its list (but CUSTOM's), and a denial or an ALLOW all. */
export function traceAuthorization(a: CompiledAuthorization, request: AuthorizationRequest): AuthorizationTrial[] {
  const subject = new Subject(request);
  const tcp = request.head === undefined;
  const trials: AuthorizationTrial[] = [];
  let decided = false;
  let denied = false;
  for (const list of LISTS) {
    if (decided && (list === 'deny' || list === 'allow')) continue;
    const hit = traceList(list, a[list], subject, tcp, trials);
    // Whom a CUSTOM rule asks may say yes: what comes after it counts as well.
    if (hit && (list === 'deny' || list === 'allow')) decided = true;
    if ((list === 'deny' && hit) || (list === 'allow' && !hit && a.allow.length > 0)) denied = true;
  }
  if (!denied) for (const table of a.tables) if (!traceTable(table, subject, tcp, trials)) break;
  return trials;
}

function traceList(
  list: AuthorizationTrial['list'],
  policies: readonly CompiledPolicy[],
  subject: Subject,
  tcp: boolean,
  out: AuthorizationTrial[],
): boolean {
  for (const { label, ref, rules } of policies) {
    if (rules.length === 0) {
      out.push({ list, policy: label, ref, matched: false, because: 'it has no rules, so it matches nothing' });
    }
    for (const rule of rules) {
      const test = tcp ? rule.tcp : rule.http;
      const matched = test?.(subject) === true;
      const because = !test
        ? 'it has fields that only HTTP has: for a connection the rule does not exist'
        : matched
          ? held(rule.from, rule.to, rule.when, subject, tcp)
          : failed(rule.from, rule.to, rule.when, subject, tcp);
      out.push({ list, policy: label, ref: rule.result.ref || ref, matched, because });
      if (matched && list !== 'custom') return true;
    }
  }
  return false;
}

/** Returns whether it allows. */
function traceTable(table: CompiledTable, subject: Subject, tcp: boolean, out: AuthorizationTrial[]): boolean {
  if (!table.holds(subject.request.destPort)) return true;
  for (const row of table.rows) {
    const test = tcp ? row.tcp : row.http;
    const matched = test?.(subject) === true;
    const said = row.result.allow ? 'allows' : 'denies';
    const because = !test
      ? 'it asks for what only HTTP has: for a connection it does not exist'
      : matched
        ? `${said}: ${held(row.from, row.to, row.when, subject, tcp)}`
        : failed(row.from, row.to, row.when, subject, tcp);
    out.push({ list: 'table', policy: row.label, ref: row.result.ref, matched, because });
    if (matched) return row.result.allow;
  }
  const { allow } = table.otherwise;
  const because = `${allow ? 'allows' : 'denies'}: nothing before it matches`;
  out.push({ list: 'table', policy: table.label, ref: table.ref, matched: true, because });
  return allow;
}

type Lists = readonly (readonly FieldTest[])[];

const relevant = (fields: readonly FieldTest[], tcp: boolean): readonly FieldTest[] =>
  tcp ? fields.filter((f) => !f.http) : fields;

function held(from: Lists, to: Lists, when: readonly FieldTest[], subject: Subject, tcp: boolean): string {
  const first = (lists: Lists): readonly FieldTest[] =>
    lists.map((l) => relevant(l, tcp)).find((l) => l.every((f) => f.test(subject))) ?? [];
  const fields = [...first(from), ...first(to), ...relevant(when, tcp)];
  return fields.length === 0 ? 'it asks for nothing' : fields.map((f) => f.what).join('; ');
}

function failed(from: Lists, to: Lists, when: readonly FieldTest[], subject: Subject, tcp: boolean): string {
  for (const lists of [from, to]) {
    const tried = lists.map((l) => relevant(l, tcp).filter((f) => !f.test(subject)));
    if (tried.length > 0 && tried.every((l) => l.length > 0))
      return `not ${tried.map((l) => l.map((f) => f.what).join(' and ')).join('; nor ')} (${described(subject)})`;
  }
  const condition = relevant(when, tcp).find((f) => !f.test(subject));
  return condition ? `not "${condition.what}" (${described(subject)})` : 'it does not match';
}

/** What the rules could look at. */
function described(s: Subject): string {
  const who = s.principal ?? `no identity, from ${s.request.remoteIp}`;
  const what = s.request.head === undefined ? `port ${s.request.destPort}` : `${s.method} ${s.path}`;
  return `the caller is ${who}, ${what}`;
}
