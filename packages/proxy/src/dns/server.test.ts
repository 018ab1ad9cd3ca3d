import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { type DnsQuery, encodeResponse, parseQuery } from '@weft/wire';
import { answers, questionEnd } from './codec.ts';
import { upstreamsOf } from './forward.ts';
import { type DnsServerOptions, startDnsServer } from './server.ts';

const codec = { parseQuery, encodeResponse };

function query(name: string, type = 1, id = 0x1234): Buffer {
  const labels = name.split('.').map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)]));
  return Buffer.concat([
    Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ...labels,
    Buffer.from([0, 0, type, 0, 1]),
  ]);
}

function askUdp(port: number, message: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.on('error', reject);
    socket.on('message', (m) => {
      socket.close();
      resolve(m);
    });
    socket.send(message, port, '127.0.0.1');
  });
}

function askTcp(port: number, messages: Uint8Array[]): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    let all = Buffer.alloc(0);
    socket.on('error', reject);
    socket.on('data', (c) => (all = Buffer.concat([all, c])));
    socket.on('end', () => {
      const out: Buffer[] = [];
      for (let at = 0; at < all.length; at += 2 + all.readUInt16BE(at))
        out.push(all.subarray(at + 2, at + 2 + all.readUInt16BE(at)));
      resolve(out);
    });
    // Split in the middle of a length: the server must put it together.
    const bytes = Buffer.concat(messages.map((m) => Buffer.concat([Buffer.from([m.length >> 8, m.length & 255]), m])));
    socket.write(bytes.subarray(0, 1));
    setImmediate(() => socket.end(bytes.subarray(1)));
  });
}

const code = (m: Uint8Array): number => m[3] & 15;
const answerCount = (m: Uint8Array): number => m[6] * 256 + m[7];

async function withServer(
  options: Partial<DnsServerOptions<DnsQuery>>,
  run: (port: number, counted: string[]) => Promise<void>,
): Promise<void> {
  const counted: string[] = [];
  const server = await startDnsServer<DnsQuery>({
    bind: { hosts: ['127.0.0.1', '::1'], port: 0 },
    codec,
    resolve: (name) => {
      if (['payment', 'payment.shop', 'payment.shop.svc', 'payment.shop.svc.cluster.local'].includes(name))
        return { addresses: ['240.240.0.1'] };
      if (name === 'many') return { addresses: Array.from({ length: 100 }, (_, i) => `10.0.0.${i}`) };
      if (name === 'boom') throw new Error('boom');
      return undefined;
    },
    upstreams: [],
    count: (name) => counted.push(name),
    logger: silentLogger,
    ...options,
  });
  try {
    await run(server.port, counted);
  } finally {
    await server.close();
  }
}

/** A resolver of the outside world that does what `behave` says. */
async function withUpstream(
  behave: (m: Buffer, reply: (m: Buffer) => void) => void,
  run: (port: number) => Promise<void>,
): Promise<void> {
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (m) =>
      behave(Buffer.from(m.subarray(2)), (a) => socket.write(Buffer.concat([Buffer.from([0, a.length]), a]))),
    );
  });
  await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
  const { port } = tcp.address() as AddressInfo;
  const udp = createSocket('udp4');
  udp.on('message', (m: Buffer, from: RemoteInfo) => behave(m, (a) => udp.send(a, from.port, from.address)));
  await new Promise<void>((resolve) => udp.bind(port, '127.0.0.1', resolve));
  try {
    await run(port);
  } finally {
    udp.close();
    tcp.close();
  }
}

const reply = (m: Buffer): Buffer => {
  const a = Buffer.from(m);
  a[2] |= 0x80;
  return a;
};

test('names of the mesh, by UDP and TCP; what the domain does not have is NXDOMAIN', () =>
  withServer({}, async (port, counted) => {
    for (const name of ['payment', 'PayMent.shop', 'payment.shop.svc', 'payment.shop.svc.cluster.local']) {
      const answer = await askUdp(port, query(name));
      assert.equal(code(answer), 0);
      assert.deepEqual([...answer.subarray(-4)], [240, 240, 0, 1], name);
    }
    const aaaa = await askUdp(port, query('payment', 28));
    assert.deepEqual([code(aaaa), answerCount(aaaa)], [0, 0]);
    for (const name of ['nobody.shop.svc.cluster.local', 'nobody.shop.svc'])
      assert.equal(code(await askUdp(port, query(name))), 3);
    const both = await askTcp(port, [query('payment', 1, 1), query('nobody.shop.svc.cluster.local', 1, 2)]);
    assert.deepEqual(both.map((m) => [m[1], code(m)]).sort(), [
      [1, 0],
      [2, 3],
    ]);
    assert.deepEqual(counted, []);
  }));

