/** What `weft authz check` prints: which rules were looked at, what decided, and where that is written. */
import type { AuthorizationAnswer, AuthorizationQuestion } from './authz.ts';
import { referenceText, wrap } from './render.ts';
import type { RuleReference } from './types.ts';

const INDENT = ' '.repeat(10);

/** `show` makes a file's name short, e.g. relative to where the reader is. */
export function renderDecision(
  question: AuthorizationQuestion,
  answer: AuthorizationAnswer,
  show: (file: string) => string = (f) => f,
): string {
  const { http, from, port } = question;
  const what = http ? `${http.method} ${http.path}` : 'a connection';
  const out = wrap(`${what}${port === undefined ? '' : ` to port ${port}`}, by ${from ?? 'plaintext'}`, '');
  const place = (r: RuleReference | undefined): string[] => (r ? wrap(referenceText(r, show), INDENT) : []);
  for (const c of answer.considered) {
    const kind = c.action === 'TABLE' ? (c.reference?.resource.split('/')[0] ?? '') : c.action;
    out.push(`${c.matched ? 'match   ' : 'no match'}  ${kind} ${c.policy}`, ...wrap(c.because, INDENT));
    out.push(...place(c.reference));
  }
  if (answer.asks) out.push(...wrap(`asks ${answer.asks.join(', ')}; where they let it pass:`, ''));
  const why = reason(answer, from === undefined);
  const [first, ...rest] = wrap(`${answer.decision}${why === '' ? '' : `: ${why}`}`, '');
  out.push('', first, ...rest, ...place(answer.reference));
  if (answer.details !== '') out.push(...wrap(`in access logs: ${answer.details}`, INDENT));
  return out.join('\n');
}

function reason({ decision, details, reference, considered }: AuthorizationAnswer, plaintext: boolean): string {
  if (decision === 'allow')
    return reference ? '' : considered.length === 0 ? 'no policy holds for it' : 'no policy refuses it';
  if (details === 'rbac_access_denied_matched_policy[none]')
    return 'no rule of the ALLOW policies matches. Whom they are to let in needs one, e.g. in';
  const rule = /^rbac_access_denied_matched_policy\[ns\[(.*)\]-policy\[(.*)\]-rule\[(\d+)\]\]$/.exec(details);
  if (rule) return `rule ${rule[3]} of ${rule[1]}/${rule[2]} matches`;
  const name = /^rbac_access_denied_matched_policy\[(.*)\]$/.exec(details);
  if (name) return `${name[1]} does not let it in`;
  if (details === 'mtls_required')
    return `the port takes mTLS alone${plaintext ? '; who calls with a certificate is said by --from' : ''}`;
  if (details === 'mtls_disabled') return 'the port takes plaintext alone: leave --from out';
  return details.startsWith('jwt_') ? 'the token is refused with 401' : 'the request is refused before policies';
}
