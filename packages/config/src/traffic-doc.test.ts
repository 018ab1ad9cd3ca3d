/** docs/traffic.md says what works: it names tests that exist, and every field of the policies that it is about. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { connectionPool } from './kinds/connection-pool.ts';
import { loadBalancer } from './kinds/load-balancer.ts';
import { meshConfig } from './kinds/mesh-config.ts';
import { destinationRuleKind } from './kinds/networking.ts';
import type { ObjectSchema } from './schema.ts';

const root = new URL('../../../', import.meta.url);
const text = readFileSync(new URL('docs/traffic.md', root), 'utf8');

test('each row that works names tests, and they are there', () => {
  const rows = [...text.matchAll(/^\| ([A-Z]\d\d) [^|]*\| (works|in part|left) \| ([^|]*)\|/gm)];
  assert.ok(rows.length > 75, `${rows.length} rows`);
  for (const [, id, state, tests] of rows) {
    const named = [...tests.matchAll(/`([^`]+)`/g)].map((m) => m[1].replace('…/', 'packages/'));
    assert.equal(named.length > 0, state !== 'left', `${id} is ${state}`);
    for (const path of named) assert.ok(existsSync(new URL(path, root)), `${id}: ${path}`);
  }
  const ids = rows.map((r) => r[1]);
  assert.deepEqual(
    ids.filter((id, i) => ids.indexOf(id) !== i),
    [],
  );
});

test('each field of a policy is told', () => {
  const within = (schema: unknown, name: string): ObjectSchema => (schema as ObjectSchema).fields[name] as ObjectSchema;
  const names = (schema: ObjectSchema): string[] => [...Object.keys(schema.fields), ...(schema.unsupported ?? [])];
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
