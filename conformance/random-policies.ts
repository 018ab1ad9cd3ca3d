/** Policies and requests drawn at random, from few names so that they meet. */
import type { Random } from '@weft/base';
import type { NaivePolicy, NaiveRequest, NaiveRule } from './naive/authorization.ts';

export const WORKLOAD = { namespace: 'shop', labels: { app: 'pay' } };
export const ROOT = 'istio-system';
export const PORTS = [8080, 9000];

const VALUES: Readonly<Record<string, readonly string[]>> = {
  principals: [
    'cluster.local/ns/shop/sa/web',
    'cluster.local/ns/a/sa/web',
    'cluster.local/ns/shop/*',
    '*/sa/web',
    '*',
    'other.td/*',
  ],
  namespaces: ['shop', 'a', 'ab', 'a*', '*b', '*'],
  serviceAccounts: ['web', 'a/web', 'ab/api', 'api'],
  trustDomains: ['cluster.local', 'other.td', 'other*'],
  ipBlocks: ['10.1.0.0/16', '10.1.2.3', '10.0.0.0/8', '192.168.1.0/24', '10.1.2.0/30'],
  hosts: ['pay', 'PAY.shop', 'pay:*', '*.shop', '*:8080', 'Other'],
  methods: ['GET', 'POST', 'P*', '*'],
  ports: ['8080', '9000'],
  paths: [
    '/x',
    '/x/y',
    '/x*',
    '/x/*',
    '*/y',
    '*',
    '/x/{*}',
    '/{*}/y',
    '/x/{**}',
    '/{**}/z',
    '/{*}/b/{**}',
    '/%7Ex',
    '/é',
  ],
};
const KEYS: readonly (readonly [string, readonly string[]])[] = [
  ['source.ip', VALUES.ipBlocks],
  ['source.namespace', VALUES.namespaces],
  ['source.principal', VALUES.principals],
  ['destination.ip', ['10.0.0.9', '10.0.0.0/24', '10.9.0.0/16']],
  ['destination.port', VALUES.ports],
  ['request.headers[x-role]', ['admin', 'user', 'u*', '*n', '*']],
  ['request.headers[X-Tier]', ['gold', 'g*']],
];

export class Draw {
  readonly #random: Random;
  constructor(random: Random) {
    this.#random = random;
  }

  below(n: number): number {
    return Math.floor(this.#random.next() * n);
  }
  one<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }
  some<T>(from: readonly T[]): T[] {
    const got = from.filter(() => this.below(from.length) < 2);
    return got.length > 0 ? got : [this.one(from)];
  }
  times<T>(n: number, make: () => T): T[] {
    return Array.from({ length: n }, make);
  }

  #fields(names: readonly string[]): Record<string, string[]> {
    const out: Record<string, string[]> = {};
    for (const name of this.some(names).slice(0, 2)) {
      const not = `not${name[0].toUpperCase()}${name.slice(1)}`;
      const way = this.below(4);
      if (way !== 0) out[name] = this.some(VALUES[name]);
      if (way < 2) out[not] = this.some(VALUES[name]);
    }
    return out;
  }

  #source(): Record<string, string[]> {
    return this.#fields(
      this.below(4) === 0 ? ['serviceAccounts', 'ipBlocks'] : ['principals', 'namespaces', 'ipBlocks', 'trustDomains'],
    );
  }

  rule(): NaiveRule {
    const rule: NaiveRule = {};
    if (this.below(2)) rule.from = this.times(1 + this.below(2), () => ({ source: this.#source() }));
    if (this.below(2)) {
      const names = ['paths', 'methods', 'hosts', 'ports'];
      rule.to = this.times(1 + this.below(2), () => ({ operation: this.#fields(names) }));
    }
    if (this.below(3) === 0) {
      rule.when = this.times(1 + this.below(2), () => {
        const [key, values] = this.one(KEYS);
        const way = this.below(3);
        return {
          key,
          ...(way !== 0 && { values: this.some(values) }),
          ...(way !== 1 && { notValues: this.some(values) }),
        };
      });
    }
    return rule;
  }

  /** A rule that asks for one or two values of one or two fields. */
  #narrow(): NaiveRule {
    const field = (names: readonly string[]): Record<string, string[]> => {
      const name = this.one(names);
      return { [name]: this.times(1 + this.below(2), () => this.one(VALUES[name])) };
    };
    const way = this.below(3);
    const source = field(['principals', 'namespaces', 'serviceAccounts']);
    const paths = this.below(2) ? field(['paths']) : {};
    const operation = { ...paths, ...field(['hosts', 'ports', 'methods', 'paths']) };
    return { ...(way !== 0 && { from: [{ source }] }), ...(way !== 1 && { to: [{ operation }] }) };
  }

  /** Sometimes many rules, so that tables of them are made. */
  policies(): NaivePolicy[] {
    const many = this.below(3) === 0 ? 20 : 0;
    return this.times(1 + this.below(4), () => {
      const action = this.one(['ALLOW', 'ALLOW', 'DENY', 'AUDIT'] as const);
      const least = action === 'DENY' ? 1 : 0;
      return {
        namespace: this.one(['shop', 'shop', 'shop', ROOT, 'a']),
        ...(this.below(3) === 0 && { selector: { app: this.one(['pay', 'pay', 'other']) } }),
        action,
        ...(action !== 'AUDIT' && this.below(6) === 0 && { dryRun: true }),
        rules: this.times(least + this.below(many || 3), () => (many ? this.#narrow() : this.rule())),
      };
    });
  }

  request(kind: 'http' | 'tcp'): NaiveRequest {
    const td = this.one(['cluster.local', 'cluster.local', 'other.td']);
    const principal = `${td}/ns/${this.one(['shop', 'a', 'ab', 'b'])}/sa/${this.one(['web', 'api'])}`;
    return {
      ...(this.below(6) !== 0 && { principal }),
      ip: this.one(['10.1.2.3', '10.1.2.4', '10.2.0.1', '192.168.1.7', '192.168.2.7']),
      port: this.one(PORTS),
      localIp: '10.0.0.9',
      ...(kind === 'http' && {
        http: {
          method: this.one(['GET', 'POST', 'PUT', 'DELETE']),
          path:
            this.one(['/x', '/x/y', '/xy', '/', '/x/b/c', '/x/', '/a/b/z', '/~x', '/%C3%A9', '/x/*/z', '/q/b/']) +
            this.one(['', '?x=/y']),
          host: this.one(['pay', 'pay:8080', 'PAY.Shop', 'other', 'x.shop:80']),
          headers: this.times(this.below(3), () =>
            this.one([
              ['x-role', 'admin'],
              ['x-role', 'user'],
              ['x-role', ''],
              ['x-tier', 'gold'],
            ] as const),
          ),
        },
      }),
    };
  }
}
