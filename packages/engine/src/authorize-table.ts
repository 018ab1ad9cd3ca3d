/**
 * What APIs other than Istio's say of who may call: rows in order, of which the first that matches decides. Linkerd's
 * routes and Consul's intentions are of this kind.
 */

import { create } from '@bufbuild/protobuf';
import {
  type AuthorizationRow,
  type AuthorizationRule,
  AuthorizationRuleSchema,
  type AuthorizationTable,
  type HttpMatch,
  type TokenNeed,
} from '@weft/plan';
import type { AuthorizationResult, Subject } from './authorize.ts';
import { RuleIndex } from './authorize-index.ts';
import {
  type CompiledRuleTests,
  claimOf,
  combine,
  compileRule,
  type FieldTest,
  type RuleTest,
} from './authorize-rule.ts';
import { canonicalHostPattern, canonicalPattern } from './canonical.ts';
import { compileKeyMatches, compileStringMatch, type KeyMatcher, type StringMatcher } from './match.ts';

export interface CompiledRow extends CompiledRuleTests {
  readonly label: string;
  readonly result: AuthorizationResult;
}

export interface CompiledTable {
  readonly ref: string;
  readonly label: string;
  readonly rows: readonly CompiledRow[];
  readonly usesPaths: boolean;
  /** Whether it says something of a port of the workload. */
  holds(port: number): boolean;
  readonly http: RuleIndex<AuthorizationResult>;
  readonly tcp: RuleIndex<AuthorizationResult>;
  /** Where no row matches. */
  readonly otherwise: AuthorizationResult;
}

export function compileTable(table: AuthorizationTable): CompiledTable {
  const label = `${table.namespace}/${table.name}`;
  const sources = table.rows.map((row) => create(AuthorizationRuleSchema, { ref: row.ref, from: row.from }));
  const rows = table.rows.map((row, i) => compileRow(row, sources[i], label));
  const indexed = (kind: 'http' | 'tcp') =>
    rows.flatMap((row, i) => {
      const test = row[kind];
      return test ? [{ test, source: sources[i], result: row.result }] : [];
    });
  const { ports, notPorts } = table;
  return {
    ref: table.ref,
    label,
    rows,
    usesPaths: table.rows.some((row) => row.http.some((m) => m.uri !== undefined)),
    holds: (port) => (ports.length === 0 || ports.includes(port)) && !notPorts.includes(port),
    http: new RuleIndex(indexed('http'), true),
    tcp: new RuleIndex(indexed('tcp'), false),
    otherwise: resultOf(table.allow, table.ref, label, label, false),
  };
}

/** A denial is told as Istio's are, so that whoever counts those counts these. */
function resultOf(allow: boolean, ref: string, policy: string, label: string, audit: boolean): AuthorizationResult {
  return Object.freeze({
    allow,
    ref,
    policy,
    details: allow ? '' : `rbac_access_denied_matched_policy[${label}]`,
    ...(audit && { audit: Object.freeze([label]) }),
  });
}

function compileRow(row: AuthorizationRow, source: AuthorizationRule, table: string): CompiledRow {
  const { from } = compileRule(source, !row.allow);
  const to: FieldTest[] = [];
  if (row.hosts.length > 0) {
    const hosts = row.hosts.map(hostTest);
    to.push({ http: true, what: `hosts ${row.hosts.join(', ')}`, test: (s) => hosts.some((h) => h(s.host ?? '')) });
  }
  if (row.http.length > 0) {
    const tests = row.http.map((m) => httpTest(m, row.ref, !row.allow));
    const what = row.http.map(httpText).join(' or ');
    to.push({ http: true, what, test: (s) => tests.some((t) => t(s)) });
  }
  if (row.tokens.length > 0) {
    const { tokens } = row;
    to.push({ http: true, what: tokens.map(tokenText).join(' or '), test: (s) => tokens.some((t) => hasToken(s, t)) });
  }
  const lists = to.length === 0 ? [] : [to];
  const label = row.label || table;
  return {
    from,
    to: lists,
    when: [],
    http: row.tcpOnly ? () => false : combine(from, lists, []),
    tcp: to.length > 0 ? undefined : combine(from, [], []),
    label,
    result: resultOf(row.allow, row.ref, label, label, row.audit),
  };
}

