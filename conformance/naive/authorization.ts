/**
 * AuthorizationPolicy read off its documentation, as plainly as it can be written: no tables, nothing compiled, nothing
 * of Weft imported. Weft's decisions are compared with it.
 */

export type Strings = readonly string[] | undefined;
export type Fields = Readonly<Record<string, Strings>>;

export interface NaiveRule {
  from?: { source: Fields }[];
  to?: { operation: Fields }[];
  when?: { key: string; values?: string[]; notValues?: string[] }[];
}

export interface NaivePolicy {
  namespace: string;
  selector?: Readonly<Record<string, string>>;
  action: 'ALLOW' | 'DENY' | 'AUDIT';
  dryRun?: boolean;
  rules: NaiveRule[];
}

export interface NaiveRequest {
  principal?: string;
  ip: string;
  port: number;
  localIp: string;
  /** Absent for TCP. */
  http?: { method: string; path: string; host: string; headers: readonly (readonly [string, string])[] };
}

const HTTP_FIELDS = ['hosts', 'methods', 'paths'];

export function naiveAllows(
  policies: readonly NaivePolicy[],
  workload: { namespace: string; labels: Readonly<Record<string, string>> },
  rootNamespace: string,
  request: NaiveRequest,
): boolean {
  const mine = policies.filter(
    (p) =>
      !p.dryRun &&
      (p.namespace === rootNamespace || p.namespace === workload.namespace) &&
      Object.entries(p.selector ?? {}).every(([k, v]) => workload.labels[k] === v),
  );
  const denies = mine.filter((p) => p.action === 'DENY');
  const allows = mine.filter((p) => p.action === 'ALLOW');
  if (denies.some((p) => p.rules.some((r) => ruleMatches(r, request, 'deny', p.namespace)))) return false;
  if (allows.length === 0) return true;
  return allows.some((p) => p.rules.some((r) => ruleMatches(r, request, 'allow', p.namespace)));
}

function usesHttp(rule: NaiveRule): boolean {
  for (const { operation } of rule.to ?? []) {
    for (const name of HTTP_FIELDS) {
      const not = `not${name[0].toUpperCase()}${name.slice(1)}`;
      if (operation[name]?.length || operation[not]?.length) return true;
    }
  }
  return (rule.when ?? []).some((c) => c.key.startsWith('request.'));
}

function ruleMatches(rule: NaiveRule, request: NaiveRequest, side: 'allow' | 'deny', namespace: string): boolean {
  if (!request.http && side === 'allow' && usesHttp(rule)) return false;
  const from = rule.from ?? [];
  const to = rule.to ?? [];
  if (from.length > 0 && !from.some(({ source }) => fieldsMatch(source, request, namespace))) return false;
  if (to.length > 0 && !to.some(({ operation }) => fieldsMatch(operation, request, namespace))) return false;
  for (const c of rule.when ?? []) {
    const header = /^request\.headers\[(.*)\]$/.exec(c.key);
    if (header) {
      if (!request.http) continue; // only a denying rule comes here
      if (!headerHolds(header[1], c, request.http.headers, side)) return false;
      continue;
    }
    const like = (pattern: string): boolean => conditionLike(c.key, pattern, request);
    if (c.values?.length && !c.values.some(like)) return false;
    if (c.notValues?.some(like)) return false;
  }
  return true;
}

/** A repeated header: what denies holds if any reading does, what allows if all do. */
function headerHolds(
  name: string,
  c: { values?: string[]; notValues?: string[] },
  headers: readonly (readonly [string, string])[],
  side: 'allow' | 'deny',
): boolean {
  const got = headers.filter(([n]) => n.toLowerCase() === name.toLowerCase()).map(([, v]) => v);
  const readings: (string | undefined)[] = got.length === 0 ? [undefined] : [...got];
  if (got.length > 1) readings.push(got.join(','));
  const holds = (value: string | undefined): boolean => {
    const like = (pattern: string): boolean => value !== undefined && text(pattern, value);
    if (c.values?.length && !c.values.some(like)) return false;
    return !c.notValues?.some(like);
  };
  return side === 'deny' ? readings.some(holds) : readings.every(holds);
}

function fieldsMatch(fields: Fields, request: NaiveRequest, namespace: string): boolean {
  for (const [name, values] of Object.entries(fields)) {
    if (!values || values.length === 0) continue;
    const negated = name.startsWith('not');
    const plain = negated ? name[3].toLowerCase() + name.slice(4) : name;
    if (!request.http && HTTP_FIELDS.includes(plain)) continue;
    const hit = values.some((v) => fieldLike(plain, v, request, namespace));
    if (hit === negated) return false;
  }
  return true;
}

function identity(request: NaiveRequest): { domain: string; ns: string; sa: string } | undefined {
  const m = /^([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(request.principal ?? '');
  return m ? { domain: m[1], ns: m[2], sa: m[3] } : undefined;
}

function fieldLike(name: string, pattern: string, request: NaiveRequest, namespace: string): boolean {
  const who = identity(request);
  switch (name) {
    case 'principals':
      return request.principal !== undefined && text(pattern, request.principal);
    case 'namespaces':
      return who !== undefined && text(pattern, who.ns);
    case 'trustDomains':
      return who !== undefined && text(pattern, who.domain);
    case 'serviceAccounts':
      return (
        who !== undefined && (pattern.includes('/') ? pattern : `${namespace}/${pattern}`) === `${who.ns}/${who.sa}`
      );
    case 'ipBlocks':
      return inBlock(pattern, request.ip);
    case 'ports':
      return pattern === String(request.port);
    case 'methods':
      return text(pattern, request.http!.method);
    case 'paths':
      return path(pattern, request.http!.path.split('?')[0]);
    case 'hosts': {
      const whole = request.http!.host.toLowerCase();
      return [whole, whole.replace(/:\d+$/, '')].some((h) => text(pattern.toLowerCase(), h));
    }
    default:
      throw new Error(`no such field: ${name}`);
  }
}

function conditionLike(key: string, pattern: string, request: NaiveRequest): boolean {
  switch (key) {
    case 'source.ip':
      return inBlock(pattern, request.ip);
    case 'source.namespace':
      return fieldLike('namespaces', pattern, request, '');
    case 'source.principal':
      return fieldLike('principals', pattern, request, '');
    case 'destination.ip':
      return inBlock(pattern, request.localIp);
    case 'destination.port':
      return pattern === String(request.port);
    default:
      throw new Error(`no such key: ${key}`);
  }
}

function text(pattern: string, value: string): boolean {
  if (pattern === '*') return value.length > 0;
  if (pattern.endsWith('*')) return value.startsWith(pattern.slice(0, -1));
  if (pattern.startsWith('*')) return value.endsWith(pattern.slice(1));
  return pattern === value;
}

function path(pattern: string, value: string): boolean {
  if (!pattern.includes('{')) return text(pattern, value);
  const source = pattern
    .split(/(\{\*\*?\})/)
    .map((p) => (p === '{*}' ? '[^/]+' : p === '{**}' ? '.*' : p.replace(/[^\w/]/g, '\\$&')))
    .join('');
  return new RegExp(`^${source}$`, 's').test(value);
}

/** IPv4 alone. */
function inBlock(block: string, ip: string): boolean {
  const [base, bits = '32'] = block.split('/');
  const binary = (a: string): string =>
    a
      .split('.')
      .map((n) => Number(n).toString(2).padStart(8, '0'))
      .join('');
  return binary(base).slice(0, Number(bits)) === binary(ip).slice(0, Number(bits));
}
