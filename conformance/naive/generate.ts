/** Random configurations with a request each, for `explain`: small vocabularies, so that rules meet requests often. */
import type { Random } from '@weft/base';

type Json = Record<string, unknown>;

export interface GeneratedRequest {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly tcp: boolean;
}

export interface Generated {
  /** YAML documents (as JSON, which YAML includes). */
  readonly text: string;
  /** Those beside the fixed services and processes. */
  readonly docs: readonly Json[];
  readonly request: GeneratedRequest;
}

export const NAMESPACE = 'shop';
export const HTTP_PORT = 8080;
export const TCP_PORT = 9000;
const NETWORKING = 'networking.istio.io/v1';
const SECURITY = 'security.istio.io/v1';

/** Workloads behind the services `pay`, `alt` and `shadow`, and the caller `cart`. */
export const PROCESSES = [
  { name: 'cart', app: 'cart', version: 'v1', replicas: 1 },
  { name: 'pay-v1', app: 'pay', version: 'v1', replicas: 2 },
  { name: 'pay-v2', app: 'pay', version: 'v2', replicas: 1 },
  { name: 'alt', app: 'alt', version: 'v1', replicas: 1 },
  { name: 'shadow', app: 'shadow', version: 'v1', replicas: 1 },
] as const;

const meta = (name: string, more: Json = {}): Json => ({ name, namespace: NAMESPACE, ...more });

function fixed(tcp: boolean): string {
  const docs: Json[] = [];
  const name = tcp ? 'tcp-x' : 'http';
  const port = tcp ? TCP_PORT : HTTP_PORT;
  for (const app of ['cart', 'pay', 'alt', 'shadow']) {
    docs.push({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: meta(app) });
    const ports = [{ name, port, targetPort: port }];
    docs.push({ apiVersion: 'v1', kind: 'Service', metadata: meta(app), spec: { selector: { app }, ports } });
  }
  for (const { name: process, app, version, replicas } of PROCESSES) {
    docs.push({
      apiVersion: 'weft.dev/v1alpha1',
      kind: 'Process',
      metadata: meta(process, { labels: { app, version } }),
      spec: { command: ['x'], serviceAccountName: app, replicas, ports: [{ name, containerPort: port }] },
    });
  }
  return docs.map((d) => JSON.stringify(d)).join('\n---\n');
}

const FIXED_HTTP = fixed(false);
const FIXED_TCP = fixed(true);

/** Of the VirtualService that others hand over to. */
export const DELEGATE = 'team';

const METHODS = ['GET', 'POST', 'PUT'];
const PATHS = ['/', '/a', '/a/b', '/A/b', '/b', '/b/c?q=1', '/a?q=2&w=x', '/charge'];
const AUTHORITIES = ['pay:8080', 'pay.shop:8080', 'pay.shop.svc.cluster.local:8080'];
const HEADERS = ['x-a', 'x-b', 'x-user'];
const VALUES = ['1', '2', 'on', 'alice'];

