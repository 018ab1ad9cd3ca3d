/** Annotations of Services and DestinationRules about balancing and failures: Linkerd's, and Weft's own. */
import type { FailureAccrualModel, Labels, OutlierRatesModel, ServiceBalancingModel } from '@weft/model';
import { parseDuration } from '../schema.ts';
import type { FieldReport } from './common.ts';

const VALUE = 'WEFT-VALUE';
const LINKERD = 'balancer.linkerd.io/failure-accrual';
const PARAMETERS = `${LINKERD}-consecutive-`;
/** A 429 counts as a failure too. */
const RATE_LIMITS = 'weft.dev/failure-accrual-rate-limits';
const BALANCER = 'weft.dev/load-balancer';
const OUTLIER = 'weft.dev/outlier-';

/** Reads values by annotation, reports what is none, and afterwards names that do not exist. */
class Reader {
  readonly #annotations: Labels;
  readonly #report: FieldReport;
  readonly #known = new Set<string>();

  constructor(annotations: Labels, report: FieldReport) {
    this.#annotations = annotations;
    this.#report = report;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#annotations, key);
  }

  bad(key: string, message: string): void {
    this.#report(VALUE, message, `metadata.annotations.${key}`);
  }

  text(key: string, allowed: readonly string[]): string | undefined {
    this.#known.add(key);
    if (!this.has(key)) return undefined;
    const text = this.#annotations[key];
    if (allowed.includes(text)) return text;
    this.bad(key, `is "${text.slice(0, 40)}"; it may be ${allowed.join(', ')}`);
    return undefined;
  }

  number(key: string, min: number, max: number, whole: boolean): number | undefined {
    this.#known.add(key);
    if (!this.has(key)) return undefined;
    const text = this.#annotations[key];
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
    this.bad(key, `is "${text.slice(0, 40)}", not a ${whole ? 'whole ' : ''}number from ${min} to ${max}`);
    return undefined;
  }

  durationMs(key: string): number | undefined {
    this.#known.add(key);
    if (!this.has(key)) return undefined;
    const ms = parseDuration(this.#annotations[key]);
    if (ms !== undefined && ms > 0) return ms;
    this.bad(key, `is "${this.#annotations[key].slice(0, 40)}", not a duration such as 1s`);
    return undefined;
  }

  /** Those that begin with `prefix` and were not asked for are mistakes. */
  done(prefix: string): void {
    for (const key of Object.keys(this.#annotations)) {
      if (key.startsWith(prefix) && !this.#known.has(key))
        this.bad(key, `is not known; there are ${[...this.#known].filter((k) => k.startsWith(prefix)).join(', ')}`);
    }
  }
}

/** Of a Service: how its clients balance and when they open a breaker. */
export function serviceBalancing(annotations: Labels, report: FieldReport): ServiceBalancingModel | undefined {
  const read = new Reader(annotations, report);
  const balancer = read.text(BALANCER, ['peak-ewma', 'least-request', 'round-robin', 'random']);
  const accrual = failureAccrual(read);
  read.done(LINKERD);
  read.done(RATE_LIMITS);
  if (balancer === undefined && accrual === undefined) return undefined;
  return {
    balancer: balancer as ServiceBalancingModel['balancer'],
    balancerField: `metadata.annotations.${BALANCER}`,
    accrual,
    accrualField: `metadata.annotations.${LINKERD}`,
  };
}

function failureAccrual(read: Reader): FailureAccrualModel | undefined {
  const mode = read.text(LINKERD, ['consecutive']);
  const maxFailures = read.number(`${PARAMETERS}max-failures`, 1, 1_000_000, true);
  const minPenaltyMs = read.durationMs(`${PARAMETERS}min-penalty`) ?? 1000;
  const maxPenaltyMs = read.durationMs(`${PARAMETERS}max-penalty`) ?? Math.max(60_000, minPenaltyMs);
  const jitter = read.number(`${PARAMETERS}jitter-ratio`, 0, 100, false);
  const rateLimits = read.text(RATE_LIMITS, ['true', 'false']);
  if (maxPenaltyMs < minPenaltyMs) read.bad(`${PARAMETERS}max-penalty`, 'is less than the minimum');
  if (mode === undefined) {
    if (rateLimits !== undefined) read.bad(RATE_LIMITS, `has no effect without ${LINKERD}: consecutive`);
    return undefined;
  }
  return {
    maxFailures: maxFailures ?? 7,
    minPenaltyMs,
    maxPenaltyMs,
    jitter: jitter ?? 0.5,
    rateLimits: rateLimits === 'true',
  };
}

const RATE_SCOPE = 'weft.dev/rate-limit-scope';

/** Of a rate limit: whether its rates are those of all replicas together (`service`), or of each (`replica`, the default). */
export function rateLimitShared(annotations: Labels, report: FieldReport): boolean {
  const read = new Reader(annotations, report);
  const scope = read.text(RATE_SCOPE, ['service', 'replica']);
  // It is the only annotation of ours that such a policy may have.
  read.done('weft.dev/');
  return scope === 'service';
}

const FAIL_FAST = 'weft.dev/fail-fast';

/** Of a Service: how long its clients wait for a connection before they refuse requests at once (Linkerd's fail-fast). */
export function failFast(annotations: Labels, report: FieldReport): number | undefined {
  return new Reader(annotations, report).durationMs(FAIL_FAST);
}

const MAX_STREAM = 'weft.dev/max-stream-duration';

/** Of a DestinationRule: how long one try with its response may last. Istio has no field for it. */
export function maxStreamDuration(annotations: Labels, report: FieldReport): number | undefined {
  const read = new Reader(annotations, report);
  return read.durationMs(MAX_STREAM);
}

/** Of a DestinationRule: rates that Istio has no fields for; they hold for each `outlierDetection` of the rule. */
export function outlierRates(
  annotations: Labels,
  hasOutlier: boolean,
  report: FieldReport,
): OutlierRatesModel | undefined {
  const read = new Reader(annotations, report);
  const stdevFactor = read.number(`${OUTLIER}success-rate-stdev-factor`, 0.001, 100, false);
  const failurePercentage = read.number(`${OUTLIER}failure-percentage`, 1, 100, true);
  const minimumHosts = read.number(`${OUTLIER}minimum-hosts`, 1, 1_000_000, true);
  const requestVolume = read.number(`${OUTLIER}request-volume`, 1, 1_000_000, true);
  read.done(OUTLIER);
  const first = Object.keys(annotations).find((key) => key.startsWith(OUTLIER));
  if (first === undefined) return undefined;
  if (!hasOutlier) read.bad(first, 'has no effect: the rule has no outlierDetection');
  if (stdevFactor === undefined && failurePercentage === undefined) {
    read.bad(first, `has no effect without ${OUTLIER}success-rate-stdev-factor or ${OUTLIER}failure-percentage`);
  }
  return {
    stdevFactor: stdevFactor ?? 0,
    failurePercentage: failurePercentage ?? 0,
    minimumHosts: minimumHosts ?? 5,
    requestVolume: requestVolume ?? (stdevFactor === undefined ? 50 : 100),
  };
}
