/** One rule of an AuthorizationPolicy as a test, for HTTP and for TCP. */
import { type Ip, type IpBlock, inBlock, parseIpBlock } from '@weft/base';
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationRule,
  AuthorizationSource,
} from '@weft/plan';
import type { Subject, VerifiedToken } from './authorize.ts';
import { canonicalHostPattern, canonicalPattern } from './canonical.ts';

export type RuleTest = (subject: Subject) => boolean;
type ValueTest = (value: string) => boolean;

/** `http` marks a test that has no meaning on TCP. */
export interface FieldTest {
  readonly http: boolean;
  /** The field as people write it, with its values. */
  readonly what: string;
  readonly test: RuleTest;
}

/** A rule's tests, and the fields that they are made of, for who wants to know why. */
export interface CompiledRuleTests {
  readonly http: RuleTest;
  /** Undefined: the rule does not exist for TCP. */
  readonly tcp: RuleTest | undefined;
  readonly from: readonly (readonly FieldTest[])[];
  readonly to: readonly (readonly FieldTest[])[];
  readonly when: readonly FieldTest[];
}

/**
 * Compiles a rule. On TCP a field that only HTTP has makes an ALLOW rule vanish, and is left out of the others, which
 * makes them wider (`widen`): both err on the side of denying.
 */
export function compileRule(rule: AuthorizationRule, widen: boolean): CompiledRuleTests {
  const from = rule.from.map(sourceTests);
  const to = rule.to.map(operationTests);
  const when = rule.when.map((condition) => conditionTest(condition, widen));
  const fields = [...from.flat(), ...to.flat(), ...when];
  const tcpPossible = widen || fields.every((f) => !f.http);
  return {
    from,
    to,
    when,
    http: combine(from, to, when),
    tcp: tcpPossible
      ? combine(
          from.map((list) => list.filter((f) => !f.http)),
          to.map((list) => list.filter((f) => !f.http)),
          when.filter((f) => !f.http),
        )
      : undefined,
  };
}

/** All of one of `from`, all of one of `to`, and all of `when`; a list without alternatives holds. */
export function combine(
  from: readonly (readonly FieldTest[])[],
  to: readonly (readonly FieldTest[])[],
  when: readonly FieldTest[],
): RuleTest {
  const anyOf = (lists: readonly (readonly FieldTest[])[]): RuleTest => {
    if (lists.length === 0) return () => true;
    return (s) => {
      for (const list of lists) if (holdAll(list, s)) return true;
      return false;
    };
  };
  const source = anyOf(from);
  const operation = anyOf(to);
  return (s) => source(s) && operation(s) && holdAll(when, s);
}

function holdAll(tests: readonly FieldTest[], subject: Subject): boolean {
  for (const { test } of tests) if (!test(subject)) return false;
  return true;
}

/** Adds the tests of a list and of its negation. An empty list says nothing. */
function field<T>(
  out: FieldTest[],
  name: string,
  http: boolean,
  values: readonly string[],
  notValues: readonly string[],
  compile: (value: string) => (value: T) => boolean,
  read: (subject: Subject) => T | undefined,
): void {
  if (values.length > 0) {
    const tests = values.map(compile);
    out.push({ http, what: `${name} ${values.join(', ')}`, test: (s) => matchesAny(tests, read(s)) });
  }
  if (notValues.length > 0) {
    const tests = notValues.map(compile);
    out.push({ http, what: `${negated(name)} ${notValues.join(', ')}`, test: (s) => !matchesAny(tests, read(s)) });
  }
}

/** `paths` → `notPaths`. */
function negated(name: string): string {
  return `not${name[0].toUpperCase()}${name.slice(1)}`;
}

/** What is absent matches nothing; hence it passes every `not` list. */
function matchesAny<T>(tests: readonly ((value: T) => boolean)[], value: T | undefined): boolean {
  if (value === undefined) return false;
  for (const test of tests) if (test(value)) return true;
  return false;
}

function sourceTests(s: AuthorizationSource): FieldTest[] {
  const out: FieldTest[] = [];
  field(out, 'principals', false, s.principals, s.notPrincipals, principalPattern, (r) => r.principal);
  field(out, 'namespaces', false, s.namespaces, s.notNamespaces, stringPattern, (r) => r.namespace);
  field(out, 'serviceAccounts', false, s.serviceAccounts, s.notServiceAccounts, exact, (r) => r.serviceAccount);
  field(out, 'trustDomains', false, s.trustDomains, s.notTrustDomains, stringPattern, (r) => r.trustDomain);
  field(
    out,
    'requestPrincipals',
    true,
    s.requestPrincipals,
    s.notRequestPrincipals,
    stringPattern,
    (r) => r.request.token?.principal,
  );
  field(out, 'remoteIpBlocks', false, s.remoteIpBlocks, s.notRemoteIpBlocks, block, (r) => r.originalIp);
  field(out, 'ipBlocks', false, s.ipBlocks, s.notIpBlocks, block, (r) => r.remoteIp);
  return out;
}

