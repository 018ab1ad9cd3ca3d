/** Istio's RequestAuthentication: whose JSON Web Tokens a workload believes. */
import type { RequestAuthenticationModel, TokenRuleModel } from '@weft/model';
import { keyProblem } from '@weft/plan';
import type { ObjectSchema } from '../schema.ts';
import { checkHeaderName, type FieldReport, type Kind, labelsOf, nonEmpty, type Plain, selector } from './common.ts';
import { targetFields, targetsOf } from './policy-targets.ts';

const names = { t: 'list', max: 100, of: nonEmpty } as const;
const headerName = { t: 'string', check: checkOwnHeader } as const;

/** A header that is set from a token: neither one that means something to HTTP, nor one of ours. */
export function checkOwnHeader(name: string): string | undefined {
  const lower = name.toLowerCase();
  if (/^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|cookie)$/.test(lower))
    return 'this header is not for claims';
  if (/^x[-_](weft|envoy|forwarded)[-_]/.test(lower)) return 'headers of the mesh are not for claims';
  return checkHeaderName(name);
}

const rule: ObjectSchema = {
  t: 'object',
  required: ['issuer'],
  fields: {
    issuer: nonEmpty,
    audiences: names,
    jwks: nonEmpty,
    jwksUri: { t: 'string', check: checkKeyAddress },
    jwks_uri: { t: 'string', check: checkKeyAddress },
    timeout: { t: 'duration', minMs: 1 },
    fromHeaders: {
      t: 'list',
      max: 100,
      of: {
        t: 'object',
        required: ['name'],
        fields: { name: { t: 'string', check: checkHeaderName }, prefix: { t: 'string' } },
      },
    },
    fromParams: names,
    fromCookies: names,
    outputPayloadToHeader: headerName,
    outputClaimToHeaders: {
      t: 'list',
      max: 100,
      of: { t: 'object', required: ['header', 'claim'], fields: { header: headerName, claim: nonEmpty } },
    },
    forwardOriginalToken: { t: 'bool' },
    spaceDelimitedClaims: names,
  },
  oneOf: [['jwks', 'jwksUri', 'jwks_uri']],
};

export const requestAuthenticationKind: Kind<RequestAuthenticationModel> = {
  kind: 'RequestAuthentication',
  apiVersions: ['security.istio.io/v1', 'security.istio.io/v1beta1'],
  spec: {
    t: 'object',
    fields: { selector, ...targetFields, jwtRules: { t: 'list', max: 100, of: rule } },
  },
  specRequired: false,
  build(resource, spec, report) {
    const rules = (spec.jwtRules ?? []) as (Plain | undefined)[];
    return {
      ...resource,
      selector: spec.selector?.matchLabels ? labelsOf(spec.selector.matchLabels) : undefined,
      targets: targetsOf(spec, resource.namespace, report),
      rules: rules.map((r, i) => tokenRule(r ?? {}, `spec.jwtRules[${i}]`, report)),
    };
  },
};

function tokenRule(r: Plain, field: string, report: FieldReport): TokenRuleModel {
  const uri: string = r.jwksUri ?? r.jwks_uri ?? '';
  if (r.jwks !== undefined) {
    const wrong = checkKeySet(r.jwks);
    if (wrong) report('WEFT-VALUE', wrong, `${field}.jwks`);
  } else if (uri === '' && checkKeyAddress(r.issuer ?? '') !== undefined) {
    const message =
      'say the issuer\'s public keys in "jwks": {"keys": […]} or where they are in "jwksUri"; only an issuer that is an address can be asked for them';
    report('WEFT-VALUE', message, `${field}.jwks`);
  }
  const named = r.fromHeaders !== undefined || r.fromParams !== undefined || r.fromCookies !== undefined;
  const headers = (r.fromHeaders ?? []) as ({ name?: string; prefix?: string } | undefined)[];
  return {
    field,
    issuer: r.issuer ?? '',
    audiences: r.audiences ?? [],
    jwks: r.jwks ?? '',
    jwksUri: uri,
    fetchTimeoutMs: Math.min(r.timeout ?? FETCH_TIMEOUT_MS, MAX_FETCH_TIMEOUT_MS),
    headers: named
      ? headers.map((h) => ({ name: (h?.name ?? '').toLowerCase(), prefix: h?.prefix ?? '' }))
      : [{ name: 'authorization', prefix: 'Bearer ' }],
    params: named ? (r.fromParams ?? []) : ['access_token'],
    cookies: r.fromCookies ?? [],
    wordClaims: r.spaceDelimitedClaims ?? [],
    forward: r.forwardOriginalToken ?? false,
    payloadHeader: (r.outputPayloadToHeader ?? '').toLowerCase(),
    claimHeaders: ((r.outputClaimToHeaders ?? []) as ({ header?: string; claim?: string } | undefined)[]).map((c) => ({
      header: (c?.header ?? '').toLowerCase(),
      claim: (c?.claim ?? '').split('.'),
    })),
  };
}

/** Istio's default. */
export const FETCH_TIMEOUT_MS = 5000;
export const MAX_FETCH_TIMEOUT_MS = 60_000;

/** Whether the address may be asked is for the control plane to say: names lead elsewhere tomorrow. */
export function checkKeyAddress(text: string): string | undefined {
  if (text.length > 2048) return 'an address may have 2048 characters';
  // Of a name, numbers or an IPv6 address, and a port; no password, no fragment.
  if (!/^https?:\/\/([-A-Za-z0-9._]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(\/[^\s#\\]*)?$/.test(text))
    return 'it is no address such as https://issuer.example.com/keys';
  return undefined;
}

/** A key set has keys, public ones of kinds that can verify. */
export function checkKeySet(text: string): string | undefined {
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    return 'the key set is no JSON';
  }
  const keys = (set as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys) || keys.length === 0) return 'a key set is {"keys": […]} with at least one key';
  for (const key of keys as unknown[]) {
    const problem = keyProblem(key);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