export class Generator {
  readonly #random: Random;
  /** The port carries no HTTP: rules may ask for nothing that only HTTP has. */
  #tcp = false;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): Generated {
    const tcp = this.#chance(0.2);
    this.#tcp = tcp;
    const delegates = !tcp && this.#chance(0.2);
    const docs: Json[] = [this.#destinationRule('pay'), this.#virtualService(delegates)];
    if (delegates) docs.push(this.#delegate());
    if (this.#chance(0.3)) docs.push(this.#destinationRule('alt'));
    for (let i = this.#below(3); i > 0; i--) docs.push(this.#policy(i));
    if (this.#chance(0.5)) docs.push(this.#peerAuthentication());
    const text = `${tcp ? FIXED_TCP : FIXED_HTTP}\n---\n${docs.map((d) => JSON.stringify(d)).join('\n---\n')}\n`;
    return { text, docs, request: this.#request(tcp) };
  }

  #request(tcp: boolean): GeneratedRequest {
    const headers: [string, string][] = [['cookie', `session=${this.#of(VALUES)}`]];
    for (const name of HEADERS) if (this.#chance(0.45)) headers.push([name, this.#of(VALUES)]);
    return { method: this.#of(METHODS), path: this.#of(PATHS), authority: this.#of(AUTHORITIES), headers, tcp };
  }

  #below(n: number): number {
    return Math.floor(this.#random.next() * n);
  }

  #chance(p: number): boolean {
    return this.#random.next() < p;
  }

  #of<T>(list: readonly T[]): T {
    return list[this.#below(list.length)];
  }

  /** Some of a list, at least one. */
  #some<T>(list: readonly T[]): T[] {
    const some = list.filter(() => this.#chance(0.5));
    return some.length > 0 ? some : [this.#of(list)];
  }

  #maybe(p: number, name: string, make: () => unknown): Json {
    return this.#chance(p) ? { [name]: make() } : {};
  }

  #text(values: readonly string[]): Json {
    const value = this.#of(values);
    const kind = this.#below(3);
    if (kind === 0) return { exact: value };
    if (kind === 1) return { prefix: value.slice(0, 1 + this.#below(value.length)) };
    return {
      regex: this.#chance(0.5) ? `${value.slice(0, 1)}.*` : `(${this.#of(values)}|${value})`.replaceAll('?', '[?]'),
    };
  }

  #keys(names: readonly string[], values: readonly string[]): Json {
    return Object.fromEntries(
      this.#some(names)
        .slice(0, 2)
        .map((n) => [n, this.#text(values)]),
    );
  }

  #headerOps(): Json {
    const side = (): Json => ({
      ...this.#maybe(0.6, 'set', () => ({ [this.#of(['x-a', 'x-set'])]: this.#of(VALUES) })),
      ...this.#maybe(0.6, 'add', () => ({ 'x-added': this.#of(VALUES) })),
      ...this.#maybe(0.6, 'remove', () => [this.#of(['x-b', 'x-gone'])]),
    });
    return { ...this.#maybe(0.7, 'request', side), ...this.#maybe(0.7, 'response', side) };
  }

  #match(): Json {
    const barePaths = PATHS.map((p) => p.split('?')[0]);
    return {
      ...this.#maybe(0.15, 'name', () => 'm'),
      ...this.#maybe(0.5, 'uri', () => this.#text(barePaths)),
      ...this.#maybe(0.25, 'method', () => this.#text(METHODS)),
      ...this.#maybe(0.15, 'authority', () => this.#text(AUTHORITIES)),
      ...this.#maybe(0.12, 'scheme', () => ({ exact: this.#of(['http', 'http', 'https']) })),
      ...this.#maybe(0.3, 'headers', () => this.#keys(HEADERS, VALUES)),
      ...this.#maybe(0.12, 'withoutHeaders', () => this.#keys(HEADERS, VALUES)),
      ...this.#maybe(0.15, 'queryParams', () => this.#keys(['q', 'w'], ['1', '2', 'x'])),
      ...this.#maybe(0.25, 'ignoreUriCase', () => this.#chance(0.7)),
      ...this.#maybe(0.15, 'sourceLabels', () => ({ app: this.#of(['cart', 'cart', 'other']) })),
      ...this.#maybe(0.12, 'sourceNamespace', () => this.#of([NAMESPACE, NAMESPACE, 'else'])),
      ...this.#maybe(0.12, 'gateways', () => ['mesh']),
      ...this.#maybe(0.15, 'port', () => HTTP_PORT),
    };
  }

  #destination(tcp = false): Json {
    const host = this.#of(['pay', 'pay', 'pay', 'alt', `pay.${NAMESPACE}.svc.cluster.local`]);
    return {
      host,
      ...(host !== 'alt' && this.#chance(0.6) && { subset: this.#of(['v1', 'v2']) }),
      ...this.#maybe(0.2, 'port', () => ({ number: tcp ? TCP_PORT : HTTP_PORT })),
    };
  }

  #weighted(tcp: boolean): Json[] {
    const n = 1 + this.#below(3);
    return Array.from({ length: n }, () => ({
      destination: this.#destination(tcp),
      ...(n > 1 || this.#chance(0.3) ? { weight: 1 + this.#below(99) } : {}),
      ...(!tcp && this.#maybe(0.15, 'headers', () => this.#headerOps())),
    }));
  }

  #fault(): Json {
    const percentage = (): Json => ({ value: this.#of([100, 50, 12.5, 0.5]) });
    const abort = this.#chance(0.8)
      ? { httpStatus: this.#of([418, 429, 503]) }
      : { grpcStatus: this.#of(['UNAVAILABLE', 'PERMISSION_DENIED']) };
    return this.#full(() => ({
      ...this.#maybe(0.5, 'delay', () => ({ fixedDelay: '1ms', percentage: percentage() })),
      ...this.#maybe(0.7, 'abort', () => ({ ...abort, percentage: percentage() })),
    }));
  }

  #retries(): Json {
    return {
      attempts: this.#below(4),
      ...this.#maybe(0.5, 'perTryTimeout', () => '10s'),
      ...this.#maybe(0.6, 'retryOn', () => this.#of(['5xx', 'connect-failure,refused-stream', 'gateway-error,reset'])),
      ...this.#maybe(0.4, 'retryIgnorePreviousHosts', () => this.#chance(0.5)),
      ...this.#maybe(0.4, 'retryRemoteLocalities', () => this.#chance(0.5)),
      ...this.#maybe(0.4, 'backoff', () => '1ms'),
    };
  }

  #httpRoute(last: boolean): Json {
    const kind = this.#random.next();
    const match =
      last && this.#chance(0.6) ? {} : { match: Array.from({ length: 1 + this.#below(2) }, () => this.#match()) };
    const common: Json = {
      ...this.#maybe(0.3, 'name', () => this.#of(['one', 'two'])),
      ...match,
      ...this.#maybe(0.3, 'fault', () => this.#fault()),
      ...this.#maybe(0.2, 'headers', () => this.#headerOps()),
    };
    if (kind < 0.15) {
      return {
        ...common,
        redirect: {
          uri: '/moved',
          ...this.#maybe(0.5, 'authority', () => 'elsewhere.example'),
          ...this.#maybe(0.4, 'scheme', () => this.#of(['http', 'https'])),
          ...this.#maybe(0.4, 'port', () => 8443),
          ...this.#maybe(0.5, 'redirectCode', () => this.#of([302, 307])),
        },
      };
    }
    if (kind < 0.28) {
      return {
        ...common,
        directResponse: {
          status: this.#of([200, 404, 503]),
          ...this.#maybe(0.5, 'body', () => ({ string: 'direct' })),
        },
      };
    }
    const shadow = { host: 'shadow' };
    const mirror = this.#chance(0.5)
      ? { mirror: shadow, ...this.#maybe(0.6, 'mirrorPercentage', () => ({ value: this.#of([100, 30]) })) }
      : {
          mirrors: [{ destination: shadow, ...this.#maybe(0.6, 'percentage', () => ({ value: this.#of([100, 30]) })) }],
        };
    return {
      ...common,
      route: this.#weighted(false),
      ...this.#maybe(0.2, 'rewrite', () => ({
        ...this.#maybe(0.6, 'uri', () => '/new'),
        ...this.#maybe(0.5, 'authority', () => 'new.example'),
      })),
      ...this.#maybe(0.3, 'timeout', () => '15s'),
      ...this.#maybe(0.3, 'retries', () => this.#retries()),
      ...(this.#chance(0.15) ? mirror : {}),
    };
  }

  /** Hands over what has a header or a path; the delegate asks for other things, so that nothing conflicts. */
  #handedOver(): Json {
    const match = (): Json => ({
      ...this.#maybe(0.6, 'uri', () => ({ prefix: this.#of(['/', '/a', '/b']) })),
      ...this.#maybe(0.3, 'headers', () => this.#keys(['x-a'], VALUES)),
    });
    return {
      ...this.#maybe(0.8, 'match', () => [match()]),
      delegate: { name: DELEGATE, namespace: NAMESPACE },
      ...this.#maybe(0.5, 'retries', () => this.#retries()),
      ...this.#maybe(0.5, 'timeout', () => '15s'),
    };
  }

  #delegate(): Json {
    const match = (): Json => ({
      ...this.#maybe(0.5, 'method', () => this.#text(METHODS)),
      ...this.#maybe(0.5, 'headers', () => this.#keys(['x-b', 'x-user'], VALUES)),
      ...this.#maybe(0.3, 'queryParams', () => this.#keys(['q', 'w'], ['1', '2', 'x'])),
    });
    const route = (): Json => ({
      ...this.#maybe(0.7, 'match', () => [match()]),
      route: this.#weighted(false),
      ...this.#maybe(0.3, 'rewrite', () => ({ uri: '/new' })),
      ...this.#maybe(0.3, 'fault', () => this.#fault()),
    });
    const metadata = meta(DELEGATE);
    const http = Array.from({ length: 1 + this.#below(2) }, route);
    return { apiVersion: NETWORKING, kind: 'VirtualService', metadata, spec: { http } };
  }

  #virtualService(delegates: boolean): Json {
    const n = 1 + this.#below(4);
    const tcpMatch = {
      ...this.#maybe(0.4, 'sourceLabels', () => ({ app: this.#of(['cart', 'other']) })),
      ...this.#maybe(0.4, 'sourceNamespace', () => this.#of([NAMESPACE, 'else'])),
      ...this.#maybe(0.4, 'port', () => TCP_PORT),
      ...this.#maybe(0.3, 'gateways', () => ['mesh']),
      ...this.#maybe(0.3, 'destinationSubnets', () => [this.#of(['0.0.0.0/0', '192.0.2.0/24'])]),
    };
    return {
      apiVersion: NETWORKING,
      kind: 'VirtualService',
      metadata: meta('pay'),
      spec: {
        hosts: [this.#of(['pay', `pay.${NAMESPACE}.svc.cluster.local`, '*.shop.svc.cluster.local'])],
        ...this.#maybe(0.3, 'gateways', () => ['mesh']),
        ...(this.#tcp
          ? { tcp: [{ ...(this.#chance(0.7) && { match: [tcpMatch] }), route: this.#weighted(true) }] }
          : {
              http: [
                ...(delegates ? [this.#handedOver()] : []),
                ...Array.from({ length: n }, (_, i) => this.#httpRoute(i === n - 1)),
              ],
            }),
      },
    };
  }

  #policyOf(deep: boolean): Json {
    const hash = (): Json => ({
      ...this.#of<() => Json>([
        () => ({ httpHeaderName: 'x-user' }),
        () => ({ httpCookie: { name: 'session', path: '/', ttl: '0s' } }),
        () => ({ useSourceIp: true }),
        () => ({ httpQueryParameterName: 'q' }),
      ])(),
      ...this.#of<() => Json>([
        () => ({ ringHash: { minimumRingSize: 64 } }),
        () => ({ maglev: { tableSize: 101 } }),
        () => ({ minimumRingSize: 64 }),
        () => ({}),
      ])(),
    });
    const http = (): Json => ({
      ...this.#maybe(0.5, 'http1MaxPendingRequests', () => 100),
      ...this.#maybe(0.5, 'http2MaxRequests', () => 100),
      ...this.#maybe(0.5, 'maxRequestsPerConnection', () => 100),
      ...this.#maybe(0.5, 'maxRetries', () => 3),
      ...this.#maybe(0.5, 'idleTimeout', () => '30s'),
      ...this.#maybe(0.4, 'h2UpgradePolicy', () => this.#of(['DEFAULT', 'DO_NOT_UPGRADE'])),
      ...this.#maybe(0.4, 'maxConcurrentStreams', () => 50),
      ...this.#maybe(0.4, 'http2KeepAlive', () => ({ interval: '30s', timeout: '10s' })),
    });
    const tcp = (): Json => ({
      ...this.#maybe(0.5, 'maxConnections', () => 100),
      ...this.#maybe(0.5, 'connectTimeout', () => '5s'),
      ...this.#maybe(0.5, 'idleTimeout', () => '1h'),
      ...this.#maybe(0.4, 'maxConnectionDuration', () => '1h'),
      ...this.#maybe(0.5, 'tcpKeepalive', () => ({ probes: 3, time: '60s', interval: '10s' })),
    });
    const outlier = (): Json => ({
      ...this.#maybe(0.5, 'consecutive5xxErrors', () => 5),
      ...this.#maybe(0.5, 'consecutiveGatewayErrors', () => 5),
      ...this.#maybe(0.5, 'interval', () => '10s'),
      ...this.#maybe(0.5, 'baseEjectionTime', () => '30s'),
      ...this.#maybe(0.5, 'maxEjectionPercent', () => 50),
      ...this.#maybe(0.5, 'minHealthPercent', () => 10),
      ...this.#maybe(0.4, 'splitExternalLocalOriginErrors', () => this.#chance(0.5)),
      ...this.#maybe(0.4, 'consecutiveLocalOriginFailures', () => 5),
    });
    return {
      ...this.#maybe(0.5, 'loadBalancer', () => ({
        ...(this.#chance(0.5)
          ? { simple: this.#of(['RANDOM', 'LEAST_REQUEST', 'LEAST_CONN', 'UNSPECIFIED']) }
          : { consistentHash: hash() }),
        ...this.#maybe(0.2, 'zoneAwareLbSetting', () => ({ minClusterSize: 6 })),
        ...this.#maybe(0.2, 'warmup', () => ({ duration: '10s', minimumPercent: 10, aggression: 1 })),
      })),
      ...this.#maybe(0.3, 'connectionPool', () => ({ http: http(), tcp: tcp() })),
      ...this.#maybe(0.3, 'outlierDetection', outlier),
      ...this.#maybe(0.2, 'tls', () => ({ mode: this.#of(['DISABLE', 'ISTIO_MUTUAL', 'ISTIO_MUTUAL']) })),
      ...this.#maybe(0.15, 'retryBudget', () => ({ percent: 20, minRetryConcurrency: 3 })),
      ...(deep &&
        this.#maybe(0.15, 'portLevelSettings', () => [
          { port: { number: this.#tcp ? TCP_PORT : HTTP_PORT }, ...this.#policyOf(false) },
        ])),
    };
  }

  #destinationRule(host: string): Json {
    const subset = (name: string): Json => ({
      name,
      labels: { version: name },
      ...this.#maybe(0.2, 'trafficPolicy', () => this.#policyOf(false)),
    });
    return {
      apiVersion: NETWORKING,
      kind: 'DestinationRule',
      metadata: meta(host),
      spec: {
        host,
        ...this.#maybe(0.5, 'trafficPolicy', () => this.#policyOf(true)),
        ...(host === 'pay' && { subsets: [subset('v1'), subset('v2')] }),
        ...this.#maybe(host === 'alt' ? 0.2 : 0, 'workloadSelector', () => ({ matchLabels: { app: 'cart' } })),
        ...this.#maybe(0.1, 'exportTo', () => ['*']),
      },
    };
  }

  #source(): Json {
    const sa = (name: string): string => `cluster.local/ns/${NAMESPACE}/sa/${name}`;
    return {
      ...this.#maybe(0.3, 'principals', () =>
        this.#some([sa('cart'), sa('other'), '*', '*/sa/cart', 'cluster.local/*']),
      ),
      ...this.#maybe(0.12, 'notPrincipals', () => [this.#of([sa('cart'), sa('other')])]),
      ...this.#maybe(0.2, 'namespaces', () => this.#some([NAMESPACE, 'sh*', 'other'])),
      ...this.#maybe(0.12, 'notNamespaces', () => [this.#of(['other', '*op'])]),
      ...this.#maybe(0.15, 'ipBlocks', () => [this.#of(['127.0.0.0/8', '10.0.0.0/8'])]),
      ...this.#maybe(0.12, 'notIpBlocks', () => [this.#of(['127.0.0.0/8', '10.0.0.0/8'])]),
      ...this.#maybe(0.12, 'trustDomains', () => [this.#of(['cluster.local', 'cluster*', 'other'])]),
      ...this.#maybe(0.12, 'notTrustDomains', () => [this.#of(['cluster.local', 'other'])]),
    };
  }

  /** Istio allows no namespaces or principals beside service accounts. */
  #accounts(): Json {
    return {
      ...this.#maybe(0.7, 'serviceAccounts', () => this.#some(['cart', `${NAMESPACE}/cart`, 'other'])),
      ...this.#maybe(0.4, 'notServiceAccounts', () => [this.#of([`${NAMESPACE}/cart`, 'other'])]),
    };
  }

  #operation(): Json {
    const ports = (): Json => ({
      ...this.#maybe(0.15, 'ports', () => this.#some(['8080', '9000'])),
      ...this.#maybe(0.12, 'notPorts', () => [this.#of(['8080', '9000'])]),
    });
    if (this.#tcp) return ports();
    return {
      ...ports(),
      ...this.#maybe(0.15, 'hosts', () => [this.#of(['pay*', '*.local', 'new.example', 'pay'])]),
      ...this.#maybe(0.12, 'notHosts', () => [this.#of(['pay.shop', 'new.*'])]),
      ...this.#maybe(0.25, 'methods', () => this.#some([...METHODS, 'P*'])),
      ...this.#maybe(0.12, 'notMethods', () => [this.#of(METHODS)]),
      ...this.#maybe(0.3, 'paths', () => this.#some(['/a', '/a*', '*c', '/b/{*}', '/{**}', '/charge', '/new*'])),
      ...this.#maybe(0.12, 'notPaths', () => [this.#of(['/a', '/b*'])]),
    };
  }

  #condition(): Json {
    const [key, values] = this.#of<[string, string[]]>([
      ...(this.#tcp ? [] : [['request.headers[x-a]', ['1', 'o*']] as [string, string[]]]),
      ['source.ip', ['127.0.0.0/8', '10.0.0.0/8']],
      ['source.namespace', [NAMESPACE, 'other']],
      ['source.principal', [`cluster.local/ns/${NAMESPACE}/sa/cart`, 'x']],
      ['destination.ip', ['127.0.0.0/8', '10.0.0.0/8']],
      ['destination.port', ['8080', '9000']],
    ]);
    const not = this.#chance(0.3);
    return { key, ...(not ? { notValues: [this.#of(values)] } : { values: this.#some(values) }) };
  }

  #full(make: () => Json): Json {
    for (;;) {
      const made = make();
      if (Object.keys(made).length > 0) return made;
    }
  }

  #rule(): Json {
    const source = (): Json => this.#full(() => (this.#chance(0.25) ? this.#accounts() : this.#source()));
    return {
      ...this.#maybe(0.6, 'from', () => Array.from({ length: 1 + this.#below(2) }, () => ({ source: source() }))),
      ...this.#maybe(0.6, 'to', () =>
        Array.from({ length: 1 + this.#below(2) }, () => ({ operation: this.#full(() => this.#operation()) })),
      ),
      ...this.#maybe(0.3, 'when', () => Array.from({ length: 1 + this.#below(2) }, () => this.#condition())),
    };
  }

  #policy(i: number): Json {
    const dryRun = this.#chance(0.1);
    return {
      apiVersion: SECURITY,
      kind: 'AuthorizationPolicy',
      metadata: meta(`policy-${i}`, dryRun ? { annotations: { 'istio.io/dry-run': 'true' } } : {}),
      spec: {
        ...this.#maybe(0.6, 'selector', () => ({
          matchLabels: this.#of<Json>([{ app: 'pay' }, { version: 'v1' }, { app: 'alt' }]),
        })),
        ...this.#maybe(0.9, 'action', () => this.#of(['ALLOW', 'ALLOW', 'DENY', 'DENY', 'AUDIT'])),
        rules: Array.from({ length: 1 + this.#below(3) }, () => this.#rule()),
      },
    };
  }

  #peerAuthentication(): Json {
    const mode = (): Json => ({ mode: this.#of(['STRICT', 'PERMISSIVE', 'DISABLE']) });
    return {
      apiVersion: SECURITY,
      kind: 'PeerAuthentication',
      metadata: meta('pa'),
      spec: {
        selector: { matchLabels: { app: 'pay' } },
        mtls: mode(),
        ...this.#maybe(0.3, 'portLevelMtls', () => ({ [this.#tcp ? TCP_PORT : HTTP_PORT]: mode() })),
      },
    };
  }
}
