import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { type Part, PartSchema } from '@weft/plan';
import { buildSnapshot, findGatewayServer, findVirtualHost, HostTable, routeHttp } from './index.ts';

test('hosts: exact before the longest suffix before any; the first of a host has it', () => {
  const table = new HostTable<string>();
  for (const host of ['*', '*.example.com', '*.a.example.com', 'b.a.example.com', 'Upper.Example.com'])
    table.add(host, host);
  table.add('*.example.com', 'second');
  const found: [string, string | undefined][] = [
    ['b.a.example.com', 'b.a.example.com'],
    ['c.a.example.com', '*.a.example.com'],
    ['x.c.a.example.com', '*.a.example.com'],
    ['a.example.com', '*.example.com'],
    ['upper.example.com', 'Upper.Example.com'],
    ['example.com', '*'],
    ['localhost', '*'],
    ['', '*'],
  ];
  for (const [host, want] of found) assert.equal(table.find(host), want, host);
  const few = new HostTable<string>();
  few.add('*.example.com', 'w');
  assert.equal(few.find('example.com'), undefined, 'a wildcard stands for at least one label');
  assert.equal(few.find('.example.com'), undefined);
  assert.equal(few.find('notexample.com'), undefined);
});

const part = (kind: Part['kind']): Part => create(PartSchema, { kind });
const listener = (kind: object): Part => part({ case: 'gateway', value: kind } as Part['kind']);
const direct = (ref: string, status: number) => ({ ref, directResponse: { status, body: ref } });

test('a server by its name, a virtual host by the authority, a route by the request', () => {
  const parts = [
    listener({
      port: 8443,
      servers: [
        { ref: 'shop', hosts: ['shop.example.com', '*.shop.example.com'], tls: { secret: 's' }, virtualHosts: [] },
        { ref: 'other', hosts: ['other.example.com'], tls: { secret: 'o' }, virtualHosts: [] },
      ],
    }),
    listener({
      port: 8080,
      servers: [
        {
          ref: 'plain',
          virtualHosts: [
            {
              host: 'shop.example.com',
              http: [
                { ...direct('api', 201), match: [{ uri: { kind: { case: 'prefix', value: '/api' } } }] },
                direct('all', 202),
              ],
            },
            { host: '*', http: [direct('rest', 203)] },
          ],
        },
      ],
    }),
    part({ case: 'secret', value: { name: 's', certificatePem: 'c', keyPem: 'k' } } as Part['kind']),
  ];
  const snapshot = buildSnapshot(parts, []);
  assert.equal(snapshot.secrets.get('s')?.keyPem, 'k');
  const secure = snapshot.gateways.get(8443)!;
  const nameOf = (sni: string) => findGatewayServer(secure, sni)?.server.ref;
  assert.equal(nameOf('shop.example.com'), 'shop');
  assert.equal(nameOf('SHOP.example.com.'), 'shop');
  assert.equal(nameOf('a.shop.example.com'), 'shop');
  assert.equal(nameOf('other.example.com'), 'other');
  assert.equal(nameOf('example.com'), undefined);
  assert.equal(nameOf(''), undefined, 'no name, and nobody serves that');

  const plain = snapshot.gateways.get(8080)!.servers.get('plain')!;
  const answer = (authority: string, path: string) => {
    const view = findVirtualHost(plain, authority);
    if (!view) return undefined;
    const head = [':method', 'GET', ':scheme', 'http', ':authority', authority, ':path', path];
    const decision = routeHttp(view, head, seededRandom(1));
    return decision.kind === 'direct' ? decision.body : decision.kind;
  };
  assert.equal(answer('shop.example.com', '/api/x'), 'api');
  assert.equal(answer('Shop.Example.Com.:8080', '/'), 'all');
  assert.equal(answer('elsewhere', '/'), 'rest');
  assert.equal(answer('', '/'), 'rest');

  // The compiled form of a listener that did not change is kept; its clusters are the new snapshot's.
  const next = buildSnapshot(parts, [], snapshot);
  const compiled = (s: typeof snapshot) => s.gateways.get(8080)!.servers.get('plain')!.hosts.find('x')!.http;
  assert.equal(compiled(next), compiled(snapshot));
});
