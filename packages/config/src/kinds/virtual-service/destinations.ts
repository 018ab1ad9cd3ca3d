/** Where the requests of a route go, and copies of them. */
import type { DestinationModel, MirrorModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../../schema.ts';
import { checkHost, type FieldReport, type Plain, percent, port, portName } from '../common.ts';
import { headersOf } from './headers.ts';

export const destination: ObjectSchema = {
  t: 'object',
  fields: {
    host: { t: 'string', check: (v) => (v.includes('*') ? 'a destination is one host' : checkHost(v)) },
    subset: portName,
    port: { t: 'object', fields: { number: port }, required: ['number'] },
  },
  required: ['host'],
};
export const weight: Schema = { t: 'int', min: 0, max: 1_000_000 };
export const percentage: ObjectSchema = { t: 'object', fields: { value: percent } };

/** `mirror` with `mirrorPercentage` is the older form of one entry of `mirrors`. */
export function mirrorsOf(r: Plain, field: string, report: FieldReport): MirrorModel[] {
  if (r.mirrorPercentage && !r.mirror) {
    const message = 'without mirror no request is copied; an entry of mirrors has a percentage of its own';
    report('WEFT-NO-EFFECT', message, `${field}.mirrorPercentage`, 'warning');
  }
  const list: MirrorModel[] = [];
  const add = (d: Plain | undefined, percentage: Plain | undefined, at: string): void => {
    const { host, subset, port: p } = d ?? {};
    // Absent: all. A percentage without a value is 0, as in Istio.
    const part = percentage ? (percentage.value ?? 0) : 100;
    list.push({ field: at, host: host ?? '', subset: subset ?? '', port: p?.number ?? 0, percent: part });
  };
  if (r.mirror) add(r.mirror, r.mirrorPercentage, `${field}.mirror`);
  for (const [i, m] of ((r.mirrors ?? []) as Plain[]).entries()) {
    add(m?.destination, m?.percentage, `${field}.mirrors[${i}].destination`);
  }
  const at = `${field}.${r.mirror ? 'mirror' : 'mirrors'}`;
  if (r.mirror && r.mirrors?.length) report('WEFT-VALUE', 'mirror may not stand with mirrors: use mirrors', at);
  if (list.length > 0 && !r.route?.length && !r.delegate)
    report('WEFT-VALUE', 'only requests of a route are copied', at);
  return list;
}

export function destinationsOf(route: Plain[] | undefined, field: string, report: FieldReport): DestinationModel[] {
  const list = (route ?? []).map((d, i) => ({
    field: `${field}.route[${i}]`,
    host: d?.destination?.host ?? '',
    subset: d?.destination?.subset ?? '',
    port: d?.destination?.port?.number ?? 0,
    // One destination takes all, whatever its weight says
    weight: route?.length === 1 ? 100 : (d?.weight ?? 0),
    headers: headersOf(d?.headers),
  }));
  const alone = route?.length === 1 ? route[0]?.weight : undefined;
  if (alone !== undefined && alone < 100) {
    const message = `is ${alone}, but the destination is alone: it gets all requests`;
    report('WEFT-NO-EFFECT', message, `${field}.route[0].weight`, 'warning');
  }
  const sum = list.reduce((n, d) => n + d.weight, 0);
  if (list.length > 0 && sum === 0)
    report('WEFT-VALUE', 'the weights add up to 0: nothing would be routed', `${field}.route`);
  if (sum > 4_294_967_295) report('WEFT-VALUE', 'the weights add up to more than 4294967295', `${field}.route`);
  return list;
}