function hostTest(pattern: string): (host: string) => boolean {
  const text = canonicalHostPattern(pattern);
  if (!text.startsWith('*.')) return (host) => host === text;
  return (host) => host.length > text.length - 1 && host.endsWith(text.slice(1));
}

/**
 * `wide`: the row denies. What stands several times in a request is read in several ways by applications: a denying row
 * matches if any reading does, an allowing one only if all do.
 */
function httpTest(m: HttpMatch, ref: string, wide: boolean): RuleTest {
  const uri = compileStringMatch(m.uri, `${ref} uri`, m.ignoreUriCase, canonicalPattern);
  const method = compileStringMatch(m.method, `${ref} method`);
  const headers = compileKeyMatches(m.headers, ref, true);
  const without = compileKeyMatches(m.withoutHeaders, ref, true);
  const params = compileKeyMatches(m.queryParams, ref, false);
  return (s) =>
    holds(uri, s.path) &&
    holds(method, s.method) &&
    headers.every((k) => readings(s.request.head, k, wide, true)) &&
    without.every((k) => readings(s.request.head, k, wide, false)) &&
    params.every((k) => paramReadings(s.pseudo(':path') ?? '', k, wide));
}

/** Values are texts: a number, or a list that has the text, is another (as in Consul). */
function hasToken({ request: { token } }: Subject, need: TokenNeed): boolean {
  if (!token) return false;
  const { providers = [], claims } = token;
  for (const name of need.providers) if (!providers.includes(name)) return false;
  for (const { path, value } of need.claims) if (claimOf(claims, path) !== value) return false;
  return true;
}

function tokenText({ providers, claims }: TokenNeed): string {
  const said = claims.map((c) => `${c.path.join('.')} ${c.value}`);
  return `a token of ${[...new Set(providers)].join(' and ')}${said.length > 0 ? ` with ${said.join(', ')}` : ''}`;
}

function holds(matcher: StringMatcher | undefined, value: string | undefined): boolean {
  return matcher === undefined || matcher.test(value);
}

function readings(head: readonly string[] | undefined, k: KeyMatcher, wide: boolean, wanted: boolean): boolean {
  const name = k.name === 'host' ? ':authority' : k.name;
  const found: string[] = [];
  for (let i = 0; head && i < head.length; i += 2) if (head[i] === name) found.push(head[i + 1]);
  if (found.length === 0) return !wanted;
  if (found.length > 1) found.push(found.join(','));
  return any(found, wide, (v) => (k.value === undefined || k.value.test(v)) === wanted);
}

function paramReadings(path: string, k: KeyMatcher, wide: boolean): boolean {
  const mark = path.indexOf('?');
  const found = mark < 0 ? [] : new URLSearchParams(path.slice(mark + 1)).getAll(k.name);
  return found.length > 0 && any(found, wide, (v) => k.value === undefined || k.value.test(v));
}

function any(found: readonly string[], wide: boolean, test: (value: string) => boolean): boolean {
  return wide ? found.some(test) : found.every(test);
}

function httpText(m: HttpMatch): string {
  const words = [m.method?.kind.value, m.uri && `${m.uri.kind.case} ${m.uri.kind.value}`];
  for (const k of m.headers) words.push(`header ${k.name} ${k.value?.kind.case ?? 'present'}`);
  for (const k of m.withoutHeaders) words.push(`not header ${k.name} ${k.value?.kind.case ?? 'present'}`);
  for (const k of m.queryParams) words.push(`parameter ${k.name}`);
  return words.filter((w) => w !== undefined).join(' ') || 'any request';
}
