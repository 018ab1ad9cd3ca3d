import type { Random } from '@weft/base';
import type { RetryPolicy } from '@weft/plan';

/** Conditions of a retry policy as bits. */
const ON_5XX = 1;
const ON_GATEWAY = 2;
const ON_RESET = 4;
const ON_BEFORE_REQUEST = 8;
const ON_CONNECT = 16;
const ON_REFUSED = 32;
const ON_4XX = 64;
const ON_CODES = 128;
const ON_RATELIMITED = 256;

const conditionBits = new Map<string, number>([
  ['5xx', ON_5XX],
  ['gateway-error', ON_GATEWAY],
  ['reset', ON_RESET],
  ['reset-before-request', ON_BEFORE_REQUEST],
  ['connect-failure', ON_CONNECT],
  ['refused-stream', ON_REFUSED],
  ['retriable-4xx', ON_4XX],
  ['retriable-status-codes', ON_CODES],
  ['envoy-ratelimited', ON_RATELIMITED],
]);

const grpcConditions = new Map<string, number>([
  ['cancelled', 1],
  ['deadline-exceeded', 4],
  ['resource-exhausted', 8],
  ['internal', 13],
  ['unavailable', 14],
]);

/** Istio's conditions for routes that say nothing. All of them mean that the request was not processed. */
export const DEFAULT_RETRY_ON = 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes';

/** Tries of an opaque connection: nothing of it has been sent while no endpoint has accepted it. */
export const CONNECT_ATTEMPTS = 3;

export interface CompiledRetry {
  readonly ref: string;
  /** Retries, not requests. */
  readonly attempts: number;
  /** 0: the route's timeout. */
  readonly perTryTimeoutMs: number;
  readonly conditions: number;
  /** Bit per gRPC status. */
  readonly grpc: number;
  readonly codes: readonly number[];
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
  readonly ignorePreviousHosts: boolean;
  /** A retry goes to another locality than those tried, where an endpoint is well there. */
  readonly remoteLocalities: boolean;
  /** 0: Retry-After is not looked at. */
  readonly retryAfterMaxMs: number;
}

/** Compiles a policy; a route without one has the default (2 retries). Names that are no condition are ignored here. */
export function compileRetry(policy: RetryPolicy | undefined): CompiledRetry {
  let conditions = 0;
  let grpc = 0;
  const codes = policy ? [...policy.statusCodes] : [];
  const given = policy?.retryOn.length ? policy.retryOn : DEFAULT_RETRY_ON.split(',');
  for (const entry of given.flatMap((e) => e.split(','))) {
    const name = entry.trim().toLowerCase();
    const code = grpcConditions.get(name);
    if (code !== undefined) grpc |= 1 << code;
    else if (/^[1-5][0-9]{2}$/.test(name)) codes.push(Number(name));
    else conditions |= conditionBits.get(name) ?? 0;
  }
  if (codes.length > 0) conditions |= ON_CODES;
  const backoffBaseMs = policy?.backoffBaseMs || 25;
  return {
    ref: policy?.ref ?? '',
    attempts: policy ? policy.attempts : 2,
    perTryTimeoutMs: policy?.perTryTimeoutMs ?? 0,
    conditions,
    grpc,
    codes,
    backoffBaseMs,
    backoffMaxMs: Math.max(policy?.backoffMaxMs || 10 * backoffBaseMs, backoffBaseMs),
    ignorePreviousHosts: policy ? policy.ignorePreviousHosts : true,
    remoteLocalities: policy?.remoteLocalities ?? false,
    retryAfterMaxMs: policy?.retryAfterMaxMs ?? 0,
  };
}

export const defaultRetry: CompiledRetry = Object.freeze(compileRetry(undefined));

/** How an attempt failed. The route's own timeout is no outcome: it ends the request. */
export type AttemptOutcome =
  | {
      readonly kind: 'status';
      readonly status: number;
      /** `grpc-status` of the response's *head* (trailers-only); never of trailers. */
      readonly grpcStatus?: number;
      /** The response has `x-envoy-ratelimited`. */
      readonly rateLimited?: boolean;
      /** The response's `retry-after`. */
      readonly retryAfter?: string | undefined;
    }
  | {
      readonly kind: 'reset';
      /**
       * `connect`: no connection came to be; `before-request`: it broke before a byte of the request was sent;
       * `before-headers`: after that; `per-try-timeout`; `after-headers` and `overflow` (a limit of ours) never retry.
       */
      readonly phase:
        | 'connect'
        | 'before-request'
        | 'before-headers'
        | 'per-try-timeout'
        | 'after-headers'
        | 'overflow';
      /** REFUSED_STREAM, or GOAWAY below the stream: not processed. */
      readonly refused: boolean;
    };

