/** Whether a request meets a match of a route. */
import { claimOf, claimTexts, isWordClaim } from './authorize-rule.ts';
import { hostOf } from './canonical.ts';
import type { CompiledMatch } from './compile.ts';
import { headValue, type KeyMatcher, queryValue, testKey } from './match.ts';

/** What matching reads of a request, taken apart once. */
export interface RequestParts {
  /** Claims of the request's token, once it is verified. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
  readonly head: readonly string[];
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** With query. */
  readonly target: string;
  readonly path: string;
}

/** Takes a canonical head apart, pseudo-headers first. */
export function requestParts(head: readonly string[], claims?: Readonly<Record<string, unknown>>): RequestParts {
  let method = '';
  let scheme = '';
  let authority = '';
  let target = '/';
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2) {
    const value = head[i + 1];
    switch (head[i]) {
      case ':method':
        method = value;
        break;
      case ':protocol':
        // An upgrade is a GET to those who write rules; the head shows it as extended CONNECT (RFC 8441).
        method = 'GET';
        break;
      case ':scheme':
        scheme = value;
        break;
      case ':authority':
        authority = value;
        break;
      case ':path':
        target = value;
    }
  }
  const end = target.indexOf('?');
  return { claims, head, method, scheme, authority, target, path: end < 0 ? target : target.slice(0, end) };
}

/** The conditions of a match, in the order in which they are tested: what `mismatch` says, without the index. */
export const Condition = Object.freeze({
  uri: 1,
  method: 2,
  authority: 3,
  scheme: 4,
  header: 5,
  withoutHeader: 6,
  query: 7,
});

/**
 * 0 where a match holds; else the first condition that does not (see Condition), plus 8 times its index among the headers
 * or query parameters. A number, since a request may meet many rules. `byPath`: that the path is right is known.
 */
export function mismatch(m: CompiledMatch, r: RequestParts, byPath = false): number {
  if (!byPath && m.uri && !m.uri.test(r.path)) return Condition.uri;
  if (m.method && !m.method.test(r.method)) return Condition.method;
  if (m.authority && !m.authority.test(r.authority) && !m.authority.test(hostOf(r.authority)))
    return Condition.authority;
  if (m.scheme && !m.scheme.test(r.scheme)) return Condition.scheme;
  for (let i = 0; i < m.headers.length; i++) if (!holds(m.headers[i], r)) return Condition.header + 8 * i;
  for (let i = 0; i < m.withoutHeaders.length; i++)
    if (holds(m.withoutHeaders[i], r)) return Condition.withoutHeader + 8 * i;
  for (let i = 0; i < m.queryParams.length; i++)
    if (!testKey(m.queryParams[i], queryValue(r.target, m.queryParams[i].name))) return Condition.query + 8 * i;
  return 0;
}

/** A header's value, or any value of a claim. */
function holds(matcher: KeyMatcher, r: RequestParts): boolean {
  if (matcher.claim === undefined) return testKey(matcher, headValue(r.head, matcher.name));
  const { claim } = matcher;
  return (
    r.claims !== undefined &&
    claimTexts(claimOf(r.claims, claim), isWordClaim(claim)).some((text) => testKey(matcher, text))
  );
}
