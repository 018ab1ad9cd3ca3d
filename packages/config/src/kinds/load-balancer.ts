/** `loadBalancer` of a traffic policy: which endpoint of a destination a request goes to. */
import type { ConsistentHashModel, LoadBalancerModel, LocalityModel, WarmupModel } from '@weft/model';
import { type ObjectSchema, parseDuration, type Schema } from '../schema.ts';
import { bool, checkHeaderName, type FieldReport, nonEmpty, type Plain, percent, uint32 } from './common.ts';

const SIMPLE = ['UNSPECIFIED', 'LEAST_REQUEST', 'LEAST_CONN', 'ROUND_ROBIN', 'RANDOM', 'PASSTHROUGH'];
const MOST_SLOTS = 5_000_011;

const locality: Schema = { t: 'string', check: checkLocality };

/** `region/zone/subzone`, from the left, with `*` for the rest. */
function checkLocality(value: string): string | undefined {
  const parts = value.split('/');
  const good =
    parts.length <= 3 && parts.every((p, i) => p !== '' && (!p.includes('*') || (p === '*' && i === parts.length - 1)));
  return good ? undefined : 'a locality is region, region/zone or region/zone/subzone; "*" may stand for the rest';
}

export const localityLbSetting: ObjectSchema = {
  t: 'object',
  fields: {
    enabled: bool,
    distribute: {
      t: 'list',
      max: 100,
      of: {
        t: 'object',
        fields: {
          from: locality,
          to: {
            t: 'map',
            of: { t: 'int', min: 1, max: 100 },
            checkKey: (k) => (checkLocality(k) ? 'is no locality' : undefined),
          },
        },
        required: ['from', 'to'],
      },
    },
    failover: {
      t: 'list',
      max: 100,
      of: { t: 'object', fields: { from: nonEmpty, to: nonEmpty }, required: ['from', 'to'] },
    },
    failoverPriority: { t: 'list', of: nonEmpty, max: 32 },
  },
  oneOf: [
    ['distribute', 'failover'],
    ['distribute', 'failoverPriority'],
  ],
};

/** Part of an attribute of a cookie (RFC 6265 4.1.1). */
const cookieText: Schema = {
  t: 'string',
  check: (v) => (/^[\x20-\x3a\x3c-\x7e]{1,200}$/.test(v) ? undefined : 'it has no ";" and no control characters'),
};

export const loadBalancer: ObjectSchema = {
  t: 'object',
  fields: {
    simple: {
      t: 'string',
      check: (v) => (SIMPLE.includes(v) ? undefined : `it may be ${SIMPLE.join(', ')}`),
    },
    consistentHash: {
      t: 'object',
      fields: {
        httpHeaderName: { t: 'string', check: checkHeaderName },
        httpCookie: {
          t: 'object',
          fields: {
            name: nonEmpty,
            path: { t: 'string' },
            ttl: { t: 'duration' },
            attributes: {
              t: 'list',
              max: 16,
              of: { t: 'object', fields: { name: cookieText, value: cookieText }, required: ['name'] },
            },
          },
          required: ['name'],
        },
        useSourceIp: bool,
        httpQueryParameterName: nonEmpty,
        ringHash: { t: 'object', fields: { minimumRingSize: { t: 'int', min: 1, max: 8_388_608 } } },
        maglev: { t: 'object', fields: { tableSize: { t: 'int', min: 2, max: MOST_SLOTS } } },
        minimumRingSize: { t: 'int', min: 1, max: 8_388_608 },
      },
      oneOf: [
        ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'],
        ['ringHash', 'maglev', 'minimumRingSize'],
      ],
    },
    localityLbSetting,
    zoneAwareLbSetting: { t: 'object', fields: { minClusterSize: { t: 'int', min: 1, max: 1_000_000 } } },
    warmup: {
      t: 'object',
      fields: {
        duration: { t: 'duration', minMs: 1 },
        minimumPercent: percent,
        aggression: { t: 'number', min: 1 },
      },
      required: ['duration'],
    },
    warmupDurationSecs: { t: 'duration', minMs: 1 },
  },
  oneOf: [
    ['simple', 'consistentHash'],
    ['warmup', 'warmupDurationSecs'],
  ],
};

/** 0, the default, is how budgets work here. */
const budgetInterval: Schema = {
  t: 'string',
  check: (v) =>
    parseDuration(v) === 0
      ? undefined
      : 'a budget is a part of the requests that run at a time, not of those of an interval: it may be 0s',
};

export const retryBudget: ObjectSchema = {
  t: 'object',
  fields: { percent, minRetryConcurrency: uint32, budgetInterval },
};

