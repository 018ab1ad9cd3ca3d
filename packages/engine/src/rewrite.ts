/** Paths, authorities and locations that a route says in the place of a request's own. */
import { DerivePort, type HttpRoute } from '@weft/plan';
import { canonicalAuthority, canonicalPath, canonicalPattern, formatAuthority, hostOf } from './canonical.ts';
import type { CompiledHttpRoute, CompiledMatch, CompiledRegexRewrite } from './compile.ts';
import type { ForwardDecision } from './route.ts';
import type { RequestParts } from './route-match.ts';

export function rewriteOf(
  compiled: CompiledHttpRoute,
  match: CompiledMatch | undefined,
  parts: RequestParts,
): ForwardDecision['rewrite'] {
  const { uri, authority } = compiled.route.rewrite!;
  let path: string | undefined;
  if (parts.path.startsWith('/')) {
    if (compiled.pathRegex) path = rewriteByRegex(parts.target, compiled.pathRegex);
    else if (uri !== '') path = rewritePath(parts.target, matchedPrefix(match), uri);
  }
  return { path, authority: authority === '' ? undefined : authority };
}

/** Undefined where the whole path was matched. A route that says nothing about the path matches the prefix "/". */
function matchedPrefix(match: CompiledMatch | undefined): string | undefined {
  if (!match?.uri) return '/';
  return match.uri.isPrefix ? match.uri.text : undefined;
}

export function locationOf(route: HttpRoute, match: CompiledMatch | undefined, parts: RequestParts): string {
  const redirect = route.redirect!;
  const scheme = redirect.scheme || parts.scheme || 'http';
  let authority = redirect.authority;
  if (authority === '') {
    const own = canonicalAuthority(parts.authority);
    // The old port belongs to the old scheme.
    authority = !own ? '' : redirect.scheme && redirect.scheme !== parts.scheme ? own.host : formatAuthority(own);
  }
  const usual = scheme === 'https' ? 443 : 80;
  let port = redirect.port;
  if (port === 0 && redirect.derivePort === DerivePort.FROM_PROTOCOL_DEFAULT) port = usual;
  else if (port === 0 && redirect.derivePort === DerivePort.FROM_REQUEST_PORT) {
    // A request without a port came to the usual one of its own scheme.
    port = canonicalAuthority(parts.authority)?.port || (parts.scheme === 'https' ? 443 : 80);
  }
  if (port > 0) authority = port === usual ? hostOf(authority) : `${hostOf(authority)}:${port}`;
  let path = parts.target;
  if (redirect.prefixRewrite !== '') path = rewritePath(parts.target, matchedPrefix(match), redirect.prefixRewrite);
  if (redirect.uri !== '') {
    const end = parts.target.indexOf('?');
    path = redirect.uri + (end < 0 || redirect.uri.includes('?') ? '' : parts.target.slice(end));
  }
  return `${scheme}://${authority}${path.startsWith('/') ? '' : '/'}${path}`;
}

/** The path (with query) after each match in it was replaced. Canonical, as rewritePath's. */
function rewriteByRegex(path: string, { regex, replace }: CompiledRegexRewrite): string {
  const end = path.indexOf('?');
  const bare = end < 0 ? path : path.slice(0, end);
  return canonicalised(regex.matcher(bare).replaceAll(replace), end < 0 ? '' : path.slice(end), path);
}

/**
 * The path (with query) after a rewrite. `matched` is the prefix that the route matched, undefined where it matched the
 * whole path. The result is canonical again: `/api../x` without its prefix must not climb.
 */
function rewritePath(path: string, matched: string | undefined, replacement: string): string {
  const end = path.indexOf('?');
  const query = end < 0 ? '' : path.slice(end);
  const bare = end < 0 ? path : path.slice(0, end);
  let rest = matched === undefined ? '' : bare.slice(matched.length);
  if (rest.startsWith('/') && replacement.endsWith('/')) rest = rest.slice(1);
  return canonicalised(canonicalPattern(replacement) + rest, query, path);
}

function canonicalised(next: string, query: string, before: string): string {
  if (!next.startsWith('/')) next = `/${next}`;
  if (query && next.includes('?')) next = `${next}&${query.slice(1)}`;
  else next += query;
  const canonical = canonicalPath(next, 'keep');
  return typeof canonical === 'string' ? canonical : before;
}

/** `pay:8080` → `pay-shadow:8080`: by it, as with Istio, the receiver knows a copy from a request. */
export function mirrorAuthority(authority: string): string {
  const parsed = canonicalAuthority(authority);
  if (!parsed || parsed.host.startsWith('[')) return authority;
  return formatAuthority({ ...parsed, host: `${parsed.host}-shadow` });
}
