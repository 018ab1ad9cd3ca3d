/** Sessions whose requests go to one endpoint, whatever the weights (Gateway API `sessionPersistence`, GEP-1619). */
import type { SessionPersistence } from '@weft/plan';
import { cookieValue } from './affinity.ts';
import { hashText } from './hash.ts';
import type { HeaderOps } from './header-ops.ts';
import { isOut } from './health.ts';
import { headValue } from './match.ts';
import type { ClusterView, EndpointView } from './views.ts';

/** Of one request to a route with sessions. */
export interface SessionDecision {
  readonly rule: SessionPersistence;
  /** Whom the request's token names; undefined: it has none that is still good. */
  readonly endpoint: EndpointView | undefined;
  /** When the session began, in milliseconds of the wall clock; 0: it begins now. */
  readonly createdMs: number;
}

interface Token {
  readonly key: string;
  readonly createdMs: number;
}

/** The token of a request; undefined where it has none, or one that is too old. `wallMs` 0: its age is not looked at. */
export function readToken(rule: SessionPersistence, head: readonly string[], wallMs: number): Token | undefined {
  const text = rule.header ? headValue(head, rule.name) : cookieValue(headValue(head, 'cookie'), rule.name);
  const parts = text === undefined || text.length > 40 ? [] : text.split('.');
  if (parts.length !== 3) return undefined;
  const createdMs = Number.parseInt(parts[1], 36) * 1000;
  const lastMs = Number.parseInt(parts[2], 36) * 1000;
  if (!(createdMs >= 0) || !(lastMs >= 0)) return undefined;
  if (wallMs > 0) {
    if (rule.absoluteTimeoutMs > 0 && wallMs - createdMs >= rule.absoluteTimeoutMs) return undefined;
    if (rule.idleTimeoutMs > 0 && wallMs - lastMs >= rule.idleTimeoutMs) return undefined;
  }
  return { key: parts[0], createdMs };
}

const keyed = new WeakMap<readonly EndpointView[], Map<string, EndpointView>>();

/** The endpoint of a cluster that a token names, if it is there and well. */
export function namedEndpoint(cluster: ClusterView, key: string): EndpointView | undefined {
  const { candidates } = cluster;
  let table = keyed.get(candidates);
  if (!table) keyed.set(candidates, (table = new Map(candidates.map((e) => [keyOf(e), e]))));
  const found = table.get(key);
  return found && !isOut(found.state) && !cluster.pinned ? found : undefined;
}

/** Says nothing of addresses to who reads it. */
function keyOf({ endpoint }: EndpointView): string {
  return hashText(`${endpoint.instance}|${endpoint.address}|${endpoint.port}`).toString(16).padStart(8, '0');
}

/** What the answer says, so that the next request goes to `endpoint` too; undefined: the client knows. */
export function sessionOps(
  session: SessionDecision,
  endpoint: EndpointView,
  wallMs: number,
  secure: boolean,
): HeaderOps | undefined {
  const { rule } = session;
  const known = session.endpoint?.state === endpoint.state;
  if (known && rule.idleTimeoutMs === 0) return undefined;
  const begun = session.createdMs > 0 ? session.createdMs : wallMs;
  const seconds = (ms: number): string => Math.floor(ms / 1000).toString(36);
  const token = `${keyOf(endpoint)}.${seconds(begun)}.${seconds(wallMs)}`;
  if (rule.header) return { remove: [], set: [rule.name, token], add: [] };
  const left = Math.max(1, Math.ceil((begun + rule.absoluteTimeoutMs - wallMs) / 1000));
  const age = rule.permanent ? `; Max-Age=${left}` : '';
  return {
    remove: [],
    set: [],
    add: ['set-cookie', `${rule.name}=${token}; Path=/${age}; HttpOnly${secure ? '; Secure' : ''}`],
  };
}