/** The checked block as the model has it; what only several fields together can get wrong is reported. */
export function loadBalancerOf(p: Plain, field: string, report: FieldReport): LoadBalancerModel {
  return {
    simple: simpleOf(p.simple),
    hash: p.consistentHash ? hashOf(p.consistentHash, `${field}.consistentHash`, report) : undefined,
    locality: p.localityLbSetting ? localityOf(p.localityLbSetting, `${field}.localityLbSetting`, report) : undefined,
    zoneAwareMin: zoneAwareOf(p, field, report),
    warmup: warmupOf(p),
  };
}

function simpleOf(simple: string | undefined): LoadBalancerModel['simple'] {
  switch (simple) {
    case 'LEAST_CONN': // the old name
    case 'LEAST_REQUEST':
      return 'LEAST_REQUEST';
    case 'ROUND_ROBIN':
    case 'RANDOM':
    case 'PASSTHROUGH':
      return simple;
    default:
      return undefined;
  }
}

function hashOf(p: Plain, field: string, report: FieldReport): ConsistentHashModel | undefined {
  const { httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName, maglev } = p;
  const tableSize: number | undefined = maglev ? maglev.tableSize : (p.ringHash?.minimumRingSize ?? p.minimumRingSize);
  if (maglev && tableSize !== undefined && !isPrime(tableSize)) {
    report(
      'WEFT-VALUE',
      `is ${tableSize}, which is no prime: a Maglev table needs one, such as 65537`,
      `${field}.maglev.tableSize`,
    );
  }
  const common = { maglev: maglev !== undefined, tableSize };
  if (httpHeaderName) return { ...common, key: { case: 'header', value: httpHeaderName.toLowerCase() } };
  if (httpQueryParameterName) return { ...common, key: { case: 'queryParam', value: httpQueryParameterName } };
  if (useSourceIp) return { ...common, key: { case: 'sourceIp', value: true } };
  if (httpCookie?.name) {
    const { name, path = '', ttl } = httpCookie;
    const attributes = ((httpCookie.attributes ?? []) as (Plain | undefined)[]).flatMap((a) =>
      a?.name ? [a.value === undefined ? (a.name as string) : `${a.name}=${a.value}`] : [],
    );
    if (attributes.length > 0 && ttl === undefined) {
      const message = 'without ttl no cookie is set: these are of a cookie that somebody else sets';
      report('WEFT-NO-EFFECT', message, `${field}.httpCookie.attributes`, 'warning');
    }
    return { ...common, key: { case: 'cookie', value: { name, path, ttlMs: ttl, attributes } } };
  }
  report(
    'WEFT-VALUE',
    'says not what to hash: set one of httpHeaderName, httpCookie, useSourceIp: true, httpQueryParameterName',
    field,
  );
  return undefined;
}

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}

export function localityOf(p: Plain, field: string, report: FieldReport): LocalityModel {
  const distribute = ((p.distribute ?? []) as Plain[]).filter((d) => d?.from && d.to);
  for (const [i, d] of distribute.entries()) {
    const sum = Object.values(d.to as Record<string, number>).reduce((a, b) => a + b, 0);
    if (sum !== 100)
      report('WEFT-VALUE', `the shares are ${sum} % together: make them 100`, `${field}.distribute[${i}].to`);
  }
  const failover = ((p.failover ?? []) as Plain[]).filter((f) => f?.from && f.to);
  for (const [i, f] of failover.entries()) {
    if (f.from === f.to) report('WEFT-VALUE', `"${f.from}" cannot fail over to itself`, `${field}.failover[${i}].to`);
  }
  return {
    enabled: p.enabled ?? true,
    distribute: distribute.map((d) => ({
      from: d.from as string,
      to: Object.entries(d.to as Record<string, number>).map(([name, weight]) => ({ locality: name, weight })),
    })),
    failover: failover.map((f) => ({ from: f.from as string, to: f.to as string })),
    failoverPriority: p.failoverPriority ?? [],
  };
}

/** Endpoints that there must be for it; undefined: off. */
function zoneAwareOf(p: Plain, field: string, report: FieldReport): number | undefined {
  if (!p.zoneAwareLbSetting) return undefined;
  const { distribute, failover, failoverPriority } = p.localityLbSetting ?? {};
  if (distribute || failover || failoverPriority) {
    const message = 'may not stand with a localityLbSetting that says where requests go: zones decide, or localities';
    report('WEFT-VALUE', message, `${field}.zoneAwareLbSetting`);
  }
  return p.zoneAwareLbSetting.minClusterSize ?? 6;
}

function warmupOf(p: Plain): WarmupModel | undefined {
  const durationMs = p.warmup?.duration ?? p.warmupDurationSecs;
  if (durationMs === undefined) return undefined;
  return {
    durationMs,
    minimumPercent: p.warmup?.minimumPercent ?? 10,
    aggression: p.warmup?.aggression ?? 1,
  };
}
