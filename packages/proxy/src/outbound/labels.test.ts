import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { PartSchema } from '@weft/plan';
import { EdgeAggregator, encodePrometheus, Registry } from '@weft/telemetry';
import { DataPlane } from '../data-plane.ts';
import { MeshObserver } from '../observe/observer.ts';
import { testIdentities } from '../test-identity.ts';

const ADDRESS = '127.8.42.1';
const PORT = 15_001;

function ask(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: ADDRESS, port: PORT, path: `http://${host}/x`, headers: { host } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject);
  });
}

test('hosts outside of the mesh never become labels, however many there are', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-labels-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const identity = await testIdentities(dir, 'a');
  const registry = new Registry();
  const edges = new EdgeAggregator();
  const plane = new DataPlane({
    address: ADDRESS,
    capture: 'explicit',
    bind: { outbound: { host: ADDRESS, port: PORT }, mesh: { host: ADDRESS, port: 15_008 } },
    observer: new MeshObserver({ registry, edges }),
    logger: silentLogger,
  });
  t.after(() => plane.close());
  plane.setIdentity(await identity('b'));
  const self = create(PartSchema, { kind: { case: 'self', value: { mesh: 'm', instance: 'b-0', workload: 'b' } } });
  plane.apply(buildSnapshot([self], []), 1n);
  await plane.listen();
  // Nobody listens there: what counts is that each was asked for.
  assert.equal(await ask('127.8.43.1:9'), 503);
  const { labelSets } = registry;
  for (let i = 2; i < 200; i++) assert.equal(await ask(`127.8.43.${i}:9`), 503);
  assert.equal(registry.labelSets, labelSets);
  const text = [...encodePrometheus(registry)].join('');
  assert.doesNotMatch(text, /127\.8\.43\./);
  assert.match(text, /^istio_requests_total\{.*destination_workload="unknown".*response_code="503".*\} 199$/m);
  assert.equal(edges.takeDeltas().deltas.length, 1, 'one edge to what is outside');
});
