/** `sessionPersistence` of a rule (GEP-1619). */
import type { Resource, SessionModel } from '@weft/model';
import { checkHeaderName, type FieldReport, type Plain } from '../kinds/common.ts';
import type { ObjectSchema } from '../schema.ts';
import { durationOf, gepDuration } from './common.ts';

export const sessionPersistence: ObjectSchema = {
  t: 'object',
  fields: {
    sessionName: { t: 'string', check: (v) => (v.length > 128 ? 'it has at most 128 characters' : checkHeaderName(v)) },
    absoluteTimeout: gepDuration,
    idleTimeout: gepDuration,
    type: { t: 'string', enum: ['Cookie', 'Header'] },
    cookieConfig: { t: 'object', fields: { lifetimeType: { t: 'string', enum: ['Permanent', 'Session'] } } },
  },
};

/** `place` is the rule's number: routes that name no session have one of their own for each rule. */
export function sessionOf(
  s: Plain | undefined,
  resource: Resource,
  field: string,
  place: number,
  report: FieldReport,
): SessionModel | undefined {
  if (!s) return undefined;
  const at = `${field}.sessionPersistence`;
  const header = s.type === 'Header';
  const permanent = s.cookieConfig?.lifetimeType === 'Permanent';
  const absoluteTimeoutMs = durationOf(s.absoluteTimeout) ?? 0;
  if (permanent && absoluteTimeoutMs === 0) {
    report('WEFT-FIELD', 'a Permanent cookie needs absoluteTimeout: so long it is kept', `${at}.absoluteTimeout`);
  }
  if (header && s.cookieConfig) report('WEFT-VALUE', 'is for the type Cookie', `${at}.cookieConfig`);
  const name: string = s.sessionName ?? `weft-${resource.namespace}-${resource.name}-${place}`;
  return {
    field: at,
    name: header ? name.toLowerCase() : name,
    header,
    absoluteTimeoutMs,
    idleTimeoutMs: durationOf(s.idleTimeout) ?? 0,
    permanent,
  };
}
