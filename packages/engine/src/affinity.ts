/** What a request is hashed by, for clusters with consistent hashing (Istio: loadBalancer.consistentHash). */
import type { Random } from '@weft/base';
import { hashText } from './hash.ts';
import { headValue, queryValue } from './match.ts';
import type { ClusterView } from './views.ts';

/** No key: the endpoint is drawn as without hashing. */
export const NO_HASH = -1;

/**
 * The hash of a request; NO_HASH where the cluster has no consistent hashing or the request lacks the key.
 * `remoteIp` is the caller's address. Cookies that the proxy makes: see `newAffinityCookie`.
 */
export function affinityHash(cluster: ClusterView, head: readonly string[], remoteIp: string): number {
  const key = cluster.cluster.hash?.key;
  if (!key?.case) return NO_HASH;
  let value: string | undefined;
  switch (key.case) {
    case 'header':
      value = headValue(head, key.value);
      break;
    case 'cookie':
      value = cookieValue(headValue(head, 'cookie'), key.value.name);
      break;
    case 'sourceIp':
      value = remoteIp;
      break;
    case 'queryParam':
      value = queryValue(pathOf(head), key.value);
  }
  return value === undefined || value === '' ? NO_HASH : hashText(value);
}

/**
 * The cookie to give a caller that has none, where the cluster's rule has a ttl: its value is the key from now on.
 * `setCookie` is the field value for the response. Undefined: none is to be made.
 */
export function newAffinityCookie(
  cluster: ClusterView,
  random: Random,
): { readonly hash: number; readonly setCookie: string } | undefined {
  const key = cluster.cluster.hash?.key;
  if (key?.case !== 'cookie' || key.value.ttlMs === undefined) return undefined;
  let value = '';
  for (let i = 0; i < 4; i++)
    value += Math.floor(random.next() * 0x1_0000_0000)
      .toString(16)
      .padStart(8, '0');
  const { name, path, ttlMs, attributes } = key.value;
  const age = ttlMs > 0 ? `; Max-Age=${Math.ceil(ttlMs / 1000)}` : '';
  const where = path === '' ? '' : `; Path=${path}`;
  const more = attributes.map((a) => `; ${a}`).join('');
  return { hash: hashText(value), setCookie: `${name}="${value}"${age}${where}; HttpOnly${more}` };
}

function pathOf(head: readonly string[]): string {
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 0x3a; i += 2)
    if (head[i] === ':path') return head[i + 1];
  return '';
}

/** RFC 6265 5.4: `name=value` pairs, parted by semicolons; a quoted value is taken without its quotes. */
export function cookieValue(cookies: string | undefined, name: string): string | undefined {
  if (cookies === undefined) return undefined;
  for (const pair of cookies.split(';')) {
    const eq = pair.indexOf('=');
    if (eq < 0 || pair.slice(0, eq).trim() !== name) continue;
    const value = pair.slice(eq + 1).trim();
    return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  }
  return undefined;
}
