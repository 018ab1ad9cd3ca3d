/** An external authorizer that is asked by HTTP (`envoyExtAuthzHttp`): 200 lets pass, 5xx is no answer, all else denies. */
import type { ExternalAuthorizer } from '@weft/plan';
import type { Head } from '@weft/wire';
import type { SideAnswer } from '../outbound/side-call.ts';
import type { Checked } from './check.ts';
import { type CheckOutcome, type HeaderChange, isHeader, matchesAny } from './outcome.ts';

/** What a denied client hears of in any case, where only some headers are passed on. */
const ALWAYS_ON_DENY = ['location', 'www-authenticate'];

export function httpCheckHead(authorizer: ExternalAuthorizer, checked: Checked): Head {
  const { head } = checked;
  const out: Head = [
    ...[':method', checked.method, ':scheme', 'http', ':authority', checked.authority || authorizer.authority],
    ...[':path', authorizer.pathPrefix + checked.path],
  ];
  for (let i = 0; i < head.length; i += 2) {
    const name = head[i];
    if (name.charCodeAt(0) === 58 || name === 'content-length' || name === 'expect') continue;
    // A header that the mesh settings give is theirs alone.
    if (authorizer.additionalHeaders.some((h) => h.name === name)) continue;
    if (name === 'authorization' || matchesAny(authorizer.requestHeaders, name)) out.push(name, head[i + 1]);
  }
  for (const { name, value } of authorizer.additionalHeaders) out.push(name, value);
  if (checked.bodyAsked) out.push('x-envoy-auth-partial-body', String(checked.partial));
  out.push('content-length', String(checked.body.length));
  return out;
}

export function httpOutcome(authorizer: ExternalAuthorizer, answer: SideAnswer): CheckOutcome {
  const { status, head, body } = answer;
  if (!(status >= 200 && status <= 499)) return { kind: 'error', why: `answered_${status}` };
  const changes: HeaderChange[] = [];
  const response: Head = [];
  const headers: Head = [];
  for (let i = 0; i < head.length; i += 2) {
    const name = head[i];
    const value = head[i + 1];
    if (name.charCodeAt(0) === 58 || !isHeader(name, value)) continue;
    if (status === 200) {
      if (matchesAny(authorizer.upstreamHeaders, name)) {
        // Several fields of one name stay several; what the client sent under that name goes.
        changes.push({ name, value, how: changes.some((c) => c.name === name) ? 'append' : 'set' });
      }
      if (matchesAny(authorizer.allowHeaders, name)) response.push(name, value);
    } else {
      const passes = authorizer.denyHeaders.length === 0 || matchesAny(authorizer.denyHeaders, name);
      if (passes || ALWAYS_ON_DENY.includes(name)) headers.push(name, value);
    }
  }
  if (status === 200) return { kind: 'allow', changes, remove: [], params: [], dropParams: [], response };
  return { kind: 'deny', status, headers, body };
}
