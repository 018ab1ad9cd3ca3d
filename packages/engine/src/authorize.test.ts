import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { AuthorizationAction as Action, type AuthorizationPolicySchema, MtlsMode, PartSchema } from '@weft/plan';
import { type AuthorizationRequest, authenticatePort, authorize, buildSnapshot, findInbound } from './index.ts';

type Policy = MessageInitShape<typeof AuthorizationPolicySchema>;
type Rule = NonNullable<Policy['rules']>[number];

function snapshotOf(policies: Policy[]) {
  const named = policies.map((p, i) => ({ name: `p${i}`, namespace: 'ns', ref: `ref${i}`, ...p }));
  return buildSnapshot([create(PartSchema, { kind: { case: 'authorization', value: { policies: named } } })], []);
}

function request(path = '/', extra: Partial<AuthorizationRequest> = {}, more: string[] = []): AuthorizationRequest {
  return {
    principal: 'spiffe://cluster.local/ns/shop/sa/web',
    remoteIp: '10.1.2.3',
    localIp: '10.0.0.9',
    destPort: 8080,
    head: [':method', 'GET', ':scheme', 'http', ':authority', 'pay:80', ':path', path, ...more],
    ...extra,
  };
}

function allowed(rule: Rule, r: AuthorizationRequest): boolean {
  return authorize(snapshotOf([{ action: Action.ALLOW, rules: [rule] }]), r).allow;
}

const tcp = request('/', { head: undefined });

test('an upgrade is a GET: allowed and denied as one', () => {
  const head = [':method', 'CONNECT', ':protocol', 'websocket', ':scheme', 'http', ':authority', 'pay', ':path', '/'];
  const upgrade = request('/', { head });
  assert.equal(allowed({ to: [{ methods: ['GET'] }] }, upgrade), true);
  assert.equal(allowed({ to: [{ methods: ['CONNECT'] }] }, upgrade), false);
  const deny = snapshotOf([{ action: Action.DENY, rules: [{ to: [{ methods: ['GET'] }] }] }]);
  assert.equal(authorize(deny, upgrade).allow, false);
});

test('fields of rules', () => {
  const paths = (p: string, path: string): boolean => allowed({ to: [{ paths: [p] }] }, request(path));
  const table: [string, string, boolean][] = [
    ['/admin', '/admin?x', true],
    ['/admin', '/administrator', false],
    ['/admin*', '/administrator', true],
    ['*.txt', '/a.txt', true],
    ['*', '/', true],
    ['/a/{*}', '/a/b', true],
    ['/a/{*}', '/a/b/c', false],
    ['/a/{*}', '/a/', false],
    ['/a/{**}', '/a/', true],
    ['/a/{**}', '/a', false],
    ['/a/{**}/z', '/a/b/*/z', true],
    ['/{*}/x/{**}/y', '/1/x/y/y', true],
    ['/{*}/x/{**}/y', '/1/x/y', false],
    ['/caf%c3%a9', '/caf%C3%A9', true],
  ];
  for (const [pattern, path, wanted] of table) assert.equal(paths(pattern, path), wanted, `${pattern} ${path}`);

  const yes: Rule[] = [
    { from: [{ principals: ['cluster.local/ns/shop/sa/web'] }] },
    { from: [{ principals: ['cluster.local/ns/shop/*'] }] },
    { from: [{ namespaces: ['shop'], serviceAccounts: ['shop/web'], trustDomains: ['cluster.local'] }] },
    { from: [{ ipBlocks: ['10.1.0.0/16', '2001:db8::/32'] }] },
    { from: [{ notIpBlocks: ['10.2.0.0/16'] }] },
    { from: [{ remoteIpBlocks: ['10.1.2.3'], notRemoteIpBlocks: ['10.1.2.4'] }] },
    { to: [{ hosts: ['PAY'] }] },
    { to: [{ hosts: ['pay:*'], ports: ['8080'], methods: ['GET'] }] },
    { when: [{ key: 'request.headers[X-A]', values: ['b*'] }] },
    {
      when: [
        { key: 'destination.ip', values: ['10.0.0.0/24'] },
        { key: 'destination.port', values: ['8080'] },
      ],
    },
    {
      when: [
        { key: 'source.namespace', notValues: ['other'] },
        { key: 'connection.sni', notValues: ['x'] },
      ],
    },
    { when: [{ key: 'request.auth.claims[x]', notValues: ['y'] }], from: [{ notRequestPrincipals: ['*'] }] },
    {},
  ];
  for (const rule of yes) assert.equal(allowed(rule, request('/', {}, ['x-a', 'bc'])), true, JSON.stringify(rule));
  const no: Rule[] = [
    { from: [{ notPrincipals: ['*'] }] },
    { from: [{ ipBlocks: ['10.1.2.4', 'nonsense', '10.1.2.3/99'] }] },
    { from: [{ namespaces: ['shop'], notNamespaces: ['sh*'] }] },
    { to: [{ ports: ['80'] }] },
    { to: [{ notHosts: ['pay'] }] },
    { when: [{ key: 'request.headers[x-a]', values: ['b'] }] },
    { when: [{ key: 'connection.sni', values: ['*'] }] },
    { when: [{ key: 'request.auth.claims[x]', values: ['y'] }] },
    { from: [{ requestPrincipals: ['*'] }] },
  ];
  for (const rule of no) assert.equal(allowed(rule, request('/', {}, ['x-a', 'bc'])), false, JSON.stringify(rule));
  assert.equal(allowed({ from: [{ principals: ['*'] }] }, request('/', { principal: undefined })), false);
  const behind = request('/', { originalIp: '192.0.2.7' });
  assert.equal(allowed({ from: [{ remoteIpBlocks: ['192.0.2.0/24'], ipBlocks: ['10.1.2.3'] }] }, behind), true);
  assert.equal(allowed({ when: [{ key: 'remote.ip', values: ['192.0.2.7'] }] }, behind), true);
  assert.equal(allowed({ from: [{ remoteIpBlocks: ['10.1.2.3'] }] }, behind), false);
  assert.equal(allowed({ from: [{ notRemoteIpBlocks: ['192.0.2.7'] }] }, behind), false);
  assert.equal(allowed({ from: [{ ipBlocks: ['10.0.0.0/8'] }] }, request('/', { remoteIp: '::ffff:10.1.1.1' })), true);
  assert.equal(
    allowed({ from: [{ ipBlocks: ['2001:db8::/33'] }] }, request('/', { remoteIp: '2001:db8:7fff::1' })),
    true,
  );
  assert.equal(
    allowed({ from: [{ ipBlocks: ['2001:db8::/33'] }] }, request('/', { remoteIp: '2001:db8:8000::1' })),
    false,
  );
});

