/**
 * What a request meets, read from the YAML as its documentation says, in the plainest way: nothing is compiled, nothing is
 * shared with the engine. Knows the generator's services: `pay` (subsets v1 and v2), `alt`, `shadow`, the caller `cart`.
 */
import { parseAllDocuments } from 'yaml';

// biome-ignore lint/suspicious/noExplicitAny: documents as they were written.
type Any = any;

export interface NaiveRequest {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly tcp: boolean;
}

interface Pod {
  readonly name: string;
  readonly app: string;
  readonly labels: Record<string, string>;
}

/** By key (see keyOf): the probability. */
export type Distribution = Map<string, number>;

export function keyOf(status: number | string, delayed: boolean, instance: string): string {
  return `${status}${delayed ? ' after a delay' : ''}${instance ? ` by ${instance}` : ''}`;
}

/** Reads the documents and follows the request. Every pod's address is in 127.0.0.0/8. */
export function evaluate(text: string, request: NaiveRequest): Distribution {
  const docs: Any[] = parseAllDocuments(text).map((d) => d.toJS());
  const of = (kind: string): Any[] => docs.filter((d) => d.kind === kind);
  const pods: Pod[] = of('Process').flatMap((p) =>
    Array.from({ length: p.spec.replicas }, (_, i) => ({
      name: `${p.metadata.name}-${i}`,
      app: p.metadata.labels.app,
      labels: p.metadata.labels,
    })),
  );
  const world: World = { of, pods, request, port: request.tcp ? 9000 : 8080, out: new Map() };
  const vs = of('VirtualService')[0].spec;
  if (request.tcp) connection(world, vs);
  else http(world, { http: vs.http.flatMap((r: Any) => handedOver(r, of('VirtualService'))) });
  return world.out;
}

/** The routes of a delegate, each with the conditions of both, and with what only the root says. */
function handedOver(root: Any, all: Any[]): Any[] {
  if (!root.delegate) return [root];
  const { match: outer = [{}], delegate, ...rest } = root;
  const inner = all.find((v) => v.metadata.name === delegate.name).spec.http;
  return inner.map((r: Any) => ({
    ...rest,
    ...r,
    match: outer.flatMap((a: Any) =>
      (r.match ?? [{}]).map((b: Any) => ({ ...a, ...b, headers: { ...a.headers, ...b.headers } })),
    ),
  }));
}

interface World {
  readonly of: (kind: string) => Any[];
  readonly pods: readonly Pod[];
  readonly request: NaiveRequest;
  readonly port: number;
  readonly out: Distribution;
}

function add(w: World, p: number, key: string): void {
  if (p > 0) w.out.set(key, (w.out.get(key) ?? 0) + p);
}

function forCaller(m: Any, w: World): boolean {
  if (m.sourceNamespace && m.sourceNamespace !== 'shop') return false;
  if (m.port && m.port !== w.port) return false;
  if (m.gateways && !m.gateways.includes('mesh')) return false;
  if (m.destinationSubnets && !m.destinationSubnets.includes('0.0.0.0/0')) return false;
  const own: Record<string, string> = { app: 'cart', version: 'v1' };
  return Object.entries(m.sourceLabels ?? {}).every(([k, v]) => own[k] === v);
}

function stringMatches(m: Any, value: string | undefined, anyCase = false): boolean {
  if (value === undefined) return false;
  const fold = (s: string): string => (anyCase ? s.toLowerCase() : s);
  if (m.exact !== undefined) return fold(value) === fold(m.exact);
  if (m.prefix !== undefined) return fold(value).startsWith(fold(m.prefix));
  return new RegExp(`^(?:${m.regex})$`).test(value);
}

function httpMatches(m: Any, w: World): boolean {
  if (!forCaller(m, w)) return false;
  const r = w.request;
  const url = new URL(r.path, 'http://x');
  const header = (name: string): string | undefined => r.headers.find(([n]) => n === name)?.[1];
  if (m.uri && !stringMatches(m.uri, url.pathname, m.ignoreUriCase)) return false;
  if (m.method && !stringMatches(m.method, r.method)) return false;
  const host = r.authority.split(':')[0];
  if (m.authority && !stringMatches(m.authority, r.authority) && !stringMatches(m.authority, host)) return false;
  if (m.scheme && !stringMatches(m.scheme, 'http')) return false;
  for (const [name, sm] of Object.entries(m.headers ?? {})) if (!stringMatches(sm, header(name))) return false;
  for (const [name, sm] of Object.entries(m.withoutHeaders ?? {})) if (stringMatches(sm, header(name))) return false;
  for (const [name, sm] of Object.entries(m.queryParams ?? {}))
    if (!stringMatches(sm, url.searchParams.get(name) ?? undefined)) return false;
  return true;
}

