/** Faults of a route: requests that are delayed, or answered in the place of the service. */
import { GRPC_STATUS_NAMES } from '@weft/base';
import { FAULT_BANDWIDTH, FAULT_POSITION, type FaultModel, type HttpRouteModel, type Resource } from '@weft/model';
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
      replaced: { percent: 'percentage: {value: …}' },
      unsupported: ['exponentialDelay'],
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
      replaced: { percent: 'percentage: {value: …}' },
      unsupported: ['http2Error'],
    },
  },
};

export function checkFaultPosition(resource: Resource, spec: Plain, report: FieldReport): void {
  const position = resource.annotations[FAULT_POSITION];
  if (position === undefined) return;
  const field = `metadata.annotations.${FAULT_POSITION}`;
  if (position !== 'before-retry' && position !== 'behind-retry') {
    report('WEFT-VALUE', `is "${position.slice(0, 40)}"; it may be before-retry, behind-retry`, field);
  } else if (!((spec.http ?? []) as Plain[]).some((r) => r?.fault) && !resource.annotations[FAULT_BANDWIDTH]) {
    report('WEFT-NO-EFFECT', 'has no effect: no route has a fault', field, 'warning');
  }
}

const BANDWIDTH = /^(?:([^=,@]+)=)?(\d{1,10})(?:@(\d{1,3}(?:\.\d{1,4})?)%)?$/;

/**
 * Routes with what the annotation says of their responses: `16384` (bytes a second, of all routes) or `slow=16384@50%`
 * (of the route of that name, half of its responses); several with commas between.
 */
export function withBandwidth(
  resource: Resource,
  routes: readonly HttpRouteModel[],
  report: FieldReport,
): readonly HttpRouteModel[] {
  const text = resource.annotations[FAULT_BANDWIDTH];
  if (text === undefined) return routes;
  const field = `metadata.annotations.${FAULT_BANDWIDTH}`;
  const slow = new Map<HttpRouteModel, NonNullable<FaultModel['bandwidth']>>();
  for (const entry of text.split(',')) {
    const [whole, name, bytes, share] = BANDWIDTH.exec(entry.trim()) ?? [];
    const bytesPerSecond = Number(bytes);
    const percent = Number(share ?? 100);
    if (whole === undefined || bytesPerSecond < 1 || bytesPerSecond > 4_294_967_295 || percent > 100) {
      const shape = 'say bytes a second, with a route name and a share where wanted: 16384, or slow=16384@50%';
      report('WEFT-VALUE', `has "${entry.trim().slice(0, 60)}"; ${shape}`, field);
      continue;
    }
    const meant = routes.filter((r) => r.route.length > 0 && (name === undefined || r.name === name.trim()));
    for (const r of meant) slow.set(r, { percent, bytesPerSecond });
    if (meant.length > 0) continue;
    const names = routes.flatMap((r) => (r.name && r.route.length > 0 ? [r.name] : [])).join(', ') || 'none';
    if (name === undefined) report('WEFT-NO-EFFECT', 'has no effect: no route sends anything on', field, 'warning');
    else report('WEFT-VALUE', `names the route "${name.trim().slice(0, 60)}"; routes with a name: ${names}`, field);
  }
  return routes.map((r) => {
    const bandwidth = slow.get(r);
    return bandwidth ? { ...r, fault: { delay: r.fault?.delay, abort: r.fault?.abort, bandwidth } } : r;
  });
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
