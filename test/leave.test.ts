/** weft leave and join with explicit capture, as an ordinary user has it: under load, with nothing changed for applications. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { meshOf, request } from './harness.ts';

const LONG = process.env.WEFT_LONG === '1';

test('leave and join with explicit capture under load: nothing fails, with a proxy and without', async (t) => {
  const m = await meshOf(t, 'explicit', { front: { v1: 1 }, cart: { v1: 1 }, stock: { v1: LONG ? 2 : 1 } });
  const { address: front } = m.row('front');
  const from = (address: string, call: object) => request(address, 8080, '/run', call);
  const stock = { url: 'http://stock.shop:8080/y' };
  const through = { method: 'POST', url: 'http://cart:8080/run', body: JSON.stringify(stock) };
  const load = [
    from(front, { ...stock, rate: 40, count: 100_000 }),
    from(front, { ...through, rate: 20, count: 100_000 }),
  ];
  m.weft('leave', 'stock');
  m.weft('leave', 'cart');
  const left = m.ps();
  assert.deepEqual(
    left.filter((r) => r.injected || r.proxyPid).map((r) => r.workload),
    ['front'],
  );
  const cart = left.find((r) => r.workload === 'cart')!;
  // From who left to who left, by the name and the port that it always used; nobody proves who he is.
  const { json } = await from(cart.address, { ...stock, count: 20 });
  assert.deepEqual(json.statuses, { 200: 20 });
  assert.equal(JSON.parse(json.sample.text).headers['x-forwarded-client-cert'], undefined);
  // By a tunnel too, and never without the secret.
  const environment = readFileSync(`/proc/${cart.pid}/environ`, 'utf8').split('\0');
  const proxy = environment.find((e) => e.startsWith('http_proxy='))!.slice(11);
  const curl = (...args: string[]) =>
    execFileSync('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', ...args, stock.url], { encoding: 'utf8' });
  assert.equal(curl('-p', '-x', proxy), '200');
  assert.equal(curl('-x', proxy.replace(/\/\/.*@/, '//weft:wrong@')), '407');
  if (LONG) {
    m.weft('scale', 'stock', '3');
    await m.until('who left finds who is new', 10_000, async () => {
      const { names } = (await from(cart.address, { ...stock, count: 30 })).json;
      return Object.keys(names).length === 3;
    });
  }
  // While it is away, who it calls is replaced.
  m.weft('join', 'stock');
  m.weft('join', '--all');
  assert.ok(m.ps().every((r) => r.injected));
  await request(front, 8080, '/set', { stop: true });
  for (const { json } of await Promise.all(load)) {
    assert.deepEqual(Object.keys(json.statuses), ['200'], JSON.stringify(json));
    assert.deepEqual(
      Object.keys(json.nested).filter((key) => key !== '200'),
      [],
      JSON.stringify(json),
    );
    assert.ok(json.sent > 20, JSON.stringify(json));
    t.diagnostic(`${json.sent} requests, slowest ${Math.round(json.maxMs)} ms`);
  }
});
