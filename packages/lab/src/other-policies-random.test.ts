/**
 * Random policies of Linkerd's and intentions of Consul's, from files to the engine's decision, against a naive reading
 * of the same objects that shares nothing with the engine.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import { decide } from './authz.ts';
import { meshFromFiles } from './mesh.ts';

const SEED = Number(process.env.SEED ?? 20_261_121);
const MESHES = 80;
const REQUESTS = 40;
const ACCOUNTS = ['a', 'b', 'c', 'd'];
const PATHS = ['/', '/x', '/x/y', '/xy', '/x/y/z', '/q', '/q/1'];
const METHODS = ['GET', 'POST', 'PUT'];

interface Caller {
  account: string | undefined;
  ip: string;
  method: string;
  path: string;
  header: string | undefined;
  tcp: boolean;
  /** Of which issuer, and what it says. */
  token?: { provider: string; role: string } | undefined;
}

function draws(seed: number) {
  const random = seededRandom(seed);
  const next = (): number => random.next();
  const below = (n: number): number => Math.floor(next() * n);
  const one = <T>(list: readonly T[]): T => list[below(list.length)];
  const some = <T>(list: readonly T[]): T[] => list.filter(() => next() < 0.4);
  return { below, one, some, chance: (p: number): boolean => next() < p };
}
type Draws = ReturnType<typeof draws>;

const doc = (api: string, kind: string, name: string, spec: unknown): string =>
  `---\n${JSON.stringify({ apiVersion: api, kind, metadata: { name, namespace: 'shop' }, spec })}\n`;

const PROCESSES = ['pay', ...ACCOUNTS]
  .map(
    (n) => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${n}, namespace: shop, labels: {app: ${n}}}
spec: {command: [x], serviceAccountName: ${n}, ports: [{name: http, containerPort: 8080}, {name: raw, containerPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: ${n}, namespace: shop}
spec: {selector: {app: ${n}}, ports: [{name: http, port: 8080}, {name: tcp, port: 9000}]}
`,
  )
  .join('');

function caller(d: Draws): Caller {
  return {
    account: d.chance(0.2) ? undefined : d.one(ACCOUNTS),
    ip: d.one(['10.0.0.1', '10.1.0.1', '192.0.2.1']),
    method: d.one(METHODS),
    path: d.one(PATHS),
    header: d.one([undefined, 'one', 'two']),
    tcp: d.chance(0.2),
  };
}

function ask(text: string, port: number, callers: readonly Caller[]): boolean[] {
  const files = [{ path: 'a.yaml', text: PROCESSES + text }];
  assert.deepEqual(
    loadFiles(files).problems.filter((p) => p.severity === 'error'),
    [],
    text,
  );
  const mesh = meshFromFiles(files);
  return callers.map((c) => {
    const from = c.account && { from: `cluster.local/ns/shop/sa/${c.account}` };
    const headers: [string, string][] = c.header ? [['x-team', c.header]] : [];
    const token = c.token && {
      token: { issuer: `https://${c.token.provider}.test`, claims: { perms: { role: c.token.role } } },
    };
    const http = !c.tcp && { http: { method: c.method, path: `${c.path}?n=1`, headers, ...token } };
    return decide(mesh, 'shop/pay', { ip: c.ip, port, ...from, ...http }).decision === 'allow';
  });
}

/** Neither answer may be a rarity, or the test says little. */
function fair(allowed: number): void {
  const share = allowed / (MESHES * REQUESTS);
  assert.ok(share > 0.1 && share < 0.9, `${allowed} allowed`);
}

/** As the Gateway API reads paths: a prefix ends where an element ends. */
const under = (path: string, prefix: string): boolean =>
  prefix === '/' || path === prefix || path.startsWith(`${prefix}/`);

