/** Consul's JWTProvider: an issuer whose tokens intentions may ask for. */
import type { JwtProviderModel } from '@weft/model';
import type { ObjectSchema } from '../schema.ts';
import { bool, checkHeaderName, type FieldReport, type Kind, nonEmpty, type Plain, str } from './common.ts';
import {
  checkKeyAddress,
  checkKeySet,
  checkOwnHeader,
  FETCH_TIMEOUT_MS,
  MAX_FETCH_TIMEOUT_MS,
} from './request-authentication.ts';

declare function atob(text: string): string;

/** Consul's default. */
const CLOCK_SKEW_S = 30;
const MAX_CLOCK_SKEW_S = 3600;

const named: ObjectSchema = { t: 'object', fields: { name: nonEmpty }, required: ['name'] };

const spec: ObjectSchema = {
  t: 'object',
  fields: {
    issuer: nonEmpty,
    jsonWebKeySet: {
      t: 'object',
      fields: {
        local: { t: 'object', fields: { jwks: nonEmpty }, unsupported: ['filename'] },
        remote: {
          t: 'object',
          fields: {
            uri: { t: 'string', check: checkKeyAddress },
            requestTimeoutMs: { t: 'int', min: 0, max: 2_147_483_647 },
            cacheDuration: { t: 'duration' },
            fetchAsynchronously: bool,
            retryPolicy: { t: 'any' },
            jwksCluster: {
              t: 'object',
              fields: { discoveryType: str, connectTimeout: { t: 'duration' } },
              unsupported: ['tlsCertificates'],
            },
          },
          required: ['uri'],
        },
      },
      oneOf: [['local', 'remote']],
    },
    audiences: { t: 'list', max: 100, of: nonEmpty },
    locations: {
      t: 'list',
      max: 100,
      of: {
        t: 'object',
        fields: {
          header: {
            t: 'object',
            fields: { name: { t: 'string', check: checkHeaderName }, valuePrefix: str, forward: bool },
            required: ['name'],
          },
          queryParam: named,
          cookie: named,
        },
        oneOf: [['header', 'queryParam', 'cookie']],
      },
    },
    forwarding: {
      t: 'object',
      fields: { headerName: { t: 'string', check: checkOwnHeader }, padForwardPayloadHeader: bool },
      required: ['headerName'],
    },
    clockSkewSeconds: { t: 'int', min: 0, max: MAX_CLOCK_SKEW_S },
    cacheConfig: { t: 'object', fields: { size: { t: 'int', min: 0 } } },
  },
  required: ['issuer', 'jsonWebKeySet'],
};

export const jwtProviderKind: Kind<JwtProviderModel> = {
  kind: 'JWTProvider',
  apiVersions: ['consul.hashicorp.com/v1alpha1'],
  spec,
  specRequired: true,
  build(resource, written, report) {
    const { remote } = (written.jsonWebKeySet ?? {}) as { remote?: Plain };
    sayWithoutEffect(written, report);
    const locations = ((written.locations ?? []) as (Plain | undefined)[]).filter((l) => l !== undefined);
    for (const [i, l] of locations.entries()) {
      const field = `spec.locations[${i}]`;
      if (!l.header && !l.queryParam && !l.cookie && !report.broken(field))
        report('WEFT-FIELD', 'needs header, queryParam or cookie', field);
    }
    const headers = locations.flatMap((l) => (l.header?.name ? [l.header as Plain] : []));
    const { forwarding } = written as { forwarding?: Plain };
    if (forwarding?.padForwardPayloadHeader)
      report('WEFT-UNSUPPORTED', 'the payload is passed on without padding', 'spec.forwarding.padForwardPayloadHeader');
    const timeoutMs = remote?.requestTimeoutMs || FETCH_TIMEOUT_MS;
    return {
      ...resource,
      rule: {
        field: 'spec',
        issuer: written.issuer ?? '',
        audiences: ((written.audiences ?? []) as (string | undefined)[]).filter((a) => a !== undefined),
        jwks: localKeys(written, report),
        jwksUri: remote?.uri ?? '',
        fetchTimeoutMs: Math.min(timeoutMs, MAX_FETCH_TIMEOUT_MS),
        ...(locations.length === 0
          ? { headers: [{ name: 'authorization', prefix: 'Bearer ' }], params: ['access_token'], cookies: [] }
          : {
              headers: headers.map((h) => ({ name: h.name.toLowerCase(), prefix: h.valuePrefix ?? '' })),
              params: locations.flatMap((l) => l.queryParam?.name ?? []),
              cookies: locations.flatMap((l) => l.cookie?.name ?? []),
            }),
        // One word for all places: where one of them is to be taken off, all are.
        forward: headers.length > 0 && headers.every((h) => h.forward === true),
        payloadHeader: (forwarding?.headerName ?? '').toLowerCase(),
        claimHeaders: [],
        wordClaims: [],
        provider: resource.name,
        clockSkewMs: 1000 * (written.clockSkewSeconds || CLOCK_SKEW_S),
      },
    };
  },
};

/** The key set, which stands there in base64; empty where there is none. */
function localKeys(written: Plain, report: FieldReport): string {
  const { local, remote } = (written.jsonWebKeySet ?? {}) as { local?: Plain; remote?: Plain };
  const field = 'spec.jsonWebKeySet';
  if (local?.jwks === undefined) {
    if (!remote && !['', '.local', '.local.jwks', '.local.filename', '.remote'].some((f) => report.broken(field + f)))
      report('WEFT-FIELD', 'needs local.jwks, a key set in base64, or remote.uri, where it is', field);
    return '';
  }
  let text: string;
  try {
    text = decodeURIComponent(
      [...atob(local.jwks)].map((c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join(''),
    );
  } catch {
    report('WEFT-VALUE', 'is no base64: the key set {"keys": […]} stands there encoded', `${field}.local.jwks`);
    return '';
  }
  const wrong = checkKeySet(text);
  if (wrong) report('WEFT-VALUE', wrong, `${field}.local.jwks`);
  return text;
}

/** What is done otherwise here: said, so that nobody waits for it. */
function sayWithoutEffect(written: Plain, report: FieldReport): void {
  const { remote } = (written.jsonWebKeySet ?? {}) as { remote?: Plain };
  const no = (field: string, message: string): void => report('WEFT-NO-EFFECT', message, field, 'warning');
  const fetched = 'the control plane fetches keys, keeps them and tries again, as LIMITS.md says';
  for (const name of ['cacheDuration', 'fetchAsynchronously', 'retryPolicy', 'jwksCluster'])
    if (remote?.[name] !== undefined) no(`spec.jsonWebKeySet.remote.${name}`, fetched);
  if (written.cacheConfig?.size !== undefined)
    no('spec.cacheConfig.size', 'each proxy remembers as many tokens as LIMITS.md says');
}