export interface RetryDecision {
  readonly retry: boolean;
  readonly delayMs: number;
  /** `exhausted`: the outcome would be retried, but the attempts are used up (flag URX). */
  readonly reason: 'retry' | 'no-condition' | 'exhausted';
}

const NO_CONDITION: RetryDecision = Object.freeze({ retry: false, delayMs: 0, reason: 'no-condition' });
const EXHAUSTED: RetryDecision = Object.freeze({ retry: false, delayMs: 0, reason: 'exhausted' });

/** Retries of the server's side proxy where the mesh's settings say nothing. */
const APPLICATION_RETRIES = 2;

/**
 * Whether the server's side proxy tries its own application again after a failure: where that did not process the
 * request ("reset before request"), or closed a kept connection under one that may be repeated (`repeatable`). A refused
 * connection would be refused again at once; the client's proxy knows other instances. `most` undefined: the default.
 */
export function retriesAtApplication(
  outcome: AttemptOutcome,
  tries: number,
  repeatable: boolean,
  most: number | undefined,
): boolean {
  if (outcome.kind !== 'reset' || outcome.phase === 'connect') return false;
  return tries < (most ?? APPLICATION_RETRIES) && (outcome.refused || repeatable);
}

/** Whether the conditions of a policy cover an outcome (Envoy's RetryStateImpl). */
export function isRetriable(policy: CompiledRetry, outcome: AttemptOutcome): boolean {
  const on = policy.conditions;
  if (outcome.kind === 'reset') {
    if (outcome.phase === 'overflow' || outcome.phase === 'after-headers') return false;
    if (on & (ON_RESET | ON_5XX | ON_GATEWAY)) return true;
    if (on & ON_REFUSED && outcome.refused) return true;
    if (on & ON_CONNECT && outcome.phase === 'connect') return true;
    return (on & ON_BEFORE_REQUEST) !== 0 && (outcome.phase === 'connect' || outcome.phase === 'before-request');
  }
  if (outcome.rateLimited) return (on & ON_RATELIMITED) !== 0;
  const status = outcome.status;
  if (on & ON_5XX && status >= 500 && status < 600) return true;
  if (on & ON_GATEWAY && status >= 502 && status <= 504) return true;
  if (on & ON_4XX && status === 409) return true;
  if (on & ON_CODES && policy.codes.includes(status)) return true;
  const grpc = outcome.grpcStatus;
  return grpc !== undefined && grpc > 0 && grpc < 31 && (policy.grpc & (1 << grpc)) !== 0;
}

/**
 * Whether and when to try again. `attempt` is the number of the attempt that failed, 1 for the first. The wait before
 * retry N is uniform in [0, (2^N - 1) x base), the bound capped by the policy's maximum; where the policy looks at it, what
 * the response asked for by Retry-After, and up to half of that more.
 */
export function retryDecision(
  policy: CompiledRetry,
  outcome: AttemptOutcome,
  attempt: number,
  random: Random,
): RetryDecision {
  if (policy.attempts === 0 || !isRetriable(policy, outcome)) return NO_CONDITION;
  if (attempt > policy.attempts) return EXHAUSTED;
  const asked = outcome.kind === 'status' ? retryAfterMs(outcome.retryAfter) : 0;
  if (asked > 0 && asked <= policy.retryAfterMaxMs) {
    // Not before it, and not all who were told the same at one moment.
    return { retry: true, delayMs: asked * (1 + random.next() / 2), reason: 'retry' };
  }
  const bound = Math.min((2 ** Math.min(attempt, 30) - 1) * policy.backoffBaseMs, policy.backoffMaxMs);
  return { retry: true, delayMs: random.next() * bound, reason: 'retry' };
}

/** RFC 9110 10.2.3, in seconds; the form with a date is none of what servers send when they limit rates. 0: none. */
function retryAfterMs(field: string | undefined): number {
  return field !== undefined && /^\d{1,6}$/.test(field) ? Number(field) * 1000 : 0;
}
