/** Which clients a route is for, and which of their requests. */
import { create } from '@bufbuild/protobuf';
import {
  type HttpMatch,
  HttpMatchSchema,
  type KeyMatch,
  KeyMatchSchema,
  type StringMatch,
  StringMatchSchema,
} from '@weft/plan';
import type { Client } from './clusters.ts';
import { labelsMatch } from './hosts.ts';
import type { RefTable } from './refs.ts';
import type { Resource } from './types/resource.ts';
import type { HttpMatchModel, KeyMatchModel, StringMatchModel } from './types/route.ts';

/** Those that can hold for this client there; undefined: none can. With no match at all a route holds always. */
export function matchesFor<M extends Parameters<typeof appliesTo>[0]>(
  matches: readonly M[],
  client: Client,
  gateway: string,
  port: number,
): M[] | undefined {
  const match = matches.filter((m) => appliesTo(m, client, gateway, port));
  return matches.length > 0 && match.length === 0 ? undefined : match;
}

export function appliesTo(
  m: Pick<HttpMatchModel, 'port' | 'sourceLabels' | 'sourceNamespace' | 'gateways'>,
  client: Client,
  gateway: string,
  port: number,
): boolean {
  if (m.gateways.length > 0 && !m.gateways.includes(gateway)) return false;
  if (m.port !== 0 && m.port !== port) return false;
  if (m.sourceNamespace !== '' && m.sourceNamespace !== client.namespace) return false;
  return labelsMatch(m.sourceLabels, client.labels);
}

/** One match as the plan says it. */
export function httpMatch(m: HttpMatchModel, from: Resource, refs: RefTable): HttpMatch {
  return create(HttpMatchSchema, {
    ref: refs.use(from, m.field),
    uri: stringMatch(m.uri),
    method: stringMatch(m.method),
    authority: stringMatch(m.authority),
    scheme: stringMatch(m.scheme),
    headers: m.headers.map(keyMatch),
    withoutHeaders: m.withoutHeaders.map(keyMatch),
    queryParams: m.queryParams.map(keyMatch),
    ignoreUriCase: m.ignoreUriCase,
  });
}

export function stringMatch(m: StringMatchModel | undefined): StringMatch | undefined {
  if (!m) return undefined;
  return create(StringMatchSchema, {
    kind: m.type === 'present' ? { case: 'present', value: true } : { case: m.type, value: m.value },
  });
}

function keyMatch(m: KeyMatchModel): KeyMatch {
  return create(KeyMatchSchema, { name: m.name, value: stringMatch(m.value) });
}