function http(w: World, vs: Any): void {
  const route = vs.http.find((r: Any) => !r.match || r.match.some((m: Any) => httpMatches(m, w)));
  if (!route) {
    add(w, 1, keyOf(404, false, ''));
    return;
  }
  const share = (f: Any): number => (f ? (f.percentage?.value ?? 100) / 100 : 0);
  const delay = share(route.fault?.delay);
  const abort = share(route.fault?.abort);
  for (const [delayed, p] of [
    [true, delay],
    [false, 1 - delay],
  ] as const) {
    add(w, p * abort, keyOf(route.fault?.abort?.httpStatus ?? 200, delayed, ''));
    const left = p * (1 - abort);
    if (route.redirect) add(w, left, keyOf(route.redirect.redirectCode ?? 301, delayed, ''));
    else if (route.directResponse) add(w, left, keyOf(route.directResponse.status, delayed, ''));
    else {
      split(route.route, (d, q) => {
        const matched = route.match?.find((m: Any) => httpMatches(m, w));
        const sent = rewritten(w, route, matched, d);
        const all = candidates(w, d.destination);
        for (const pod of all) {
          // Whoever is tried, and however often: all are alike in that.
          const never = withheld(w, pod, d.destination);
          const status = never ? 503 : permits(w, pod.name, d.destination, sent) ? 'application' : 403;
          add(w, (left * q) / all.length, keyOf(status, delayed, pod.name));
        }
      });
    }
  }
}

function split(routes: Any[], each: (route: Any, share: number) => void): void {
  const total = routes.reduce((sum, r) => sum + (r.weight ?? (routes.length === 1 ? 1 : 0)), 0);
  for (const r of routes) each(r, (r.weight ?? (routes.length === 1 ? 1 : 0)) / total);
}

function candidates(w: World, destination: Any): Pod[] {
  const app = destination.host.split('.')[0];
  return w.pods.filter((p) => p.app === app && (!destination.subset || p.labels.version === destination.subset));
}

/** The request as the server sees it. */
function rewritten(w: World, route: Any, matched: Any, chosen: Any): NaiveRequest {
  let { path, authority } = w.request;
  if (route.rewrite?.authority) authority = route.rewrite.authority;
  if (route.rewrite?.uri) {
    const [bare, query] = path.split('?');
    const prefix = !matched?.uri ? '/' : matched.uri.prefix;
    const rest = prefix === undefined ? '' : bare.slice(prefix.length);
    path = `${route.rewrite.uri}${rest}${query === undefined ? '' : `?${query}`}`;
  }
  let headers = w.request.headers.map(([n, v]) => [n, v] as [string, string]);
  for (const ops of [chosen.headers?.request, route.headers?.request]) {
    if (!ops) continue;
    headers = headers.filter(([n]) => !(ops.remove ?? []).includes(n));
    for (const [n, v] of Object.entries<string>(ops.set ?? {})) headers = [...headers.filter(([x]) => x !== n), [n, v]];
    for (const [n, v] of Object.entries<string>(ops.add ?? {})) headers.push([n, v]);
  }
  return { ...w.request, path, authority, headers };
}

function connection(w: World, vs: Any): void {
  const route = vs.tcp.find((r: Any) => !r.match || r.match.some((m: Any) => forCaller(m, w)));
  split(route?.route ?? [{ destination: { host: 'pay' } }], (d, q) => {
    const all = candidates(w, d.destination);
    // A refused tunnel is tried at two more, others first.
    const go = (p: number, tried: Pod[]): void => {
      const fresh = all.filter((x) => !tried.includes(x));
      const list = fresh.length > 0 ? fresh : all;
      for (const pod of list) {
        const chance = p / list.length;
        if (withheld(w, pod, d.destination)) add(w, chance, keyOf('closed', false, pod.name));
        else if (permits(w, pod.name, d.destination, undefined)) add(w, chance, keyOf('connected', false, pod.name));
        else if (mutual(w, pod, d.destination) && tried.length < 2) go(chance, [...tried, pod]);
        else add(w, chance, keyOf('closed', false, pod.name));
      }
    };
    go(q, []);
  });
}

/** Whether the two proxies speak mTLS: not where either side says DISABLE. */
function mutual(w: World, pod: Pod, destination: Any): boolean {
  return !takesNone(w, pod) && clientMode(w, pod, destination) !== 'DISABLE';
}

/** The caller's rule wants mTLS, and the pod takes none: nothing is ever sent. */
function withheld(w: World, pod: Pod, destination: Any): boolean {
  return takesNone(w, pod) && clientMode(w, pod, destination) === 'ISTIO_MUTUAL';
}

function takesNone(w: World, pod: Pod): boolean {
  const pa = w.of('PeerAuthentication').find((p) => p.spec.selector.matchLabels.app === pod.app);
  return (pa?.spec.portLevelMtls?.[w.port]?.mode ?? pa?.spec.mtls?.mode) === 'DISABLE';
}

