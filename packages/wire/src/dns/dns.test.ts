import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import dns from 'node:dns/promises';
import net from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type DnsAnswer,
  type DnsQuery,
  DnsTcpFramer,
  DnsType,
  encodeName,
  encodeResponse,
  parseQuery,
} from './index.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

function ask(name: string, type: number, edns = 0, version = 0): DnsQuery {
  const header = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns > 0 ? 1 : 0]);
  const opt = Buffer.from([0, 0, 41, edns >> 8, edns & 255, 0, version, 0x80, 0, 0, 0]);
  const query = parseQuery(
    Buffer.concat([header, encodeName(name), Buffer.from([0, type, 0, 1]), edns > 0 ? opt : Buffer.alloc(0)]),
  );
  assert.ok(query !== 'invalid');
  return query;
}

const many: DnsAnswer[] = Array.from({ length: 100 }, (_, i) => ({
  name: 'web.a',
  type: 1,
  ttl: 30,
  data: `10.0.0.${i}`,
}));

test('a query keeps the letter case of its question and gives a lower-case name', () => {
  const query = ask('WeB.Example', DnsType.A);
  assert.equal(query.name, 'web.example');
  const out = encodeResponse(query, {
    rcode: 0,
    answers: [{ name: 'web.example', type: 1, ttl: 5, data: '10.1.2.3' }],
  });
  assert.equal(out.toString('latin1', 13, 16), 'WeB');
  assert.deepEqual([...out.subarray(-16)], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 1, 2, 3]);
});

test('truncation at 512 bytes, at the EDNS size, and not over TCP', () => {
  for (const [edns, transport, max, cut] of [
    [0, 'udp', 512, true],
    [1232, 'udp', 1232, true],
    [4096, 'udp', 4096, false],
    [65_535, 'udp', 4096, false],
    [0, 'tcp', 65_535, false],
  ] as const) {
    const out = encodeResponse(ask('web.a', 1, edns), { rcode: 0, answers: many }, transport);
    assert.ok(out.length <= max);
    assert.equal((out[2] & 2) !== 0, cut, `${edns} ${transport}`);
    assert.equal(out.readUInt16BE(10), edns > 0 ? 1 : 0);
    if (!cut) assert.equal(out.readUInt16BE(6), 100);
  }
});

test('rcodes, EDNS version 1, and what is no query', () => {
  assert.equal(encodeResponse(ask('x', 1), { rcode: 3, answers: [] })[3] & 15, 3);
  const bad = encodeResponse(ask('x', 1, 1232, 1), { rcode: 0, answers: many });
  assert.equal(bad.readUInt16BE(6), 0);
  assert.equal(bad[bad.length - 6], 1, 'the upper bits of BADVERS stand in the OPT record');
  const query = Buffer.concat([
    Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    encodeName('a.b'),
    Buffer.from([0, 1, 0, 1]),
  ]);
  for (let n = 0; n < query.length; n++) assert.equal(parseQuery(query.subarray(0, n)), 'invalid');
  for (const [at, value] of [
    [2, 0x80],
    [5, 2],
    [12, 0xc0],
    [12, 64],
  ]) {
    const copy = Buffer.from(query);
    copy[at] = value;
    assert.equal(parseQuery(copy), 'invalid');
  }
});

test('bad answers of the caller are named', () => {
  for (const answer of [
    { name: 'a', type: 1, ttl: 1, data: '1.2.3' },
    { name: 'a', type: 28, ttl: 1, data: '::1::' },
    { name: 'a', type: 1, ttl: 1, data: '1.2.3.256' },
    { name: 'a..b', type: 1, ttl: 1, data: '1.2.3.4' },
    { name: 'x'.repeat(64), type: 1, ttl: 1, data: '1.2.3.4' },
  ] as DnsAnswer[]) {
    assert.throws(() => encodeResponse(ask('q', 1), { rcode: 0, answers: [answer] }), { code: 'dns_record' });
  }
});

test("Node's own resolver understands the answers, over UDP and, truncated, over TCP", async () => {
  const answers = (query: DnsQuery): DnsAnswer[] => {
    if (query.name === 'many.a') return many.map((a) => ({ ...a, name: 'many.a' }) as DnsAnswer);
    if (query.type === 28) return [{ name: query.name, type: 28, ttl: 1, data: 'fd00::1:10.0.0.1' }];
    if (query.type === 33)
      return [{ name: query.name, type: 33, ttl: 1, data: { priority: 1, weight: 2, port: 80, target: 'web-0.a' } }];
    return [
      { name: query.name, type: 5, ttl: 1, data: 'real.a' },
      { name: 'real.a', type: 1, ttl: 1, data: '10.9.8.7' },
    ];
  };
  const reply = (bytes: Uint8Array, transport: 'udp' | 'tcp') => {
    const query = parseQuery(bytes);
    assert.ok(query !== 'invalid');
    return encodeResponse(
      query,
      { rcode: query.name === 'no.a' ? 3 : 0, answers: query.name === 'no.a' ? [] : answers(query) },
      transport,
    );
  };
  const tcp = net.createServer((socket) => {
    const framer = new DnsTcpFramer();
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (const message of framer.push(chunk)) socket.write(DnsTcpFramer.frame(reply(message, 'tcp')));
    });
  });
  await new Promise<void>((done) => tcp.listen(0, '127.0.0.1', done));
  const port = (tcp.address() as net.AddressInfo).port;
  const udp = dgram.createSocket('udp4');
  udp.on('message', (bytes, from) => udp.send(reply(bytes, 'udp'), from.port, from.address));
  await new Promise<void>((done) => udp.bind(port, '127.0.0.1', done));
  const resolver = new dns.Resolver();
  resolver.setServers([`127.0.0.1:${port}`]);
  try {
    assert.deepEqual(await resolver.resolve4('web.a'), ['10.9.8.7']);
    assert.deepEqual(await resolver.resolve6('web.a'), ['fd00::1:a00:1']);
    const [srv] = await resolver.resolveSrv('web.a');
    assert.deepEqual([srv.name, srv.port, srv.priority, srv.weight], ['web-0.a', 80, 1, 2]);
    assert.equal((await resolver.resolve4('many.a')).length, 100);
    await assert.rejects(resolver.resolve4('no.a'), { code: 'ENOTFOUND' });
  } finally {
    resolver.cancel();
    udp.close();
    tcp.close();
  }
});

test('TCP framing over any splits; random bytes never throw', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 20 }),
      (messages, step) => {
        const framer = new DnsTcpFramer();
        const bytes = Buffer.concat(messages.map((m) => DnsTcpFramer.frame(m)));
        const got: Uint8Array[] = [];
        for (let at = 0; at < bytes.length; at += step) got.push(...framer.push(bytes.subarray(at, at + step)));
        assert.deepEqual(
          got.map((m) => [...m]),
          messages.map((m) => [...m]),
        );
        for (const message of messages) parseQuery(message);
      },
    ),
  );
});
