import { WeftError } from '@weft/base';
import type { KeyMatch, StringMatch } from '@weft/plan';
import { RE2JS } from 're2js';

/** RE2 patterns longer than this are refused, as Istio does. In characters. */
export const MAX_REGEX_LENGTH = 1024;

const EXACT = 0;
const PREFIX = 1;
const REGEX = 2;
const PRESENT = 3;

/** A string test, compiled once. One shape for all kinds keeps the call sites monomorphic. */
export class StringMatcher {
  readonly kind: number;
  readonly text: string;
  readonly ignoreCase: boolean;
  readonly #regex: RE2JS | undefined;

  constructor(kind: number, text: string, ignoreCase: boolean, regex: RE2JS | undefined) {
    this.kind = kind;
    this.text = text;
    this.ignoreCase = ignoreCase;
    this.#regex = regex;
  }

  get isExact(): boolean {
    return this.kind === EXACT;
  }

  get isPrefix(): boolean {
    return this.kind === PREFIX;
  }

  /** `value` undefined: the thing is absent, and nothing matches it. */
  test(value: string | undefined): boolean {
    if (value === undefined) return false;
    switch (this.kind) {
      case EXACT:
        return value === this.text || (this.ignoreCase && value.toLowerCase() === this.text);
      case PREFIX:
        return value.startsWith(this.text) || (this.ignoreCase && value.toLowerCase().startsWith(this.text));
      case REGEX:
        return this.#regex!.testExact(value);
      default:
        return true;
    }
  }
}

/**
 * Compiles a test of the plan; undefined where the plan has none. `ref` names the rule in the error.
 * Throws WeftError `engine.regex` for a pattern that RE2 does not take.
 */
export function compileStringMatch(
  match: StringMatch | undefined,
  ref: string,
  ignoreCase = false,
  normalise: (text: string) => string = (text) => text,
): StringMatcher | undefined {
  if (!match?.kind.case) return undefined;
  const { kind } = match;
  switch (kind.case) {
    case 'exact':
    case 'prefix': {
      const text = normalise(kind.value);
      const code = kind.case === 'exact' ? EXACT : PREFIX;
      return new StringMatcher(code, ignoreCase ? text.toLowerCase() : text, ignoreCase, undefined);
    }
    case 'regex':
      return new StringMatcher(REGEX, kind.value, false, compileRegex(kind.value, ref));
    case 'present':
      return new StringMatcher(PRESENT, '', false, undefined);
  }
}

/** Throws WeftError `engine.regex`. */
export function compileRegex(pattern: string, ref: string): RE2JS {
  if (pattern.length > MAX_REGEX_LENGTH) {
    throw new WeftError(
      'engine.regex',
      `${ref}: the regular expression has ${pattern.length} characters, the limit is ${MAX_REGEX_LENGTH}: shorten it`,
    );
  }
  try {
    return RE2JS.compile(pattern);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeftError('engine.regex', `${ref}: "${pattern}" is no RE2 regular expression (${why}): correct it`, {
      cause,
    });
  }
}

/** A named header or query parameter and the test of its value. */
export interface KeyMatcher {
  readonly name: string;
  /** Undefined: being there is enough. */
  readonly value: StringMatcher | undefined;
  /** It is no header but a claim of the request's token: the names on the way to it. */
  readonly claim: readonly string[] | undefined;
}

/** `@request.auth.claims.group`, `@request.auth.claims[a][b]`; undefined: it is the name of a header. */
export function claimPath(name: string): readonly string[] | undefined {
  const [, plain, nested] = /^@request\.auth\.claims(?:\.([^[\]]+)|((?:\[[^[\]]+\])+))$/i.exec(name) ?? [];
  return plain !== undefined ? [plain] : nested?.slice(1, -1).split('][');
}

/** One for all that have none: what is looked at with each request stays close by. */
const NO_MATCHERS: readonly KeyMatcher[] = [];

export function compileKeyMatches(
  matches: readonly KeyMatch[],
  ref: string,
  lowerCase: boolean,
): readonly KeyMatcher[] {
  if (matches.length === 0) return NO_MATCHERS;
  return matches.map((m) => ({
    name: lowerCase && !m.name.startsWith('@') ? m.name.toLowerCase() : m.name,
    claim: claimPath(m.name),
    value: compileStringMatch(m.value, `${ref} ${m.name}`),
  }));
}

/** Whether the value passes: present and, where there is a test, matching. */
export function testKey(matcher: KeyMatcher, value: string | undefined): boolean {
  return value !== undefined && (matcher.value === undefined || matcher.value.test(value));
}

/**
 * The value of a header; several are joined by commas, as RFC 9110 5.3 reads them, and crumbs of a cookie by semicolons
 * (RFC 9113 8.2.3). Undefined where absent.
 */
export function headValue(head: readonly string[], name: string): string | undefined {
  const glue = name === 'cookie' ? '; ' : ',';
  let found: string | undefined;
  for (let i = 0; i < head.length; i += 2) {
    if (head[i] === name) found = found === undefined ? head[i + 1] : found + glue + head[i + 1];
  }
  return found;
}

/** The first value of a query parameter, percent-decoded; undefined where absent. `path` with its query. */
export function queryValue(path: string, name: string): string | undefined {
  const start = path.indexOf('?');
  if (start < 0) return undefined;
  for (const pair of path.slice(start + 1).split('&')) {
    const eq = pair.indexOf('=');
    if (decode(eq < 0 ? pair : pair.slice(0, eq)) === name) return eq < 0 ? '' : decode(pair.slice(eq + 1));
  }
  return undefined;
}

function decode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not UTF-8: compared as it stands
  }
}