test('Linkerd, random', () => {
  const d = draws(SEED);
  let allowed = 0;
  for (let m = 0; m < MESHES; m++) {
    const access = d.one(['deny', 'deny', 'deny', 'all-authenticated', 'all-unauthenticated', 'cluster-authenticated']);
    const routes = d.chance(0.3)
      ? []
      : [0, 1, 2].slice(0, 1 + d.below(3)).map((i) => ({
          name: `r${i}`,
          // One path a route, so that no two matches are equally specific.
          type: d.one(['Exact', 'PathPrefix']),
          path: PATHS[(i * 2 + d.below(2)) % PATHS.length],
          method: d.one([undefined, undefined, ...METHODS]),
        }));
    const policies = [0, 1, 2, 3].slice(0, d.below(5)).map((i) => ({
      name: `p${i}`,
      target: d.one(['Server', 'Namespace', ...routes.map((r) => r.name)]),
      accounts: d.chance(0.6) ? d.some(ACCOUNTS) : undefined,
      network: d.chance(0.3) ? { cidr: '10.0.0.0/8', except: d.chance(0.5) ? ['10.1.0.0/16'] : [] } : undefined,
    }));
    let text = doc('policy.linkerd.io/v1beta3', 'Server', 's', {
      podSelector: { matchLabels: { app: 'pay' } },
      port: 8080,
      accessPolicy: access,
    });
    const group = 'policy.linkerd.io';
    for (const r of routes) {
      const match = { path: { type: r.type, value: r.path }, ...(r.method && { method: r.method }) };
      const parentRefs = [{ group, kind: 'Server', name: 's' }];
      text += doc('policy.linkerd.io/v1beta3', 'HTTPRoute', r.name, { parentRefs, rules: [{ matches: [match] }] });
    }
    for (const p of policies) {
      const refs: unknown[] = [];
      if (p.accounts && p.accounts.length > 0) {
        const identityRefs = p.accounts.map((name) => ({ kind: 'ServiceAccount', name }));
        text += doc('policy.linkerd.io/v1alpha1', 'MeshTLSAuthentication', p.name, { identityRefs });
        refs.push({ group, kind: 'MeshTLSAuthentication', name: p.name });
      }
      if (p.network) {
        text += doc('policy.linkerd.io/v1alpha1', 'NetworkAuthentication', p.name, { networks: [p.network] });
        refs.push({ group, kind: 'NetworkAuthentication', name: p.name });
      }
      const route = { group, kind: 'HTTPRoute', name: p.target };
      const space = { kind: 'Namespace', name: 'shop' };
      const targetRef =
        p.target === 'Server' ? { group, kind: 'Server', name: 's' } : p.target === 'Namespace' ? space : route;
      const spec = { targetRef, requiredAuthenticationRefs: refs };
      text += doc('policy.linkerd.io/v1alpha1', 'AuthorizationPolicy', p.name, spec);
    }

    const expect = (c: Caller): boolean => {
      const lets = (p: (typeof policies)[number]): boolean => {
        if (p.accounts && p.accounts.length > 0 && !(c.account && p.accounts.includes(c.account))) return false;
        if (!p.network) return true;
        return c.ip.startsWith('10.') && !(p.network.except.length > 0 && c.ip.startsWith('10.1.'));
      };
      const whole =
        policies.some((p) => (p.target === 'Server' || p.target === 'Namespace') && lets(p)) ||
        access === 'all-unauthenticated' ||
        (access !== 'deny' && c.account !== undefined);
      if (routes.length === 0 || c.tcp) return whole;
      const matching = routes.filter(
        (r) => (r.type === 'Exact' ? c.path === r.path : under(c.path, r.path)) && (!r.method || r.method === c.method),
      );
      matching.sort(
        (a, b) =>
          Number(b.type === 'Exact') - Number(a.type === 'Exact') ||
          b.path.length - a.path.length ||
          Number(b.method !== undefined) - Number(a.method !== undefined),
      );
      return matching.length > 0 && (whole || policies.some((p) => p.target === matching[0].name && lets(p)));
    };
    const callers = Array.from({ length: REQUESTS }, () => caller(d));
    for (const [i, got] of ask(text, 8080, callers).entries()) {
      const c = callers[i];
      assert.equal(got, expect(c), `seed ${SEED}, mesh ${m}: ${JSON.stringify(c)}\n${text}`);
      if (got) allowed++;
    }
  }
  fair(allowed);
});

const PROVIDERS = ['okta', 'auth0'];
const ROLES = ['admin', 'user'];
const PROVIDER_TEXT = PROVIDERS.map((name) =>
  doc('consul.hashicorp.com/v1alpha1', 'JWTProvider', name, {
    issuer: `https://${name}.test`,
    jsonWebKeySet: { remote: { uri: `https://${name}.test/keys` } },
  }),
).join('');

interface Need {
  provider: string;
  role: string | undefined;
}

const jwtOf = (needs: readonly Need[] | undefined) =>
  needs && {
    jwt: {
      providers: needs.map(({ provider, role }) => ({
        name: provider,
        ...(role !== undefined && { verifyClaims: [{ path: ['perms', 'role'], value: role }] }),
      })),
    },
  };