function operationTests(o: AuthorizationOperation): FieldTest[] {
  const out: FieldTest[] = [];
  // A host is meant with and without its port.
  if (o.hosts.length > 0) {
    const tests = o.hosts.map((h) => stringPattern(canonicalHostPattern(h)));
    const test: RuleTest = (s) => matchesAny(tests, s.host) || matchesAny(tests, s.authority);
    out.push({ http: true, what: `hosts ${o.hosts.join(', ')}`, test });
  }
  if (o.notHosts.length > 0) {
    const tests = o.notHosts.map((h) => stringPattern(canonicalHostPattern(h)));
    const test: RuleTest = (s) => !matchesAny(tests, s.host) && !matchesAny(tests, s.authority);
    out.push({ http: true, what: `notHosts ${o.notHosts.join(', ')}`, test });
  }
  field(out, 'ports', false, o.ports, o.notPorts, port, (r) => r.request.destPort);
  field(out, 'methods', true, o.methods, o.notMethods, stringPattern, (r) => r.method);
  field(out, 'paths', true, o.paths, o.notPaths, pathPattern, (r) => r.path);
  return out;
}

function conditionText(c: AuthorizationCondition): string {
  const not = c.notValues.length > 0 ? ` not ${c.notValues.join(', ')}` : '';
  return `when ${c.key}${c.values.length > 0 ? ` is ${c.values.join(', ')}` : ''}${not}`;
}

/** `wide`: the rule denies, so that of several readings of a request the one that matches counts. */
function conditionTest(c: AuthorizationCondition, wide: boolean): FieldTest {
  const tests: FieldTest[] = [];
  const what = conditionText(c);
  const add = <T>(
    http: boolean,
    compile: (v: string) => (value: T) => boolean,
    read: (s: Subject) => T | undefined,
  ): void => field(tests, 'values', http, c.values, c.notValues, compile, read);
  const header = /^request\.headers\[(.+)\]$/.exec(c.key);
  if (header) return headerTest(header[1].toLowerCase(), c, wide);
  if (c.key.startsWith('request.auth.')) return tokenTest(c, wide);
  switch (c.key) {
    case 'source.ip':
      add<Ip>(false, block, (s) => s.remoteIp);
      break;
    case 'remote.ip':
      add<Ip>(false, block, (s) => s.originalIp);
      break;
    case 'source.namespace':
      add<string>(false, stringPattern, (s) => s.namespace);
      break;
    case 'source.principal':
      add<string>(false, principalPattern, (s) => s.principal);
      break;
    case 'destination.ip':
      add<Ip>(false, block, (s) => s.localIp);
      break;
    case 'destination.port':
      add<number>(false, port, (s) => s.request.destPort);
      break;
    case 'connection.sni':
      add<string>(false, stringPattern, (s) => s.request.sni);
      break;
    default:
      // An unknown key is nothing we could look at. It may not open a way: a denying rule goes without the condition, an
      // allowing one never holds.
      return { http: c.key.startsWith('request.'), what, test: () => wide };
  }
  return { http: false, what, test: (s) => tests.every((t) => t.test(s)) };
}

/**
 * A header may come several times, and applications differ in what they make of it. A denying rule holds if any reading
 * of it does (each field, or all joined), an allowing one only if every reading does.
 */
function headerTest(name: string, c: AuthorizationCondition, wide: boolean): FieldTest {
  if (name === 'host' || name === ':authority') return hostHeaderTest(c);
  const values = c.values.map(stringPattern);
  const notValues = c.notValues.map(stringPattern);
  const holds = (value: string | undefined): boolean =>
    (values.length === 0 || matchesAny(values, value)) && (notValues.length === 0 || !matchesAny(notValues, value));
  return {
    http: true,
    what: conditionText(c),
    test: (s) => {
      const head = s.request.head ?? [];
      const found: string[] = [];
      for (let i = 0; i < head.length; i += 2) if (head[i] === name) found.push(head[i + 1]);
      if (found.length === 0) return holds(undefined);
      if (found.length > 1) found.push(found.join(','));
      return wide ? found.some(holds) : found.every(holds);
    },
  };
}

/** As `hosts`: a host has one spelling, and is meant with and without its port. */
function hostHeaderTest(c: AuthorizationCondition): FieldTest {
  const [values, notValues] = [c.values, c.notValues].map((l) => l.map((v) => stringPattern(canonicalHostPattern(v))));
  const is = (tests: readonly ValueTest[], s: Subject): boolean =>
    matchesAny(tests, s.host) || matchesAny(tests, s.authority);
  return {
    http: true,
    what: conditionText(c),
    test: (s) => (values.length === 0 || is(values, s)) && !is(notValues, s),
  };
}

