/** Faults of a route: requests that are delayed, or answered in the place of the service. */
import { GRPC_STATUS_NAMES } from '@weft/base';
import { FAULT_POSITION, type FaultModel, type Resource } from '@weft/model';
import type { ObjectSchema } from '../../schema.ts';
import type { FieldReport, Plain } from '../common.ts';
import { percentage } from './destinations.ts';

export const fault: ObjectSchema = {
  t: 'object',
  fields: {
    delay: {
      t: 'object',
      fields: { percentage, fixedDelay: { t: 'duration', minMs: 1 } },
      required: ['fixedDelay'],
      unsupported: ['percent', 'exponentialDelay'],
    },
    abort: {
      t: 'object',
      fields: {
        percentage,
        httpStatus: { t: 'int', min: 200, max: 599 },
        grpcStatus: {
          t: 'string',
          check: (v) =>
            GRPC_STATUS_NAMES.includes(v) ? undefined : `there is no such status: ${GRPC_STATUS_NAMES.join(', ')}`,
        },
      },
      oneOf: [['httpStatus', 'grpcStatus']],
      unsupported: ['percent', 'http2Error'],
    },
  },
};

export function checkFaultPosition(resource: Resource, spec: Plain, report: FieldReport): void {
  const position = resource.annotations[FAULT_POSITION];
  if (position === undefined) return;
  const field = `metadata.annotations.${FAULT_POSITION}`;
  if (position !== 'before-retry' && position !== 'behind-retry') {
    report('WEFT-VALUE', `is "${position.slice(0, 40)}"; it may be before-retry, behind-retry`, field);
  } else if (!((spec.http ?? []) as Plain[]).some((r) => r?.fault)) {
    report('WEFT-NO-EFFECT', 'has no effect: no route has a fault', field, 'warning');
  }
}

export function faultOf(f: Plain, field: string, report: FieldReport): FaultModel {
  if (!f.delay && !f.abort) report('WEFT-VALUE', 'a fault needs delay or abort', field);
  if (f.abort && f.abort.httpStatus === undefined && f.abort.grpcStatus === undefined) {
    report('WEFT-FIELD', 'an abort needs httpStatus or grpcStatus', `${field}.abort`);
  }
  for (const kind of ['delay', 'abort']) {
    if (f[kind] && f[kind].percentage?.value === undefined) {
      report('WEFT-NO-EFFECT', 'without percentage.value no request is touched', `${field}.${kind}`, 'warning');
    }
  }
  return {
    delay: f.delay ? { percent: f.delay.percentage?.value ?? 0, delayMs: f.delay.fixedDelay ?? 0 } : undefined,
    abort: f.abort
      ? {
          percent: f.abort.percentage?.value ?? 0,
          httpStatus: f.abort.httpStatus ?? 0,
          grpcStatus: Math.max(0, GRPC_STATUS_NAMES.indexOf(f.abort.grpcStatus)),
        }
      : undefined,
  };
}
