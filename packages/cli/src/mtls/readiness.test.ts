import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MtlsCaller, MtlsPort, MtlsWorkload } from '@weft/control';
import { render } from '../commands/mtls.ts';
import { findings, readinessOf } from './readiness.ts';

const port = (more: Partial<MtlsPort> = {}): MtlsPort => ({
  ...{ port: 8080, mode: 'PERMISSIVE', policy: '', where: '', level: '' },
  ...more,
});
const caller = (more: Partial<MtlsCaller> = {}): MtlsCaller => ({
  ...{ source: 'shop/legacy', address: '10.0.0.9', injected: false, port: 8080, requests: 5, refused: 0 },
  ...{ firstMs: 1000, lastMs: 2000, lastRefusedMs: 0 },
  ...more,
});
const workload = (more: Partial<MtlsWorkload> = {}): MtlsWorkload => ({
  ...{ namespace: 'shop', workload: 'cart', instances: 1, injected: true, reason: '', labels: {} },
  ...{ ports: [port()], plaintext: [], verified: [] },
  ...more,
});

test('readiness: what STRICT would break, what it refuses, and what has a policy of its own', () => {
  assert.equal(readinessOf(workload()), 'ready');
  assert.equal(readinessOf(workload({ injected: false, reason: 'no' })), 'no proxy');
  assert.equal(readinessOf(workload({ plaintext: [caller()] })), 'breaks');
  const strict = port({ mode: 'STRICT', policy: 'shop/default', level: 'namespace' });
  assert.equal(readinessOf(workload({ ports: [strict] })), 'strict');
  // It sent plaintext before the port was STRICT, and nothing since.
  assert.equal(readinessOf(workload({ ports: [strict], plaintext: [caller()] })), 'strict');
  const refused = workload({ ports: [strict], plaintext: [caller({ refused: 2, lastRefusedMs: 3000 })] });
  assert.equal(readinessOf(refused), 'refuses');
  assert.deepEqual(
    findings(refused).map((f) => [f.requests, f.lastMs, f.refused]),
    [[2, 3000, true]],
  );
  const own = port({ mode: 'PERMISSIVE', policy: 'shop/own', where: 'a.yaml:3', level: 'workload' });
  assert.equal(readinessOf(workload({ ports: [own], plaintext: [caller()] })), 'ready');
});

test('readiness says it in words', () => {
  const text = render(
    {
      sinceMs: 0,
      dropped: 0,
      workloads: [
        workload({ plaintext: [caller(), caller({ source: '', injected: undefined, requests: 1 })] }),
        workload({ workload: 'legacy', injected: false, reason: 'its label says so' }),
        workload({ workload: 'own', ports: [port({ policy: 'shop/own', where: 'a.yaml:3', level: 'port' })] }),
      ],
    },
    62_000,
  );
  assert.match(text, /shop\/legacy \(no proxy\) +shop\/cart:8080 +would break +5 +1 min ago/);
  assert.match(text, /10\.0\.0\.9 \(not of the mesh\) +shop\/cart:8080 +would break +1/);
  assert.match(text, /shop\/legacy: its label says so/);
  assert.match(text, /shop\/own:8080 is PERMISSIVE by shop\/own \(a\.yaml:3\)/);
});