test('claims of a token: nested, lists, words of those that are lists of words, and nothing else', () => {
  const claims = JSON.parse(`{
    "role": "editor", "nick": "an admin", "scope": "read write", "permission": "p q", "groups": ["staff", "x y", 7],
    "a": {"b": {"c": "deep"}, "scope": "s t"}, "list": [{"b": "in a list"}], "n": 3, "t": true, "null": null,
    "parts": "one two", "__proto__": {"polluted": "yes"}
  }`) as Record<string, unknown>;
  const token = { principal: 'i/ann', audiences: ['api'], presenter: 'web', claims, wordClaims: ['parts'] };
  const allows = (key: string, ...values: string[]): boolean =>
    allowed({ when: [{ key: `request.auth.${key}`, values }] }, request('/', { token }));
  const yes: [string, string][] = [
    ['claims[role]', 'editor'],
    ['claims[role]', 'ed*'],
    ['claims[nick]', 'an admin'],
    ['claims[scope]', 'write'],
    ['claims[scope]', 'read write'],
    ['claims[permission]', 'q'],
    ['claims[parts]', 'two'],
    ['claims[groups]', 'staff'],
    ['claims[groups]', '7'],
    ['claims[a][b][c]', 'deep'],
    ['claims[n]', '3'],
    ['claims[t]', 'true'],
    ['principal', 'i/ann'],
    ['principal', 'i/*'],
    ['audiences', 'api'],
    ['presenter', 'web'],
  ];
  for (const [key, value] of yes) assert.equal(allows(key, value), true, `${key} ${value}`);
  const no: [string, string][] = [
    // A user chooses its nick.
    ['claims[nick]', 'admin'],
    ['claims[groups]', 'y'],
    ['claims[a][scope]', 't'],
    ['claims[a][b]', '*'],
    ['claims[list][b]', '*'],
    ['claims[list][0][b]', '*'],
    ['claims[role][length]', '*'],
    ['claims[toString]', '*'],
    ['claims[constructor][name]', '*'],
    ['claims[null]', '*'],
    ['claims[scope]', 'rea'],
    ['audiences', 'ap'],
    ['principal', 'ann'],
  ];
  for (const [key, value] of no) assert.equal(allows(key, value), false, `${key} ${value}`);
  const notValues = (key: string, value: string): boolean =>
    allowed({ when: [{ key: `request.auth.${key}`, notValues: [value] }] }, request('/', { token }));
  assert.equal(notValues('claims[groups]', 'staff'), false);
  assert.equal(notValues('claims[groups]', 'other'), true);
});

