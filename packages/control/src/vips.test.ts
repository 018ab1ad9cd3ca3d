import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Model, ServiceModel } from '@weft/model';
import { allocateVips } from './vips.ts';

const model = (...services: Partial<ServiceModel>[]) =>
  ({
    services: services.map((s) => ({ namespace: 'shop', headless: false, clusterIP: undefined, ...s })),
  }) as unknown as Model;
const options = { capture: 'transparent', domain: 'cluster.local' } as const;

test('a service keeps its address whatever else comes and goes, and no two share one', () => {
  const many = Array.from({ length: 3000 }, (_, i) => ({ name: `s${i}` }));
  const stored = new Map<string, string>();
  const { vips, changed } = allocateVips(model(...many), stored, options);
  assert.equal(changed, true);
  const all = [...vips.values()].flat();
  assert.equal(new Set(all).size, 3000);
  assert.ok(all.every((a) => /^240\.240\.\d+\.\d+$/.test(a) && !/\.(0|255)$/.test(a)));
  const fewer = allocateVips(model(many[7], { name: 'new' }), stored, options);
  assert.deepEqual(fewer.vips.get('s7.shop.svc.cluster.local'), vips.get('s7.shop.svc.cluster.local'));
  assert.equal(allocateVips(model(...many), stored, options).changed, false);
});

test('IPv6 addresses go with the allocated IPv4 ones, and only where a service wants them', () => {
  const services = model(
    { name: 'both', families: [6, 4] },
    { name: 'six', families: [6] },
    { name: 'half', families: [4, 6], clusterIP: '10.0.0.9' },
    { name: 'given', families: [4, 6], clusterIPs: ['10.0.0.8', 'FD00:0:0::8'] },
  );
  const of = (vips: Map<string, string[]>, name: string) => vips.get(`${name}.shop.svc.cluster.local`)!;
  const { vips } = allocateVips(services, new Map([['six.shop.svc.cluster.local', '240.240.0.18']]), options);
  assert.match(of(vips, 'both').join(' '), /^2001:2::f0f0:[0-9a-f]+ 240\.240\.\d+\.\d+$/);
  assert.deepEqual(of(vips, 'six'), ['2001:2::f0f0:12']);
  assert.match(of(vips, 'half').join(' '), /^10\.0\.0\.9 2001:2::f0f0:[0-9a-f]+$/);
  assert.deepEqual(of(vips, 'given'), ['10.0.0.8', 'fd00::8']);
  const explicit = allocateVips(services, new Map(), { ...options, capture: 'explicit' }).vips;
  for (const name of ['both', 'six', 'half', 'given']) assert.match(of(explicit, name).join(), /^127\.65\.\d+\.\d+$/);
});

test('headless has none, a given one is used, and explicit mode takes loopback for all', () => {
  const services = model({ name: 'a', headless: true }, { name: 'b', clusterIP: '10.0.0.9' });
  const given = allocateVips(services, new Map(), options).vips;
  assert.deepEqual([given.get('a.shop.svc.cluster.local'), given.get('b.shop.svc.cluster.local')], [[], ['10.0.0.9']]);
  const explicit = allocateVips(services, new Map(), { ...options, capture: 'explicit' }).vips;
  assert.match(explicit.get('b.shop.svc.cluster.local')![0], /^127\.65\./);
});