function clientMode(w: World, pod: Pod, destination: Any): string | undefined {
  const rule = w.of('DestinationRule').find((r) => r.spec.host === pod.app);
  const subset = rule?.spec.subsets?.find((s: Any) => s.name === destination.subset);
  const ofPort = (policy: Any): Any => policy?.portLevelSettings?.find((s: Any) => s.port.number === w.port);
  // A subset's own settings replace the rule's, and a port's those of all ports.
  const port = ofPort(rule?.spec.trafficPolicy);
  const tls = subset?.trafficPolicy?.tls ?? (port ? port.tls : rule?.spec.trafficPolicy?.tls);
  return tls?.mode;
}

/** AuthorizationPolicy: any DENY that matches denies; then an ALLOW must match, where there is one. */
function permits(w: World, name: string, destination: Any, request: NaiveRequest | undefined): boolean {
  const pod = w.pods.find((p) => p.name === name) as Pod;
  const mtls = mutual(w, pod, destination);
  const selected = w
    .of('AuthorizationPolicy')
    .filter((p) => p.metadata.annotations?.['istio.io/dry-run'] !== 'true')
    .filter((p) => Object.entries(p.spec.selector?.matchLabels ?? {}).every(([k, v]) => pod.labels[k] === v));
  const action = (p: Any): string => p.spec.action ?? 'ALLOW';
  const hit = (p: Any): boolean =>
    p.spec.rules.some((r: Any) => ruleMatches(r, w, mtls, request, action(p) === 'DENY'));
  if (selected.some((p) => action(p) === 'DENY' && hit(p))) return false;
  const allow = selected.filter((p) => action(p) === 'ALLOW');
  return allow.length === 0 || allow.some(hit);
}

function wild(pattern: string, value: string): boolean {
  if (pattern === '*') return value !== '';
  if (pattern.endsWith('*')) return value.startsWith(pattern.slice(0, -1));
  if (pattern.startsWith('*')) return value.endsWith(pattern.slice(1));
  return value === pattern;
}

function path(pattern: string, value: string): boolean {
  if (!pattern.includes('{')) return wild(pattern, value);
  const regex = pattern.split('/').map((s) => (s === '{*}' ? '[^/]+' : s === '{**}' ? '.*' : s));
  return new RegExp(`^${regex.join('/')}$`).test(value);
}

const inRange = (block: string): boolean => block === '127.0.0.0/8';

function ruleMatches(rule: Any, w: World, mtls: boolean, r: NaiveRequest | undefined, deny: boolean): boolean {
  const both = (x: Any, name: string, test: (pattern: string) => boolean): boolean => {
    const not = x[`not${name[0].toUpperCase()}${name.slice(1)}`];
    return (!x[name] || x[name].some(test)) && !not?.some(test);
  };
  const account = (s: string): boolean => mtls && (s === 'cart' || s === 'shop/cart');
  const source = ({ source: s }: Any): boolean =>
    both(s, 'principals', (p) => mtls && wild(p, 'cluster.local/ns/shop/sa/cart')) &&
    both(s, 'namespaces', (p) => mtls && wild(p, 'shop')) &&
    both(s, 'serviceAccounts', account) &&
    both(s, 'trustDomains', (p) => mtls && wild(p, 'cluster.local')) &&
    both(s, 'ipBlocks', inRange);
  const operation = ({ operation: o }: Any): boolean => {
    if (!both(o, 'ports', (p) => Number(p) === w.port)) return false;
    if (!r) return true;
    const host = r.authority.split(':')[0];
    return (
      both(o, 'hosts', (h) => wild(h, host) || wild(h, r.authority)) &&
      both(o, 'methods', (m) => wild(m, r.method)) &&
      both(o, 'paths', (p) => path(p, r.path.split('?')[0]))
    );
  };
  const condition = (c: Any): boolean => {
    const key = c.key as string;
    const name = /^request\.headers\[(.*)\]$/.exec(key)?.[1];
    const values = name ? (r?.headers ?? []).filter(([n]) => n === name).map(([, v]) => v) : [];
    const one = (test: (pattern: string) => boolean): boolean =>
      (!c.values || c.values.some(test)) && !c.notValues?.some(test);
    if (name) {
      const readings = values.length > 1 ? [...values, values.join(',')] : values;
      if (readings.length === 0) return one(() => false);
      return deny ? readings.some((v) => one((p) => wild(p, v))) : readings.every((v) => one((p) => wild(p, v)));
    }
    if (key === 'source.namespace') return one((p) => mtls && wild(p, 'shop'));
    if (key === 'source.principal') return one((p) => mtls && wild(p, 'cluster.local/ns/shop/sa/cart'));
    if (key === 'destination.port') return one((p) => Number(p) === w.port);
    return one(inRange);
  };
  return (
    (!rule.from || rule.from.some(source)) &&
    (!rule.to || rule.to.some(operation)) &&
    (!rule.when || rule.when.every(condition))
  );
}
