/** What an external authorizer said of a request, made safe: it may add headers, not take the request apart. */
import { type Head, isFieldValue, isToken } from '@weft/wire';
import { field, removeField, setPseudo } from '../http/headers.ts';

export interface HeaderChange {
  readonly name: string;
  readonly value: string;
  readonly how: 'set' | 'append' | 'add_if_absent' | 'overwrite_if_there';
}

export type CheckOutcome =
  | {
      readonly kind: 'allow';
      /** Of the request that goes on. */
      readonly changes: readonly HeaderChange[];
      readonly remove: readonly string[];
      /** Query parameters of it. */
      readonly params: readonly (readonly [string, string])[];
      readonly dropParams: readonly string[];
      /** Of the response to the client. */
      readonly response: Head;
    }
  | { readonly kind: 'deny'; readonly status: number; readonly headers: Head; readonly body: Buffer }
  /** No answer, or none that can be understood. */
  | { readonly kind: 'error'; readonly why: string };

/** What says where a message ends or goes, and what HTTP itself puts on. */
const FRAMING = new Set([
  ...['connection', 'content-length', 'host', 'keep-alive', 'proxy-connection', 'te', 'trailer'],
  ...['transfer-encoding', 'upgrade', 'expect'],
]);

/** Neither framing nor a header by which proxies of the mesh talk, in whatever spelling. */
export function mayChange(name: string): boolean {
  if (!isToken(name) || FRAMING.has(name)) return false;
  const plain = name.includes('_') ? name.replaceAll('_', '-') : name;
  return (
    !plain.startsWith('x-weft-') && plain !== 'x-forwarded-client-cert' && !plain.startsWith('x-envoy-peer-metadata')
  );
}

export function isHeader(name: string, value: string): boolean {
  return mayChange(name) && isFieldValue(value);
}

/** Exact, `prefix*`, `*suffix`, `*`. */
export function matchesAny(patterns: readonly string[], name: string): boolean {
  for (const p of patterns) {
    if (p === '*' || p === name) return true;
    if (p.endsWith('*') && name.startsWith(p.slice(0, -1))) return true;
    if (p.startsWith('*') && name.endsWith(p.slice(1))) return true;
  }
  return false;
}

/** Changes the head of a request that was let pass. */
export function applyAllowed(outcome: Extract<CheckOutcome, { kind: 'allow' }>, head: Head): void {
  for (const name of outcome.remove) removeField(head, name);
  for (const { name, value, how } of outcome.changes) {
    const there = field(head, name) !== undefined;
    if (how === 'add_if_absent' ? there : how === 'overwrite_if_there' && !there) continue;
    if (how !== 'append') removeField(head, name);
    head.push(name, value);
  }
  if (outcome.params.length + outcome.dropParams.length > 0) changeQuery(outcome, head);
}

function changeQuery(outcome: Extract<CheckOutcome, { kind: 'allow' }>, head: Head): void {
  const path = field(head, ':path');
  if (path === undefined) return;
  const mark = path.indexOf('?');
  const changed = new Set([...outcome.dropParams, ...outcome.params.map(([name]) => name)]);
  const kept = (mark < 0 ? [] : path.slice(mark + 1).split('&')).filter(
    (pair) => ![...new URLSearchParams(pair).keys()].some((name) => changed.has(name)),
  );
  for (const [name, value] of outcome.params) kept.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  const base = mark < 0 ? path : path.slice(0, mark);
  setPseudo(head, ':path', kept.length > 0 ? `${base}?${kept.join('&')}` : base);
}
