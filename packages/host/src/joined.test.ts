import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { JoinedFiles } from './joined.ts';
import { plainServices } from './plain-services.ts';
import type { ProcessSpec } from './specs.ts';

test('a service that was made for who joined is told of while one of them is there', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-joined-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const files = new JoinedFiles(folder);
  const process = (name: string, port: number) =>
    ({
      name,
      namespace: 'shop',
      labels: { app: 'web' },
      ports: [{ number: port, name: 'main' }],
    }) as unknown as ProcessSpec;
  const [one, two] = [process('web-run', 8000), process('web-run-2', 9000)] as const;
  files.add(one, 'web');
  files.add(two, 'web');
  const ready = [one, two].map((spec, i) => ({
    name: spec.name,
    spec,
    state: 'ready' as const,
    address: `192.0.2.${i}`,
  }));
  const behind = () => plainServices(files.services(), ready).flatMap((s) => s.ports.map((p) => [s.name, p]));
  const endpoints = [
    { instance: 'web-run', workload: 'web-run', address: '192.0.2.0', port: 8000 },
    { instance: 'web-run-2', workload: 'web-run-2', address: '192.0.2.1', port: 9000 },
  ];
  assert.deepEqual(behind(), [['web', { port: 8000, protocol: 0, endpoints }]]);
  files.remove('shop', 'web-run');
  assert.equal(behind().length, 1);
  files.remove('shop', 'web-run-2');
  assert.deepEqual([files.services(), readdirSync(folder)], [[], []]);
});
