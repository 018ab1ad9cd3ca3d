/** Workloads that speak plaintext to each other inside the mesh: who called is known, and counted once. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { localRequest } from '@weft/host';
import { isRoot, meshOf, type TestMesh } from './harness.ts';

interface Row {
  source: string;
  destination: string;
  mtls: boolean;
  requests: number;
}

function edges(mesh: TestMesh): Promise<Row[]> {
  const socket = join(mesh.state, mesh.name, 'control.sock');
  return localRequest<{ edges: Row[] }>(socket, 'GET', '/v1/edges?window=all').then((answer) => answer.edges);
}

for (const capture of [isRoot ? 'transparent' : 'explicit'] as const) {
  test(`mTLS DISABLE, ${capture} capture: one edge, from the workload that called`, async (t) => {
    const mesh = await meshOf(
      t,
      capture,
      { caller: { v1: 1 }, called: { v1: 1 } },
      {
        'plain.yaml': `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: plain
  namespace: shop
spec:
  mtls:
    mode: DISABLE
`,
      },
    );
    const answer = await mesh.ask('caller', '/run', { url: 'http://called:8080/', count: 20 });
    assert.deepEqual(answer.json?.statuses, { 200: 20 }, `${answer.text}\n${mesh.output.slice(-2000)}`);
    const host = 'called.shop.svc.cluster.local';
    let rows: Row[] = [];
    await mesh.until('20 requests are counted', 60_000, async () => {
      rows = (await edges(mesh)).filter((r) => r.destination === host && r.source !== 'unknown');
      return rows.some((r) => r.requests === 20);
    });
    assert.deepEqual(
      rows.map((r) => [r.source, r.mtls, r.requests]),
      [['caller', false, 20]],
    );
    // Probes come from outside of the mesh; what the caller sent is not among the strangers'.
    const strangers = (await edges(mesh)).filter((r) => r.destination === host && r.source === 'unknown');
    assert.equal(
      strangers.reduce((sum, r) => sum + r.requests, 0),
      0,
      JSON.stringify(strangers),
    );
  });
}
