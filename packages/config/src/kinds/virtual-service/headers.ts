/** Headers that a route or one of its destinations sets, adds and removes. */
import type { HeaderOperationsModel } from '@weft/model';
import type { ObjectSchema, Schema } from '../../schema.ts';
import { checkHeaderName, checkHeaderValue, type Plain } from '../common.ts';

const headerPairs: Schema = {
  t: 'map',
  of: { t: 'string', check: checkHeaderValue },
  checkKey: checkHeaderName,
};
const headerList: Schema = {
  t: 'list',
  of: { t: 'string', check: (v) => (checkHeaderName(v) ? 'it is no header name' : undefined) },
};
const headerSide: ObjectSchema = { t: 'object', fields: { set: headerPairs, add: headerPairs, remove: headerList } };
export const headers: ObjectSchema = { t: 'object', fields: { request: headerSide, response: headerSide } };

export function headersOf(h: Plain | undefined): HeaderOperationsModel | undefined {
  if (!h) return undefined;
  const pairs = (map: Plain | undefined) =>
    Object.entries(map ?? {}).map(([name, value]) => [name.toLowerCase(), String(value ?? '')] as const);
  const names = (list: string[] | undefined) => (list ?? []).map((n) => String(n).toLowerCase());
  return {
    requestSet: pairs(h.request?.set),
    requestAdd: pairs(h.request?.add),
    requestRemove: names(h.request?.remove),
    responseSet: pairs(h.response?.set),
    responseAdd: pairs(h.response?.add),
    responseRemove: names(h.response?.remove),
  };
}
