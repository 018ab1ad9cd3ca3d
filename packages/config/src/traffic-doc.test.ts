/** docs/rows.md says what works and names tests that exist; docs/traffic.md tells every field of the policies. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connectionPool } from './kinds/connection-pool.ts';
import { loadBalancer } from './kinds/load-balancer.ts';
import { meshConfig } from './kinds/mesh-config.ts';
import { destinationRuleKind } from './kinds/networking.ts';
import type { ObjectSchema } from './schema.ts';

const root = new URL('../../../', import.meta.url);
const read = (name: string): string => readFileSync(new URL(`docs/${name}`, root), 'utf8');

test('each row that works names tests and suites, and they are there', () => {
  const lines = read('rows.md')
    .split('\n')
    .filter((line) => /^\| [A-Z]\d\d /.test(line));
  const rows = lines.map((line) =>
    /^\| ([A-Z]\d\d) [^|]*\| (works|in part|left|refused) \| ([^|]*)\| [^|]*\|$/.exec(line),
  );
  assert.deepEqual(
    lines.filter((_line, i) => !rows[i]),
    [],
  );
  for (const [, id, state, shown] of rows.map((row) => row!)) {
    const named = [...shown.matchAll(/`([^`]+)`/g)].map((m) => m[1]).filter((name) => !name.startsWith('npm '));
    assert.equal(named.length > 0, state !== 'left', `${id} is ${state}`);
    for (const name of named) {
      const path = name.includes('/') ? name.replace('…/', 'packages/') : `conformance/suites/${name}.ts`;
      assert.ok(globSync(path, { cwd: fileURLToPath(root) }).length > 0, `${id}: ${path}`);
    }
  }
  const ids = rows.map((row) => row![1]);
  const count = (letter: string, to: number): string[] =>
    Array.from({ length: to }, (_, i) => `${letter}${String(i + 1).padStart(2, '0')}`);
  const asked = [
    ...[count('R', 21), count('S', 5), ['S13'], count('B', 14), count('X', 23), count('F', 7), count('P', 16)],
    ...[count('M', 21), ['A01', 'A03', 'A04', 'A06', 'A07', 'A08', 'A10', 'A12', 'T14', 'T15', 'T23', 'T25', 'T28']],
  ].flat();
  assert.deepEqual(ids.toSorted(), asked.toSorted(), 'each of them once');
});

test('each field of a policy is told', () => {
  const text = read('traffic.md');
  const within = (schema: unknown, name: string): ObjectSchema => (schema as ObjectSchema).fields[name] as ObjectSchema;
  const names = ({ fields, unsupported = [], replaced = {} }: ObjectSchema): string[] => [
    ...Object.keys(fields),
    ...[...unsupported, ...Object.keys(replaced)],
  ];
  const policy = within(destinationRuleKind.spec, 'trafficPolicy');
  const fields = [
    ...names(within(connectionPool, 'tcp')),
    ...names(within(connectionPool, 'http')),
    ...names(within(policy, 'outlierDetection')),
    ...names(loadBalancer),
    ...names(within(loadBalancer, 'consistentHash')),
    ...names(policy),
    ...(meshConfig.unsupported ?? []),
  ];
  assert.ok(fields.length > 40);
  const missing = fields.filter((name) => !new RegExp(`[\`.]${name}[\`.]`).test(text));
  assert.deepEqual(missing, []);
});
