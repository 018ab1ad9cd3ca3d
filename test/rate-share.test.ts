/** One rate limit for all replicas of a service, where nearly all of its load meets one of them; and without the control plane. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { localRequest } from '@weft/host';
import { isRoot, meshOf } from './harness.ts';

const TOTAL = 60;
/** Wanted a second, of which 96 % are for one replica: 2 % reach each of the others. */
const ASKED = 200;

const RULES = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: pay, namespace: shop }
spec:
  host: pay
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }, { name: v3, labels: { version: v3 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: pay, namespace: shop }
spec:
  hosts: [pay]
  http:
    - route:
        - { destination: { host: pay, subset: v1 }, weight: 96 }
        - { destination: { host: pay, subset: v2 }, weight: 2 }
        - { destination: { host: pay, subset: v3 }, weight: 2 }
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: pay, namespace: shop }
spec: { podSelector: { matchLabels: { app: pay } }, port: http, accessPolicy: all-unauthenticated }
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: { name: pay, namespace: shop, annotations: { weft.dev/rate-limit-scope: service } }
spec: { targetRef: { group: policy.linkerd.io, kind: Server, name: pay }, total: { requestsPerSecond: ${TOTAL} } }
`;

test('a limit of three replicas holds for their sum, and what one wants it gets', async (t) => {
  const capture = isRoot ? 'transparent' : 'explicit';
  const mesh = await meshOf(t, capture, { client: { v1: 1 }, pay: { v1: 1, v2: 1, v3: 1 } }, { 'rules.yaml': RULES });
  interface Limit {
    replicas: { name: string; share: number }[];
  }
  const shares = async (): Promise<Limit['replicas']> => {
    const socket = join(mesh.state, mesh.name, 'control.sock');
    const { limits } = await localRequest<{ limits: Limit[] }>(socket, 'GET', '/v1/rates', undefined, 5000);
    return limits[0]?.replicas ?? [];
  };
  const load = async (seconds: number): Promise<number> => {
    const call = { url: 'http://pay:8080/', rate: ASKED, count: ASKED * seconds };
    const { json, text } = await mesh.ask('client', '/run', call);
    const { statuses, elapsedMs, sent } = json;
    const passed = statuses['200'] ?? 0;
    assert.equal(passed + (statuses['429'] ?? 0), sent, text);
    // At once a second's worth, then the rate.
    const most = TOTAL * (1 + elapsedMs / 1000);
    t.diagnostic(`${passed} passed in ${Math.round(elapsedMs)} ms; at most ${Math.round(most)} may`);
    assert.ok(passed <= most * 1.02 + 1, `${passed} of ${most}`);
    return passed / (elapsedMs / 1000);
  };
  await mesh.until('all have a share', 30_000, async () => (await shares()).length === 3);
  const explained = mesh.weft('explain', '--from', 'shop/client', '--to', 'pay:8080');
  assert.match(explained, /60 requests a second in all, of its 3 replicas together/);
  assert.match(explained, /pay-v\d\S* has 3[0-9](\.\d)? % of it now/);
  const { controlPid } = JSON.parse(mesh.weft('ps', '-o', 'json')) as { controlPid: number };
  t.after(() => {
    try {
      process.kill(controlPid, 'SIGCONT');
    } catch {}
  });
  const running = load(30);
  await mesh.until('most of it is at the one that wants it', 25_000, async () => {
    const one = (await shares()).find((r) => r.name.startsWith('pay-v1'));
    return (one?.share ?? 0) > 0.85;
  });
  // The control plane is away from now on.
  process.kill(controlPid, 'SIGSTOP');
  await mesh.ask('client', '/set', { stop: true });
  await running;
  // A third, and the little of the others, would be 28 a second.
  const alone = await load(3);
  assert.ok(alone > 0.75 * TOTAL, `without the control plane ${alone} a second`);
  // Another one takes over what is in force, and nobody gets more than there is.
  process.kill(controlPid, 'SIGKILL');
  const after = await load(3);
  assert.ok(after > 0.75 * TOTAL, `beside a new control plane ${after} a second`);
  await mesh.until('it knows all shares again', 30_000, async () => (await shares()).length === 3);
  const sum = (await shares()).reduce((a, r) => a + r.share, 0);
  assert.ok(sum <= 1 + 1e-9, String(sum));
});
