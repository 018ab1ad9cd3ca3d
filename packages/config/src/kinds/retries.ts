/** Istio's HTTPRetry, of a route and of the mesh settings. */
import type { RetriesModel } from '@weft/model';
import type { ObjectSchema } from '../schema.ts';
import { bool, type FieldReport, type Plain, str } from './common.ts';

const RETRY_ON = new Set([
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'refused-stream',
  'retriable-4xx',
  'retriable-status-codes',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
  'envoy-ratelimited',
]);

export const retries: ObjectSchema = {
  t: 'object',
  fields: {
    attempts: { t: 'int', min: 0, max: 100 },
    perTryTimeout: { t: 'duration', minMs: 1 },
    retryOn: str,
    retryIgnorePreviousHosts: bool,
    retryRemoteLocalities: bool,
    backoff: { t: 'duration', minMs: 1 },
  },
  required: ['attempts'],
};

export function retriesOf(r: Plain, field: string, report: FieldReport): RetriesModel {
  const retryOn: string[] = [];
  const statusCodes: number[] = [];
  for (const word of ((r.retryOn ?? '') as string).split(',').map((w) => w.trim())) {
    if (word === '') continue;
    if (/^[1-5]\d\d$/.test(word)) statusCodes.push(Number(word));
    else if (RETRY_ON.has(word)) retryOn.push(word);
    else {
      const known = [...RETRY_ON].join(', ');
      report(
        'WEFT-VALUE',
        `there is no condition "${word.slice(0, 80)}" here: ${known}, or a status code`,
        `${field}.retryOn`,
      );
    }
  }
  if (statusCodes.length > 0 && !retryOn.includes('retriable-status-codes')) retryOn.push('retriable-status-codes');
  return {
    attempts: r.attempts ?? 0,
    perTryTimeoutMs: r.perTryTimeout ?? 0,
    retryOn,
    statusCodes,
    backoffMs: r.backoff ?? 0,
    ignorePreviousHosts: r.retryIgnorePreviousHosts ?? true,
    remoteLocalities: r.retryRemoteLocalities ?? false,
  };
}
