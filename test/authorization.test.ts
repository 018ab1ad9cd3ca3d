/** From traffic to policies: what is suggested, what a dry run would deny, what is denied at last, and what audit says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meshOf, type TestMesh } from './harness.ts';

const id = (account: string): string => `cluster.local/ns/shop/sa/${account}`;

async function call(mesh: TestMesh, from: string, url: string, count = 1): Promise<Record<string, number>> {
  return (await mesh.ask(from, '/run', { url, count, concurrency: 2 })).json.statuses;
}

/** What a command prints, whatever its exit code says. */
function weft(mesh: TestMesh, ...args: string[]): { code: number; text: string } {
  try {
    return { code: 0, text: mesh.weft(...args) };
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    return { code: status, text: stdout };
  }
}

test('policies from observed traffic, in dry run first', async (t) => {
  const mesh = await meshOf(t, 'explicit', { cart: { v1: 1 }, front: { v1: 1 }, pay: { v1: 1 } });
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/charge/17', 3), { '200': 3 });
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/charge/18', 2), { '200': 2 });
  assert.deepEqual(await call(mesh, 'front', 'http://pay:8080/admin', 1), { '200': 1 });

  const suggested = (): { policies: { name: string; rules: Record<string, unknown>[] }[] } =>
    JSON.parse(mesh.weft('authz', 'suggest', '-n', 'shop', '-o', 'json'));
  await mesh.until('the calls are known', 15_000, () =>
    suggested().policies.some((p) => p.name === 'pay-observed' && p.rules.length === 2),
  );
  const rules = suggested().policies.find((p) => p.name === 'pay-observed')!.rules;
  assert.deepEqual(rules, [
    {
      principals: [id('cart')],
      callers: ['cart'],
      requests: 5,
      operations: [{ ports: ['8080'], methods: ['GET'], paths: ['/charge/{*}'], requests: 5, counts: [5] }],
    },
    {
      principals: [id('front')],
      callers: ['front'],
      requests: 1,
      operations: [{ ports: ['8080'], methods: ['GET'], paths: ['/admin'], requests: 1, counts: [1] }],
    },
  ]);

  const yaml = mesh.weft('authz', 'suggest', '-n', 'shop');
  mesh.write('policies.yaml', yaml);
  const synced = (epoch: number): boolean => {
    const { proxies } = JSON.parse(mesh.weft('proxy-status', '-o', 'json'));
    return proxies.every((p: { status: string; epoch: number }) => p.status === 'SYNCED' && p.epoch >= epoch);
  };
  await mesh.until('the dry run is in force', 15_000, () => synced(2));
  assert.equal(weft(mesh, 'authz', 'dry-run').code, 0, 'nothing yet');
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/charge/19'), { '200': 1 });
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/admin', 4), { '200': 4 }, 'a dry run refuses nobody');
  await mesh.until('the dry run tells of it', 15_000, () => weft(mesh, 'authz', 'dry-run', '-n', 'shop').code === 1);
  const { denied } = JSON.parse(weft(mesh, 'authz', 'dry-run', '-n', 'shop', '-o', 'json').text);
  assert.deepEqual(
    denied.map((d: Record<string, unknown>) => [d.principal, d.workload, d.method, d.path, d.requests, d.allowed]),
    [[id('cart'), 'pay', 'GET', '/admin', 4, true]],
  );

  mesh.write('policies.yaml', yaml.replaceAll('istio.io/dry-run: "true"', 'weft.dev/note: "in force"'));
  await mesh.until('they are in force', 15_000, () => synced(3));
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/charge/20'), { '200': 1 });
  assert.deepEqual(await call(mesh, 'cart', 'http://pay:8080/admin', 2), { '403': 2 });
  assert.deepEqual(await call(mesh, 'front', 'http://pay:8080/admin'), { '200': 1 });
  assert.match(
    mesh.logs('pay', true),
    /"event":"authorization-denied","policy":"none","ref":"AuthorizationPolicy\/shop\//,
  );

  const audit = () => JSON.parse(mesh.weft('audit', 'report', '--since', '30d', '-o', 'json'));
  await mesh.until('the denials are known', 15_000, () => audit().denials.length === 1);
  const report = audit();
  const [{ workload, principal, method, path, policy, requests }] = report.denials;
  assert.deepEqual(
    [workload, principal, method, path, policy, requests],
    [...['shop/pay', id('cart'), 'GET', '/admin', 'none', 2]],
  );
  assert.deepEqual([report.mtls.edges, report.mtls.edgesUnderMtls, report.mtls.exceptions], [2, 2, []]);
  assert.ok(report.mtls.bytes > 0 && report.mtls.byteShare === 1);
  assert.equal(report.certificates.workloads.length, 3);
  for (const c of report.certificates.workloads) assert.ok(c.serial !== '' && c.ageMs < 3_600_000 && c.endsInMs > 0);
  assert.deepEqual(
    report.coverage.map((c: { workload: string; covered: boolean }) => [c.workload, c.covered]),
    ['cart', 'front', 'pay'].map((w) => [`shop/${w}`, w === 'pay']),
  );
  assert.deepEqual(
    report.changes.map((c: { epoch: number; actor: { uid: number } }) => [c.epoch, c.actor.uid]),
    [1, 2, 3].map((epoch) => [epoch, process.getuid!()]),
  );
  const of = (epoch: number) => report.changes[epoch - 1].resources;
  const pay = of(2).find((r: { resource: string }) => r.resource.endsWith('/pay-observed'));
  assert.deepEqual([pay.change, pay.file.endsWith('policies.yaml')], ['added', true]);
  assert.equal(yaml.split('\n')[pay.line - 1], 'apiVersion: security.istio.io/v1');
  assert.ok(of(3).length > 0 && of(3).every((r: { change: string }) => r.change === 'changed'));
});
