/** In words: what a match asks for, and what the request has instead. */
import {
  type CompiledMatch,
  Condition,
  claimOf,
  headValue,
  type KeyMatcher,
  mismatch,
  queryValue,
  type RequestParts,
} from '@weft/engine';
import type { HttpMatch, StringMatch } from '@weft/plan';

export function stringMatchText(m: StringMatch | undefined): string {
  switch (m?.kind.case) {
    case 'exact':
      return `exactly "${m.kind.value}"`;
    case 'prefix':
      return `prefix "${m.kind.value}"`;
    case 'regex':
      return `regular expression "${m.kind.value}"`;
    default:
      return 'present';
  }
}

/** Why a match does not hold; '' where it holds. `written`: the same match as the plan has it. */
export function whyNot(match: CompiledMatch, written: HttpMatch, parts: RequestParts): string {
  const code = mismatch(match, parts);
  const at = code >> 3;
  const has = (value: string | undefined): string => (value === undefined ? 'there is none' : `it is "${value}"`);
  const named = (list: readonly KeyMatcher[]): string => list[at].name;
  switch (code & 7) {
    case 0:
      return '';
    case Condition.uri:
      return `the path wants ${stringMatchText(written.uri)}, ${has(parts.path)}`;
    case Condition.method:
      return `the method wants ${stringMatchText(written.method)}, ${has(parts.method)}`;
    case Condition.authority:
      return `the authority wants ${stringMatchText(written.authority)}, ${has(parts.authority)}`;
    case Condition.scheme:
      return `the scheme wants ${stringMatchText(written.scheme)}, ${has(parts.scheme)}`;
    case Condition.header: {
      const name = named(match.headers);
      const wanted = stringMatchText(written.headers[at].value);
      if (match.headers[at].claim)
        return `${name} wants ${wanted}, the token has ${claimText(match.headers[at], parts)}`;
      return `header ${name} wants ${wanted}, ${has(headValue(parts.head, name))}`;
    }
    case Condition.withoutHeader: {
      const name = named(match.withoutHeaders);
      const wanted = stringMatchText(written.withoutHeaders[at].value);
      const { claim } = match.withoutHeaders[at];
      if (claim) return `${name} must not be ${wanted}, the token has ${claimText(match.withoutHeaders[at], parts)}`;
      return `header ${name} must not be ${wanted}, ${has(headValue(parts.head, name))}`;
    }
    default: {
      const name = named(match.queryParams);
      const value = queryValue(parts.target, name);
      return `query parameter ${name} wants ${stringMatchText(written.queryParams[at].value)}, ${has(value)}`;
    }
  }
}

/** What a match that holds asked for. */
export function matchText(m: HttpMatch): string {
  const parts: string[] = [];
  if (m.uri) parts.push(`path ${stringMatchText(m.uri)}${m.ignoreUriCase ? ' in any case' : ''}`);
  if (m.method) parts.push(`method ${stringMatchText(m.method)}`);
  if (m.authority) parts.push(`authority ${stringMatchText(m.authority)}`);
  if (m.scheme) parts.push(`scheme ${stringMatchText(m.scheme)}`);
  for (const h of m.headers) parts.push(`header ${h.name} ${stringMatchText(h.value)}`);
  for (const h of m.withoutHeaders) parts.push(`no header ${h.name} ${stringMatchText(h.value)}`);
  for (const q of m.queryParams) parts.push(`query parameter ${q.name} ${stringMatchText(q.value)}`);
  return parts.length === 0 ? 'it asks for nothing' : parts.join(', ');
}

function claimText({ claim }: KeyMatcher, { claims }: RequestParts): string {
  const value = claims && claimOf(claims, claim ?? []);
  return value === undefined ? 'none' : JSON.stringify(value);
}
