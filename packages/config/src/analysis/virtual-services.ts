/** Rules that never match, destinations said twice, and retries that repeat what is not safe to repeat. */
import type { HttpRouteModel, VirtualServiceModel } from '@weft/model';
import type { Lint } from './lint.ts';

/** Conditions under which the application may have begun the request: sending it again may do it twice. */
const MAY_HAVE_BEGUN = new Set([
  '5xx',
  'gateway-error',
  'reset',
  'retriable-4xx',
  'retriable-status-codes',
  'retriable-headers',
  'deadline-exceeded',
  'internal',
]);
/** RFC 9110 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

export function lintVirtualServices(l: Lint): void {
  for (const vs of l.model.virtualServices) {
    if (!l.intact(vs)) continue;
    for (const routes of [vs.http, vs.tcp, vs.tls]) unreachable(l, vs, routes);
    for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) destinations(l, vs, route);
    for (const route of vs.http) retries(l, vs, route);
  }
}

interface Rule {
  readonly field: string;
  readonly match: readonly { readonly [key: string]: unknown }[] | readonly object[];
}

function unreachable({ report }: Lint, vs: VirtualServiceModel, routes: readonly Rule[]): void {
  const seen = new Map<string, string>();
  let all: string | undefined;
  for (const route of routes) {
    if (all !== undefined) {
      report(vs, 'IST0130', `never used: ${all} takes every request before it`, route.field);
      continue;
    }
    if (route.match.length === 0) {
      all = route.field;
      continue;
    }
    const keys = route.match.map(keyOf);
    const before = keys.map((k) => seen.get(k));
    if (before.every((b) => b !== undefined)) {
      report(
        vs,
        'IST0130',
        `never used: what it matches is matched by ${[...new Set(before)].join(', ')}`,
        route.field,
      );
    } else {
      for (const [i, b] of before.entries()) {
        if (b !== undefined) report(vs, 'IST0131', `${b} has the same match before it`, `${route.field}.match[${i}]`);
      }
    }
    for (const k of keys) if (!seen.has(k)) seen.set(k, route.field);
  }
}

/** Two matches with the same key match the same; where they stand and what they are called does not count. */
function keyOf(match: object): string {
  return JSON.stringify({ ...match, field: '', name: '' });
}

type Route = Pick<HttpRouteModel, 'field' | 'route'>;

function destinations({ report }: Lint, vs: VirtualServiceModel, route: Route): void {
  const seen = new Set<string>();
  for (const d of route.route) {
    const key = JSON.stringify([d.host, d.subset, d.port]);
    const shown = `${d.host}${d.subset ? ` subset ${d.subset}` : ''}`;
    if (seen.has(key)) report(vs, 'KIA1105', `${shown} is there twice: make one of it, with the sum`, d.field);
    seen.add(key);
  }
}

function retries({ report }: Lint, vs: VirtualServiceModel, { field, retries: r, match }: HttpRouteModel): void {
  if (!r || r.attempts === 0) return;
  const unsafe = r.retryOn.filter((c) => MAY_HAVE_BEGUN.has(c));
  if (unsafe.length === 0) return;
  const safe =
    match.length > 0 && match.every((m) => m.method?.type === 'exact' && IDEMPOTENT.has(m.method.value.toUpperCase()));
  if (safe) return;
  const message = `${unsafe.join(', ')} repeat${unsafe.length === 1 ? 's' : ''} requests that the application may have begun, and this route takes methods such as POST: give those a route of their own with retryOn: connect-failure,refused-stream, and match the others by method`;
  report(vs, 'WEFT-RETRY-UNSAFE', message, `${field}.retries.retryOn`);
}
