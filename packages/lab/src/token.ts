/** A token that a question comes with: good, but perhaps of nobody whom the called side believes. */
import type { Snapshot, VerifiedToken } from '@weft/engine';
import type { TokenRule } from '@weft/plan';
import type { Notes } from './notes.ts';
import type { Step, TokenQuestion } from './types.ts';

/** What a proxy makes of the request's token. `refused`: why, as the access log says it; the answer is 401. */
export type TokenAnswer = { readonly token: VerifiedToken | undefined } | { readonly refused: string };

/**
 * As the proxy at that port does, but for signature and times, which are taken to be good. `rule`: the first that believes
 * it, or of those of its issuer that do not the first; undefined where none is of its issuer, or nobody asks for tokens.
 */
export function judgeToken(
  snapshot: Snapshot,
  port: number,
  asked: TokenQuestion | undefined,
): { answer: TokenAnswer; rule: TokenRule | undefined } {
  const rules = snapshot.authorization.tokens.filter((r) => r.ports.length === 0 || r.ports.includes(port));
  if (rules.length === 0 || !asked) return { answer: { token: undefined }, rule: undefined };
  const of = rules.filter((r) => r.issuer === asked.issuer);
  const audiences = asked.audiences ?? [];
  const good = of.filter((r) => r.audiences.length === 0 || r.audiences.some((a) => audiences.includes(a)));
  const [rule] = good;
  if (!rule)
    return { answer: { refused: of.length === 0 ? 'issuer_not_believed' : 'audience_not_allowed' }, rule: of[0] };
  const providers = good.map((r) => r.provider).filter((name) => name !== '');
  return { answer: { token: { ...verified(asked, audiences), wordClaims: rule.wordClaims, providers } }, rule };
}

/** The same, noted as steps. Where the rule does not forward the token, `notes` have none afterwards. */
export function noteToken(
  notes: Notes,
  where: string,
  side: Step['side'],
  snapshot: Snapshot,
  port: number,
): TokenAnswer {
  const { answer, rule } = judgeToken(snapshot, port, notes.token);
  if ('refused' in answer) {
    const why = rule ? 'it is for none of the audiences' : `nobody believes the issuer ${notes.token?.issuer}`;
    notes.add(side, 'authenticate', `${where}: the token is refused with 401`, why, rule?.ref);
    notes.touch(rule?.ref);
  } else if (rule) {
    notes.touch(rule.ref);
    notes.add(side, 'authenticate', `${where}: the token is believed`, `its issuer is ${rule.issuer}`, rule.ref);
    if (!rule.forward) notes.token = undefined;
  }
  return answer;
}

function verified(asked: TokenQuestion, audiences: readonly string[]): VerifiedToken {
  const { issuer, subject } = asked;
  const claims: Record<string, unknown> = Object.assign(Object.create(null), asked.claims, { iss: issuer });
  if (subject !== undefined) claims.sub = subject;
  if (audiences.length > 0) claims.aud = [...audiences];
  return {
    principal: subject === undefined ? '' : `${issuer}/${subject}`,
    audiences,
    presenter: typeof claims.azp === 'string' ? claims.azp : undefined,
    claims,
  };
}