test('order of actions, names of policies, dry run, audit', () => {
  const deny: Policy = { action: Action.DENY, rules: [{ ref: 'd', to: [{ paths: ['/admin*'] }] }] };
  const allow: Policy = { action: Action.ALLOW, rules: [{ ref: 'a', to: [{ paths: ['/admin', '/x'] }] }] };
  assert.equal(authorize(snapshotOf([]), request()).allow, true);
  const both = snapshotOf([allow, deny]);
  assert.deepEqual(authorize(both, request('/x')), { allow: true, ref: 'a', policy: 'ns/p0', details: '' });
  assert.deepEqual(authorize(both, request('/admin')), {
    allow: false,
    ref: 'd',
    policy: 'ns/p1',
    details: 'rbac_access_denied_matched_policy[ns[ns]-policy[p1]-rule[0]]',
  });
  assert.equal(authorize(both, request('/y')).details, 'rbac_access_denied_matched_policy[none]');
  assert.equal(both.pathPolicies, true);
  assert.equal(authorize(snapshotOf([{ action: Action.ALLOW }]), request()).allow, false);
  assert.equal(authorize(snapshotOf([deny]), request('/y')).allow, true);
  assert.equal(authorize(snapshotOf([allow, { action: Action.CUSTOM, rules: [{}] }]), request('/x')).allow, false);
  const dry = authorize(
    snapshotOf([
      { ...deny, dryRun: true },
      { action: Action.ALLOW, dryRun: true },
    ]),
    request('/admin'),
  );
  assert.equal(dry.allow, true);
  assert.deepEqual(dry.shadow, { allow: false, policy: 'ns/p0', ref: 'd' });
  assert.deepEqual(authorize(snapshotOf([{ action: Action.AUDIT, rules: [{}] }]), request()).audit, ['ns/p0']);
});

test('on TCP an HTTP field makes ALLOW vanish and DENY wider', () => {
  const rule: Rule = { from: [{ namespaces: ['shop'] }], to: [{ paths: ['/x'] }] };
  assert.equal(allowed(rule, tcp), false);
  assert.equal(allowed({ from: [{ namespaces: ['shop'] }], to: [{ ports: ['8080'] }] }, tcp), true);
  assert.equal(authorize(snapshotOf([{ action: Action.DENY, rules: [rule] }]), tcp).allow, false);
  const other = { ...tcp, principal: 'cluster.local/ns/else/sa/a' };
  assert.equal(authorize(snapshotOf([{ action: Action.DENY, rules: [rule] }]), other).allow, true);
});

test('a host in a condition is a host: in any case, with and without its port', () => {
  for (const key of ['request.headers[Host]', 'request.headers[:authority]']) {
    const is = (values: string[], notValues: string[] = []) =>
      allowed({ when: [{ key, values, notValues }] }, request());
    assert.deepEqual([is(['PAY']), is(['pay:80']), is(['pay.:080']), is(['p*'])], [true, true, true, true]);
    assert.deepEqual([is(['pay:81']), is(['pa']), is([], ['Pay']), is([], ['pay:80'])], [false, false, false, false]);
    const deny = snapshotOf([{ action: Action.DENY, rules: [{ when: [{ key, values: ['Pay.'] }] }] }]);
    assert.equal(authorize(deny, request()).allow, false);
  }
});

test('a repeated header never helps the caller', () => {
  const r = request('/', {}, ['x-role', 'user', 'x-role', 'evil']);
  const when = [{ key: 'request.headers[x-role]', values: ['evil'] }];
  assert.equal(authorize(snapshotOf([{ action: Action.DENY, rules: [{ when }] }]), r).allow, false);
  assert.equal(allowed({ when: [{ key: 'request.headers[x-role]', values: ['user'] }] }, r), false);
  assert.equal(allowed({ when: [{ key: 'request.headers[x-role]', notValues: ['evil'] }] }, r), false);
});