/** `request.auth.principal|audiences|presenter|claims[a][b]`: any of a claim's values may match, none of `notValues`. */
function tokenTest(c: AuthorizationCondition, wide: boolean): FieldTest {
  const what = conditionText(c);
  const read = tokenReader(c.key);
  if (!read) return { http: true, what, test: () => wide };
  const values = c.values.map(stringPattern);
  const notValues = c.notValues.map(stringPattern);
  return {
    http: true,
    what,
    test: (s) => {
      const token = s.request.token;
      const got = token ? read(token) : [];
      if (values.length > 0 && !got.some((v) => matchesAny(values, v))) return false;
      return !got.some((v) => matchesAny(notValues, v));
    },
  };
}

function tokenReader(key: string): ((token: VerifiedToken) => readonly string[]) | undefined {
  if (key === 'request.auth.principal') return (t) => [t.principal];
  if (key === 'request.auth.audiences') return (t) => t.audiences;
  if (key === 'request.auth.presenter') return (t) => (t.presenter === undefined ? [] : [t.presenter]);
  const claims = /^request\.auth\.claims((?:\[[^[\]]+\])+)$/.exec(key);
  if (!claims) return undefined;
  const names = claims[1].slice(1, -1).split('][');
  return (t) => claimTexts(claimOf(t.claims, names), isWordClaim(names, t.wordClaims));
}

/** A claim by the names on the way to it. */
export function claimOf(claims: Readonly<Record<string, unknown>>, names: readonly string[]): unknown {
  let at: unknown = claims;
  for (const name of names) {
    if (typeof at !== 'object' || at === null || Array.isArray(at) || !Object.hasOwn(at, name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}

/** Lists of words with blanks between them, by their standards (RFC 8693 4.2) or by habit. */
const WORD_CLAIMS = ['scope', 'permission'];

export function isWordClaim(names: readonly string[], more?: readonly string[]): boolean {
  return names.length === 1 && (WORD_CLAIMS.includes(names[0]) || more?.includes(names[0]) === true);
}

/**
 * A claim's values: one text, or those of a list; with `words` also those of a text. Of no other claim: a user who may call
 * himself "an admin" is none.
 */
export function claimTexts(claim: unknown, words = false): readonly string[] {
  if (typeof claim === 'string')
    return words && claim.includes(' ') ? [claim, ...claim.split(' ').filter((w) => w !== '')] : [claim];
  if (typeof claim === 'number' || typeof claim === 'boolean') return [String(claim)];
  return Array.isArray(claim) ? claim.filter((v) => typeof v === 'string' || typeof v === 'number').map(String) : [];
}

function exact(pattern: string): ValueTest {
  return (value) => value === pattern;
}

/** Istio's strings: exact, `prefix*`, `*suffix`, and `*` for anything that is not empty. */
export function stringPattern(pattern: string): ValueTest {
  if (pattern === '*') return (value) => value !== '';
  if (pattern.endsWith('*')) {
    const prefix = pattern.slice(0, -1);
    return (value) => value.startsWith(prefix);
  }
  if (pattern.startsWith('*')) {
    const suffix = pattern.slice(1);
    return (value) => value.endsWith(suffix);
  }
  return exact(pattern);
}

function principalPattern(pattern: string): ValueTest {
  return stringPattern(pattern.startsWith('spiffe://') ? pattern.slice(9) : pattern);
}

function port(text: string): (value: number) => boolean {
  const wanted = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  return (value) => value === wanted;
}

function block(text: string): (ip: Ip) => boolean {
  const compiled: IpBlock | undefined = parseIpBlock(text);
  return (ip) => compiled !== undefined && inBlock(ip, compiled);
}

function pathPattern(pattern: string): ValueTest {
  return pattern.includes('{*}') || pattern.includes('{**}')
    ? pathTemplate(canonicalPattern(pattern))
    : stringPattern(canonicalPattern(pattern));
}

/** `{*}` is one segment that is not empty, `{**}` one or more segments that may be empty: `/a/{**}` covers `/a/`. */
function pathTemplate(template: string): ValueTest {
  const want = template.split('/');
  return (path) => {
    const have = path.split('/');
    let w = 0;
    let h = 0;
    let resumeW = -1;
    let resumeH = -1;
    while (h < have.length) {
      if (w < want.length && want[w] === '{**}') {
        resumeW = ++w;
        resumeH = ++h; // at least one segment
      } else if (w < want.length && (want[w] === '{*}' ? have[h] !== '' : want[w] === have[h])) {
        w++;
        h++;
      } else if (resumeW >= 0) {
        w = resumeW;
        h = ++resumeH;
      } else return false;
    }
    return w === want.length;
  };
}
