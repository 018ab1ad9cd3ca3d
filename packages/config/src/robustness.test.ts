/** Whatever bytes a file holds: a clear error with its line, in bounded time and memory, and never an exception. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compile, compileEndpoints, type Instance, type MeshRuntime, type Model } from '@weft/model';
import fc from 'fast-check';
import { analyzeFiles, isTestFile, loadFiles, MAX_FILE_BYTES, sourceFile } from './index.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const utf8 = new TextEncoder();
const read = (bytes: Uint8Array | string) =>
  loadFiles([sourceFile('f.yaml', typeof bytes === 'string' ? utf8.encode(bytes) : bytes)]);

const SERVICE = 'apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: 80}]}\n';
const laughs = Array.from({ length: 9 }, (_, i) => {
  const name = 'abcdefghi'[i];
  return `${name}: &${name} [${Array(9)
    .fill(i === 0 ? 'x' : `*${'abcdefghi'[i - 1]}`)
    .join(', ')}]`;
}).join('\n');

/** What, the bytes, the line that is named, and what is said. */
const HOSTILE: readonly (readonly [string, Uint8Array | string, number, RegExp])[] = [
  ['a bomb of aliases', laughs, 3, /more than 100 aliases/],
  ['an alias of itself', 'a: 1\nb: &b [*b]', 2, /nested deeper|anchor/],
  ['an alias of nothing', 'a: 1\nb: *c', 2, /names no anchor|Unresolved/],
  ['10 MB', new Uint8Array(10 * 1024 * 1024).fill(0x61), 1, /at most 4194304 are read/],
  ['100,000 brackets', `a: 1\nb: ${'['.repeat(100_000)}`, 2, /nested deeper than 100/],
  ['100,000 braces', `a: 1\nb: ${'{a: '.repeat(100_000)}`, 2, /nested deeper than 100/],
  ['100,000 dashes', `a: 1\nb:\n${'- '.repeat(100_000)}x`, 3, /nested deeper than 100/],
  ['100,000 question marks', `${'? '.repeat(100_000)}x`, 1, /nested deeper than 100/],
  [
    '2,000 indents',
    Array.from({ length: 2000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
    0,
    /nested deeper than 100/,
  ],
  ['200 indents', Array.from({ length: 200 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'), 0, /nested deeper than 100/],
  ['100,000 anchors', `a: 1\nb: ${'&a '.repeat(100_000)}`, 2, /anchors and tags/],
  ['100,000 tags', `a: 1\nb: ${'!a '.repeat(100_000)}`, 2, /anchors and tags/],
  ['500,000 documents', '---\na: 1\n'.repeat(500_000).slice(0, 4_000_000), 0, /documents/],
  ['a million values', `a:\n${'- 1\n'.repeat(1_000_000)}`, 0, /tokens/],
  ['NUL', 'a: b\nc: "x\0"\n', 2, /U\+0000/],
  ['an escape', 'a: b\n\u001b[31m: c\n', 2, /U\+001b/],
  ['Latin-1', Uint8Array.of(0x61, 0x3a, 0x0a, 0x62, 0x3a, 0x20, 0xe4, 0x0a), 2, /not UTF-8/],
  ['a cut character', Uint8Array.of(0x61, 0x0a, 0x0a, 0xe2, 0x82), 3, /not UTF-8/],
  ['a surrogate', Uint8Array.of(0x61, 0xed, 0xa0, 0x80), 1, /not UTF-8/],
  ['UTF-16', Uint8Array.of(0xff, 0xfe, 0x61, 0x00), 1, /UTF-16/],
  ['a key twice', `${SERVICE}spec: {}\n`, 5, /"spec" is there twice/],
  ['a key that is a list', `${SERVICE}? [a, b]\n: c\n`, 5, /a key must be a plain word/],
];

for (const [what, bytes, line, message] of HOSTILE) {
  test(`${what}: an error with its line`, () => {
    const before = process.memoryUsage().rss;
    const { model, problems } = read(bytes);
    assert.equal(model, undefined);
    assert.ok(problems.length >= 1 && problems.length <= 1001);
    const problem = problems.find((p) => message.test(p.message));
    assert.ok(problem, JSON.stringify(problems.slice(0, 3)));
    assert.equal(problem.file, 'f.yaml');
    if (line > 0) assert.equal(problem.line, line);
    assert.ok(problem.line >= 1);
    assert.ok(process.memoryUsage().rss - before < 500 * 1024 * 1024);
  });
}

test('200,000 duplicate keys: no more than a thousand errors', () => {
  const { problems } = read('a: 1\n'.repeat(200_000));
  assert.ok(problems.length >= 1000 && problems.length <= 1001);
  assert.match(problems[0].message, /"a" is there twice/);
});

test('the limit itself is read, one byte more is not', () => {
  const text = `${SERVICE}#`;
  const full = text + 'x'.repeat(MAX_FILE_BYTES - text.length);
  assert.ok(read(full).problems.every((p) => p.code !== 'WEFT-YAML'));
  assert.equal(read(`${full}x`).problems[0].code, 'WEFT-YAML');
});

test('a byte order mark is no mistake', () => {
  assert.ok(read(`\ufeff${SERVICE}`).problems.every((p) => p.code !== 'WEFT-YAML'));
});

test('names of Object’s own properties are names like others, or refused; nothing is polluted', () => {
  for (const name of ['__proto__', 'constructor', 'hasOwnProperty', 'toString', 'prototype']) {
    for (const text of [
      `${name}: {polluted: yes}\n${SERVICE}`,
      SERVICE.replace('name: a', `name: a, ${name}: {polluted: yes}`),
      SERVICE.replace('name: a', `name: a, labels: {${name}: polluted}, annotations: {${name}: polluted}`),
      SERVICE.replace('spec: {', `spec: {${name}: {polluted: yes}, selector: {${name}: polluted}, `),
      SERVICE.replace('kind: Service', `kind: ${name}`),
    ]) {
      const { problems } = read(text);
      assert.ok(problems.length > 0);
      assert.ok(problems.every((p) => p.file === 'f.yaml' && p.line > 0));
    }
  }
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
  const good = read(
    `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: a, labels: {constructor: toString}}\nspec: {command: [x]}\n`,
  );
  assert.deepEqual(Object.entries(good.model?.processes[0].labels ?? {}), [['constructor', 'toString']]);
});

/** Loads, analyzes and, where it is valid, compiles. */
function whole(bytes: Uint8Array): boolean {
  const file = sourceFile('f.yaml', bytes);
  const { model, problems } = loadFiles([file]);
  assert.ok(model !== undefined || problems.length > 0);
  for (const p of problems) assert.ok(p.line >= 1 && p.message !== '');
  for (const f of analyzeFiles([file])) assert.ok(f.line >= 1 && f.message !== '');
  if (model) compileAll(model);
  return model !== undefined;
}

function compileAll(model: Model): void {
  const instances: Instance[] = model.processes.map((p, i) => ({
    name: `${p.name}-${i}`,
    workload: p.name,
    namespace: p.namespace,
    serviceAccount: p.serviceAccountName,
    labels: p.labels,
    address: `10.0.0.${i + 1}`,
    dialAddress: `10.0.0.${i + 1}`,
    ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
    injected: true,
    gateway: p.gateway !== undefined,
    ready: true,
    draining: false,
  }));
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: 'cluster.local',
    domain: 'cluster.local',
    capture: 'transparent',
    instances,
    vips: new Map(),
  };
  for (const instance of instances) compile(model, runtime, instance);
  compileEndpoints(model, runtime);
}

const runs = { numRuns: 300, seed: 20_261_121 };

test('any bytes are read without an exception', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void whole(bytes)),
    runs,
  );
});

test('any text made of the signs of YAML is read without an exception', () => {
  const sign = fc.constantFrom(
    ...[
      '\n',
      ' ',
      '  ',
      '- ',
      ': ',
      '? ',
      '[',
      ']',
      '{',
      '}',
      ', ',
      '&a ',
      '*a',
      '!t ',
      '"',
      "'",
      '|\n',
      '>',
      '#',
      '%',
      '@',
    ],
    ...[
      '---\n',
      '...\n',
      'a',
      'kind',
      'spec',
      'metadata',
      'name',
      '0x1',
      '~',
      'true',
      '<<',
      '\t',
      '\r',
      '1e999',
      '__proto__',
    ],
  );
  fc.assert(
    fc.property(fc.array(sign, { maxLength: 60 }), (parts) => void whole(utf8.encode(parts.join('')))),
    { ...runs, numRuns: 2000 },
  );
});

/** Manifests of this repository, line by line: what is nearly right reaches the deepest. */
const corpus = ['shop/mesh', 'seeds'].flatMap((dir) => {
  const folder = new URL(`../../../examples/${dir}/`, import.meta.url);
  return readdirSync(folder)
    .filter((n) => n.endsWith('.yaml') && !isTestFile(n))
    .map((n) => readFileSync(new URL(n, folder), 'utf8'));
});

test('manifests with lines taken out, doubled, swapped or with other values are read without an exception', () => {
  const value = fc.constantFrom(
    '',
    '0',
    '-1',
    '1.5',
    '99999999999',
    '"x"',
    '[]',
    '{}',
    'null',
    '"*"',
    '[{}]',
    '{a: b}',
    '5s',
    '/',
  );
  const change = fc.tuple(fc.nat(), fc.constantFrom('drop', 'double', 'swap', 'value'), fc.nat(), value);
  fc.assert(
    fc.property(fc.nat(), fc.array(change, { minLength: 1, maxLength: 4 }), (which, changes) => {
      const lines = corpus[which % corpus.length].split('\n');
      for (const [at, what, other, instead] of changes) {
        const i = at % lines.length;
        const j = other % lines.length;
        if (what === 'drop') lines.splice(i, 1);
        else if (what === 'double') lines.splice(i, 0, lines[i]);
        else if (what === 'swap') [lines[i], lines[j]] = [lines[j], lines[i]];
        else lines[i] = `${lines[i].split(':')[0]}: ${instead}`;
      }
      whole(utf8.encode(lines.join('\n')));
    }),
    { ...runs, numRuns: 300 },
  );
});

test('any valid configuration is compiled without an exception', () => {
  const name = fc.constantFrom('a', 'b');
  const host = fc.constantFrom(
    'a',
    'b',
    'a.shop.svc.cluster.local',
    '"*"',
    '"*.shop.svc.cluster.local"',
    'x.example.com',
  );
  const ms = fc.constantFrom('0s', '1ms', '5s', '1h');
  const matchValue = fc.constantFrom('{exact: "/"}', '{prefix: "/a"}', '{regex: "/a.*|b"}', '{exact: ""}');
  const match = fc.oneof(
    fc.constant('{}'),
    matchValue.map((m) => `{uri: ${m}}`),
    matchValue.map((m) => `{headers: {x: ${m}}, method: {exact: GET}}`),
    name.map((n) => `{sourceLabels: {app: ${n}}, port: 80}`),
  );
  const destination = fc
    .tuple(name, fc.constantFrom('', ', subset: v1'), fc.nat({ max: 3 }))
    .map(([n, subset, weight]) => `{destination: {host: ${n}${subset}}, weight: ${weight}}`);
  const action = fc.oneof(
    fc.array(destination, { minLength: 1, maxLength: 3 }).map((d) => `route: [${d.join(', ')}]`),
    fc.constant('redirect: {uri: /x}'),
    fc.constant('directResponse: {status: 200}'),
  );
  const extra = fc.oneof(
    fc.constant(''),
    ms.map((t) => `, timeout: ${t}`),
    fc.nat({ max: 5 }).map((n) => `, retries: {attempts: ${n}, retryOn: "5xx,503"}`),
    fc.nat({ max: 100 }).map((p) => `, fault: {abort: {percentage: {value: ${p}}, httpStatus: 503}}`),
    name.map((n) => `, mirror: {host: ${n}}`),
  );
  const route = fc
    .tuple(fc.array(match, { maxLength: 2 }), action, extra)
    .map(([m, a, e]) => `{${m.length > 0 ? `match: [${m.join(', ')}], ` : ''}${a}${e}}`);
  const object = (api: string, kind: string, n: string, spec: string) =>
    `---\napiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${n}, namespace: shop}\nspec: ${spec}\n`;
  const rule = fc.oneof(
    fc
      .tuple(fc.array(host, { minLength: 1, maxLength: 2 }), fc.array(route, { minLength: 1, maxLength: 3 }), name)
      .map(([h, r, n]) =>
        object('networking.istio.io/v1', 'VirtualService', n, `{hosts: [${h.join(', ')}], http: [${r.join(', ')}]}`),
      ),
    fc
      .tuple(host, fc.constantFrom('DISABLE', 'ISTIO_MUTUAL', 'SIMPLE'), name)
      .map(([h, tls, n]) =>
        object(
          'networking.istio.io/v1',
          'DestinationRule',
          n,
          `{host: ${h}, trafficPolicy: {tls: {mode: ${tls}}, loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}`,
        ),
      ),
    fc
      .tuple(fc.constantFrom('STRICT', 'PERMISSIVE', 'DISABLE', 'UNSET'), name)
      .map(([m, n]) => object('security.istio.io/v1', 'PeerAuthentication', n, `{mtls: {mode: ${m}}}`)),
    fc
      .tuple(fc.constantFrom('ALLOW', 'DENY', 'AUDIT'), fc.constantFrom('"*"', '"/a*"', '"*b"', '/x'), name)
      .map(([a, p, n]) =>
        object(
          'security.istio.io/v1',
          'AuthorizationPolicy',
          n,
          `{action: ${a}, rules: [{to: [{operation: {paths: [${p}]}}]}]}`,
        ),
      ),
  );
  const base = ['a', 'b']
    .map(
      (n) =>
        object('v1', 'Service', n, `{selector: {app: ${n}}, ports: [{name: http, port: 80, targetPort: 8080}]}`) +
        `---\napiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${n}, namespace: shop, labels: {app: ${n}, version: v1}}\nspec: {command: [x], ports: [{containerPort: 8080}]}\n`,
    )
    .join('');
  let valid = 0;
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 4 }), (rules) => {
      if (whole(utf8.encode(base + rules.join('')))) valid++;
    }),
    { ...runs, numRuns: 1000 },
  );
  assert.ok(valid >= 100, `only ${valid} of 1000 were valid`);
});
