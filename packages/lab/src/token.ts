/** A token that a question comes with: good, but perhaps of nobody whom the called side believes. */
import type { Snapshot, VerifiedToken } from '@weft/engine';
import type { Notes } from './notes.ts';
import type { Step, TokenQuestion } from './types.ts';

/** What a proxy makes of the request's token. `refused`: why, as the access log says it; the answer is 401. */
export type TokenAnswer = { readonly token: VerifiedToken | undefined } | { readonly refused: string };

/**
 * As the proxy at that port does, but for signature and times, which are taken to be good. Where the rule does not
 * forward the token, `notes` have none afterwards.
 */
export function noteToken(
  notes: Notes,
  where: string,
  side: Step['side'],
  snapshot: Snapshot,
  port: number,
): TokenAnswer {
  const rules = snapshot.authorization.tokens.filter((r) => r.ports.length === 0 || r.ports.includes(port));
  const asked = notes.token;
  if (rules.length === 0 || !asked) return { token: undefined };
  const of = rules.filter((r) => r.issuer === asked.issuer);
  const audiences = asked.audiences ?? [];
  const rule = of.find((r) => r.audiences.length === 0 || r.audiences.some((a) => audiences.includes(a)));
  if (!rule) {
    const refused = of.length === 0 ? 'issuer_not_believed' : 'audience_not_allowed';
    const why = of.length === 0 ? `nobody believes the issuer ${asked.issuer}` : 'it is for none of the audiences';
    notes.add(side, 'authenticate', `${where}: the token is refused with 401`, why, of[0]?.ref);
    notes.touch(of[0]?.ref);
    return { refused };
  }
  notes.touch(rule.ref);
  notes.add(side, 'authenticate', `${where}: the token is believed`, `its issuer is ${rule.issuer}`, rule.ref);
  if (!rule.forward) notes.token = undefined;
  return { token: { ...verified(asked, audiences), wordClaims: rule.wordClaims } };
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