test('without an upstream SERVFAIL comes at once; long answers are cut; nonsense does no harm', () =>
  withServer({}, async (port, counted) => {
    assert.equal(code(await askUdp(port, query('example.com'))), 2);
    const cut = await askUdp(port, query('many'));
    assert.ok(cut.length <= 512 && (cut[2] & 2) === 2 && answerCount(cut) > 10);
    const [whole] = await askTcp(port, [query('many')]);
    assert.equal(answerCount(whole), 100);
    assert.equal(code(await askUdp(port, Buffer.alloc(20))), 1);
    const socket = createSocket('udp4');
    for (const bad of [Buffer.alloc(3), reply(query('payment')), Buffer.alloc(5000), query('boom')]) {
      await new Promise((resolve) => socket.send(bad, port, '127.0.0.1', resolve));
    }
    socket.close();
    assert.equal(code(await askUdp(port, query('payment'))), 0);
    assert.deepEqual([...new Set(counted)].sort(), ['dns_malformed', 'dns_no_upstream', 'dns_query_too_long']);
  }));

test('the rest is forwarded with another id; answers to other questions are not believed', async () => {
  const ids: number[] = [];
  const behave = (m: Buffer, send: (m: Buffer) => void): void => {
    ids.push(m.readUInt16BE(0));
    const spoofed = reply(m);
    spoofed.writeUInt16BE(m.readUInt16BE(0) ^ 1, 0);
    if (ids.length === 1) send(spoofed);
    send(reply(m));
  };
  await withUpstream(behave, (upstream) =>
    withServer({ upstreams: [{ host: '127.0.0.1', port: upstream }] }, async (port, counted) => {
      const answer = await askUdp(port, query('example.com', 1, 77));
      assert.deepEqual([answer.readUInt16BE(0), code(answer)], [77, 0]);
      assert.deepEqual(counted, ['dns_forward_mismatch']);
      const [overTcp] = await askTcp(port, [query('example.com', 1, 78)]);
      assert.deepEqual([overTcp.readUInt16BE(0), code(overTcp)], [78, 0]);
      for (let i = 0; i < 5; i++) await askUdp(port, query('example.com', 1, 77));
      assert.ok(new Set(ids).size >= 5);
    }),
  );
});

test('a silent upstream is asked twice for 2 s, then SERVFAIL; what is under way is bounded', async () => {
  const clock = new VirtualClock();
  let asked = 0;
  let heard = (): void => {};
  const behave = (): void => {
    asked++;
    heard();
  };
  const untilAsked = (n: number): Promise<void> =>
    new Promise((resolve) => {
      heard = () => asked >= n && resolve();
      heard();
    });
  await withUpstream(behave, (upstream) =>
    withServer(
      { upstreams: [{ host: '127.0.0.1', port: upstream }], clock, limits: { forwardInFlight: 1 } },
      async (port, counted) => {
        const answer = askUdp(port, query('example.com'));
        await untilAsked(1);
        assert.equal(code(await askUdp(port, query('example.org'))), 2);
        assert.deepEqual(counted, ['dns_forward_overflow']);
        clock.advance(1999);
        assert.equal(asked, 1);
        clock.advance(1);
        await untilAsked(2);
        clock.advance(2000);
        assert.equal(code(await answer), 2);
        assert.deepEqual(counted, ['dns_forward_overflow', 'dns_forward_failed']);
        assert.equal(clock.pending, 0);
      },
    ),
  );
});

test('helpers: questions, resolv.conf', () => {
  assert.equal(questionEnd(Buffer.from(query('a').subarray(0, 15))), -1);
  assert.ok(answers(query('ExAmple.com'), reply(query('example.com'))));
  assert.ok(!answers(query('example.com'), reply(query('example.org'))));
  assert.deepEqual(upstreamsOf('# x\nnameserver 127.0.0.1\nsearch a\n nameserver  9.9.9.9 \n', ['127.0.0.1']), [
    { host: '9.9.9.9', port: 53 },
  ]);
});