test('an exact name is that name alone, whatever characters stand in it', () => {
  const random = seededRandom(39_350);
  const below = (n: number): number => Math.floor(random.next() * n);
  const name = (): string => Array.from({ length: 1 + below(2) }, () => 'ab.-_+?[('[below(9)]).join('');
  let same = 0;
  for (let i = 0; i < 3000; i++) {
    const [a, b] = [0, 1].map(() => `td/ns/${name()}/sa/${name()}`);
    const [, , namespace, , account] = a.split('/');
    const caller = b.split('/');
    const by = (from: NonNullable<Rule['from']>[number]) => allowed({ from: [from] }, request('/', { principal: b }));
    assert.equal(by({ principals: [a] }), a === b, `${a} ${b}`);
    assert.equal(by({ namespaces: [namespace] }), namespace === caller[2], `${a} ${b}`);
    const accounts = [`${namespace}/${account}`];
    assert.equal(by({ serviceAccounts: accounts }), namespace === caller[2] && account === caller[4], `${a} ${b}`);
    if (namespace === caller[2]) same++;
  }
  assert.ok(same > 30, String(same));
});

/** The whole semantics for exact strings, prefixes and ports, read off the documentation. */
function naive(policies: Policy[], ns: string, path: string, port: number): boolean {
  const like = (p: string, v: string): boolean => (p.endsWith('*') ? v.startsWith(p.slice(0, -1)) : p === v);
  const list = (yes: string[] | undefined, no: string[] | undefined, v: string): boolean =>
    (!yes?.length || yes.some((p) => like(p, v))) && !no?.some((p) => like(p, v));
  const hit = (p: Policy): boolean =>
    (p.rules ?? []).some((r) => {
      const from = r.from ?? [];
      const to = r.to ?? [];
      return (
        (from.length === 0 || from.some((f) => list(f.namespaces, f.notNamespaces, ns))) &&
        (to.length === 0 ||
          to.some((o) => list(o.paths, o.notPaths, path) && list(o.ports, o.notPorts, String(port)))) &&
        (r.when ?? []).every((w) => list(w.values, w.notValues, ns))
      );
    });
  if (policies.some((p) => p.action === Action.DENY && hit(p))) return false;
  const allows = policies.filter((p) => p.action === Action.ALLOW);
  return allows.length === 0 || allows.some(hit);
}

test('random policies decide as the naive reading does', () => {
  const seed = 99;
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  const below = (n: number): number => Math.floor(random.next() * n);
  const some = (from: string[]): string[] => (below(2) ? [] : from.filter(() => below(3) === 0));
  const times = <T>(n: number, make: () => T): T[] => Array.from({ length: below(n) }, make);
  const names = ['a', 'b', 'ab', 'a*'];
  const paths = ['/x', '/y', '/x/y', '/x*'];
  const ports = ['80', '81'];
  let denied = 0;
  for (let n = 0; n < 5000; n++) {
    const policies = times(4, () => ({
      action: below(2) ? Action.ALLOW : Action.DENY,
      rules: times(3, () => ({
        from: times(3, () => ({ namespaces: some(names), notNamespaces: some(names) })),
        to: times(3, () => ({ paths: some(paths), notPaths: some(paths), ports: some(ports), notPorts: some(ports) })),
        when: times(2, () => ({ key: 'source.namespace', values: some(names), notValues: some(names) })),
      })),
    }));
    const snapshot = snapshotOf(policies);
    for (const ns of ['a', 'b', 'ab']) {
      for (const path of ['/x', '/y', '/x/y']) {
        const got = authorize(snapshot, request(path, { principal: `td/ns/${ns}/sa/s`, destPort: 80 })).allow;
        assert.equal(got, naive(policies, ns, path, 80), `${ns} ${path} ${JSON.stringify(policies)}`);
        if (!got) denied++;
      }
    }
  }
  assert.ok(denied > 5000 && denied < 40_000, String(denied));
});

test('PeerAuthentication by port', () => {
  const inbound = (port: number, mtls: MtlsMode) =>
    create(PartSchema, { kind: { case: 'inbound', value: { port, mtls } } });
  const s = buildSnapshot(
    [inbound(1, MtlsMode.STRICT), inbound(2, MtlsMode.DISABLE), inbound(3, MtlsMode.UNSPECIFIED)],
    [],
  );
  const answers = [1, 2, 3, 4].map((p) => [true, false].map((mtls) => authenticatePort(s, p, { mtls })));
  assert.deepEqual(answers, [
    [true, false],
    [false, true],
    [true, true],
    [true, false],
  ]);
  assert.equal(findInbound(s, 4), undefined);
});
