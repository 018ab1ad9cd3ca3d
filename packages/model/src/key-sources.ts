/** Where the keys of token issuers come from, for those that are not written into the configuration. */
import type { Model } from './types/model.ts';
import type { TokenRuleModel } from './types/security.ts';

export interface KeySource {
  readonly name: string;
  readonly url: string;
  /** The address is of the issuer's OpenID configuration, which names that of the keys. */
  readonly discover: boolean;
  readonly issuer: string;
  readonly timeoutMs: number;
}

/** Undefined: the keys are written there. */
export function keySourceOf(rule: TokenRuleModel): KeySource | undefined {
  if (rule.jwks !== '') return undefined;
  const { jwksUri, issuer, fetchTimeoutMs: timeoutMs } = rule;
  if (jwksUri !== '') return { name: jwksUri, url: jwksUri, discover: false, issuer, timeoutMs };
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  return { name: `issuer ${issuer}`, url, discover: true, issuer, timeoutMs };
}

/** Of the whole mesh, each once. */
export function keySourcesOf(model: Model): KeySource[] {
  const out = new Map<string, KeySource>();
  const rules = [...model.requestAuthentications.flatMap((r) => r.rules), ...model.jwtProviders.map((p) => p.rule)];
  for (const rule of rules) {
    const source = keySourceOf(rule);
    if (source && !out.has(source.name)) out.set(source.name, source);
  }
  return [...out.values()];
}
