/** What scripts of other origins may do: answers to preflights, and the fields of responses (Fetch, 3.3). */
import type { CorsPolicy } from '@weft/plan';
import type { HeaderOps } from './header-ops.ts';
import { compileStringMatch, headValue, type StringMatcher } from './match.ts';

export interface CompiledCors {
  readonly ref: string;
  readonly origins: readonly StringMatcher[];
  readonly ignoreUnmatched: boolean;
  /** Names and values beside the origin, in turn. */
  readonly ofPreflight: readonly string[];
  readonly ofResponse: readonly string[];
}

export function compileCors(policy: CorsPolicy, ref: string): CompiledCors {
  const pair = (name: string, value: string): string[] => (value === '' ? [] : [name, value]);
  const credentials = pair('access-control-allow-credentials', policy.allowCredentials ? 'true' : '');
  return {
    ref: policy.ref || ref,
    origins: policy.allowOrigins.flatMap((m) => compileStringMatch(m, `${ref} corsPolicy`) ?? []),
    ignoreUnmatched: policy.ignoreUnmatchedPreflights,
    ofPreflight: [
      ...credentials,
      ...pair('access-control-allow-methods', policy.allowMethods.join(',')),
      ...pair('access-control-allow-headers', policy.allowHeaders.join(',')),
      ...pair('access-control-max-age', policy.maxAgeSeconds === undefined ? '' : String(policy.maxAgeSeconds)),
    ],
    ofResponse: [...credentials, ...pair('access-control-expose-headers', policy.exposeHeaders.join(','))],
  };
}

const NOTHING_ALLOWED: HeaderOps = { remove: [], set: [], add: [] };

/** `preflight`: to be answered with 200 and these fields, instead of being passed on. Undefined: no matter of CORS. */
export function decideCors(
  cors: CompiledCors,
  method: string,
  head: readonly string[],
): { readonly preflight: boolean; readonly ops: HeaderOps } | undefined {
  const origin = headValue(head, 'origin');
  if (origin === undefined || origin === '') return undefined;
  const preflight = method === 'OPTIONS' && headValue(head, 'access-control-request-method') !== undefined;
  if (!cors.origins.some((o) => o.test(origin))) {
    return preflight && cors.ignoreUnmatched ? { preflight, ops: NOTHING_ALLOWED } : undefined;
  }
  const more = preflight ? cors.ofPreflight : cors.ofResponse;
  return { preflight, ops: { remove: [], set: ['access-control-allow-origin', origin, ...more], add: [] } };
}
