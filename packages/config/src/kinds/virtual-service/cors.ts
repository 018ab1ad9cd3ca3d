/** CORS of a route. */
import type { CorsModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../../schema.ts';
import { bool, checkHeaderName, type FieldReport, type Plain } from '../common.ts';
import { stringMatch, stringOf } from './match.ts';

/** A method or the name of a header, or `*`. */
const token: Schema = {
  t: 'string',
  check: (v) => (checkHeaderName(v) ? 'it is no token of letters, digits and "-"' : undefined),
};

export const corsPolicy: ObjectSchema = {
  t: 'object',
  fields: {
    allowOrigins: { t: 'list', max: 1000, of: stringMatch },
    allowMethods: { t: 'list', max: 100, of: token },
    allowHeaders: { t: 'list', max: 1000, of: token },
    exposeHeaders: { t: 'list', max: 1000, of: token },
    maxAge: { t: 'duration' },
    allowCredentials: bool,
    unmatchedPreflights: { t: 'string', enum: ['UNSPECIFIED', 'FORWARD', 'IGNORE'] },
  },
  replaced: { allowOrigin: 'allowOrigins: [{exact: …}]' },
};

export function corsOf(c: Plain, field: string, report: FieldReport): CorsModel {
  const allowOrigins = ((c.allowOrigins ?? []) as (Plain | undefined)[]).flatMap((m) => stringOf(m) ?? []);
  if (allowOrigins.length === 0) {
    report('WEFT-NO-EFFECT', 'without allowOrigins no origin is allowed anything', field, 'warning');
  }
  return {
    allowOrigins,
    allowMethods: c.allowMethods ?? [],
    allowHeaders: c.allowHeaders ?? [],
    exposeHeaders: c.exposeHeaders ?? [],
    maxAgeMs: c.maxAge,
    allowCredentials: c.allowCredentials ?? false,
    ignoreUnmatchedPreflights: c.unmatchedPreflights === 'IGNORE',
  };
}