test('Consul, random', () => {
  const d = draws(SEED + 1);
  const needs = (p: number): Need[] | undefined =>
    d.chance(p)
      ? Array.from({ length: 1 + d.below(2) }, () => ({
          provider: d.one(PROVIDERS),
          role: d.one([undefined, ...ROLES]),
        }))
      : undefined;
  let allowed = 0;
  for (let m = 0; m < MESHES; m++) {
    const permission = () => {
      const action = d.one(['allow', 'deny']);
      return { action, tokens: action === 'allow' ? needs(0.3) : undefined, ...matching() };
    };
    const matching = () => ({
      kind: d.one(['pathExact', 'pathPrefix', 'none']),
      path: d.one(PATHS),
      methods: d.chance(0.5) ? d.some(METHODS) : [],
      header: d.chance(0.4) ? { exact: d.one(['one', 'two']), invert: d.chance(0.4) } : undefined,
    });
    const source = (name: string) => {
      const permissions = d.chance(0.5) ? Array.from({ length: 1 + d.below(3) }, permission) : undefined;
      return { name, action: permissions ? undefined : d.one(['allow', 'deny']), permissions };
    };
    const entries = ['pay', '*', 'a']
      .filter((_, i) => i === 0 || d.chance(0.6))
      .map((destination) => ({
        ...{ destination, tokens: needs(0.15) },
        sources: [...ACCOUNTS, '*'].filter(() => d.chance(0.5)).map(source),
      }))
      .filter((e) => e.sources.length > 0);
    const usable = (p: ReturnType<typeof permission>): boolean =>
      p.kind !== 'none' || p.methods.length > 0 || p.header !== undefined;
    for (const e of entries) {
      for (const s of e.sources) {
        if (!s.permissions) continue;
        s.permissions = s.permissions.filter(usable);
        if (s.permissions.length > 0) continue;
        s.permissions = undefined;
        s.action = 'deny';
      }
    }
    const intentions = entries
      .map((e, i) =>
        doc('consul.hashicorp.com/v1alpha1', 'ServiceIntentions', `i${i}`, {
          destination: { name: e.destination },
          ...jwtOf(e.tokens),
          sources: e.sources.map((s) => ({
            name: s.name,
            ...(s.action && { action: s.action }),
            ...(s.permissions && {
              permissions: s.permissions.map((p) => ({
                action: p.action,
                ...jwtOf(p.tokens),
                http: {
                  ...(p.kind !== 'none' && { [p.kind]: p.path }),
                  ...(p.methods.length > 0 && { methods: p.methods }),
                  ...(p.header && { header: [{ name: 'X-Team', ...p.header }] }),
                },
              })),
            }),
          })),
        }),
      )
      .join('');

    const text = PROVIDER_TEXT + intentions;

    const expect = (c: Caller): boolean => {
      const mine = entries.filter((e) => e.destination === 'pay' || e.destination === '*');
      if (mine.length === 0) return true;
      const believed = mine.flatMap((e) => [
        ...(e.tokens ?? []),
        ...e.sources.flatMap((s) => s.permissions?.flatMap((p) => p.tokens ?? []) ?? []),
      ]);
      // A token of an issuer that nobody named is refused where tokens are looked at.
      if (!c.tcp && c.token && believed.length > 0 && !believed.some((n) => n.provider === c.token?.provider))
        return false;
      const brings = (all: readonly Need[] | undefined): boolean =>
        all === undefined ||
        all.some((n) => !c.tcp && n.provider === c.token?.provider && (n.role ?? c.token.role) === c.token.role);
      if (c.account === undefined) return false;
      for (const [destination, name] of [
        ['pay', c.account],
        ['pay', '*'],
        ['*', c.account],
        ['*', '*'],
      ]) {
        const entry = mine.find((e) => e.destination === destination);
        const found = entry?.sources.find((s) => s.name === name);
        if (!found) continue;
        if (!found.permissions) return found.action === 'allow' && brings(entry?.tokens);
        if (c.tcp) return false;
        for (const p of found.permissions) {
          if (p.kind === 'pathExact' && c.path !== p.path) continue;
          if (p.kind === 'pathPrefix' && !c.path.startsWith(p.path)) continue;
          if (p.methods.length > 0 && !p.methods.includes(c.method)) continue;
          if (p.header && (c.header === p.header.exact) === p.header.invert) continue;
          return p.action === 'allow' && brings(p.tokens) && brings(entry?.tokens);
        }
        return false;
      }
      return false;
    };
    const bearing = (): Caller['token'] =>
      d.chance(0.4) ? undefined : { provider: d.one(PROVIDERS), role: d.one(ROLES) };
    const callers = Array.from({ length: REQUESTS }, () => ({ ...caller(d), token: bearing() }));
    for (const [i, got] of ask(text, 8080, callers).entries()) {
      const c = callers[i];
      assert.equal(got, expect(c), `seed ${SEED}, mesh ${m}: ${JSON.stringify(c)}\n${text}`);
      if (got) allowed++;
    }
  }
  fair(allowed);
});
