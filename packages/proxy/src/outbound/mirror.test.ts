/** Mirroring through a real proxy: what the copy gets, and that it never holds the original up. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { EndpointsSchema, LbPolicy, outboundClusterName, type Part, PartSchema, Protocol } from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { copyOf, type Observer, type RequestRecord, type Running } from '../observe/types.ts';
import { testIdentities } from '../test-identity.ts';

const FRONT = '127.7.20.1';
const MAIN = '127.7.20.2';
const COPY = '127.7.20.3';
const DEAF = '127.7.20.4';
const NOBODY = '127.7.20.5';
const PORT = 8080;
const dir = mkdtempSync(join(tmpdir(), 'weft-mirror-'));
const records: RequestRecord[] = [];
const counts = new Map<string, number>();
const running: string[] = [];
/** By workload; each tells of its changes. */
const gauges = new Map(['main', 'two'].map((name) => [name, gaugeOf(name)]));
const observer: Observer = {
  request: (r) => void records.push(copyOf(r)),
  tcpOpen: () => {},
  tcpClose: () => {},
  plaintext: () => {},
  running: (key) => gauges.get(key.destination?.workload ?? ''),
  count: (n) => void counts.set(n, (counts.get(n) ?? 0) + 1),
};
const counted = (name: string): number => counts.get(name) ?? 0;

function gaugeOf(name: string): Running {
  let value = 0;
  return {
    get inFlight() {
      return value;
    },
    set inFlight(to) {
      running.push(`${name} ${to > value ? '+' : ''}${to - value}`);
      value = to;
    },
  };
}

interface Got {
  method: string;
  url: string;
  host: string;
  headers: http.IncomingHttpHeaders;
  bytes: number;
  whole: boolean;
}
const copies: Got[] = [];
const closing: { close(): void }[] = [];
let proxy: DataPlane;

function part(kind: Part['kind'] | { case: string; value: object }): Part {
  return create(PartSchema, { kind: kind as Part['kind'] });
}

const clusterOf = (name: string): string => outboundClusterName(PORT, '', `${name}.shop.svc.cluster.local`);

before(async () => {
  const main = http.createServer((req, res) => {
    let bytes = 0;
    req.on('data', (d: Buffer) => (bytes += d.length));
    req.on('end', () => res.end(`${req.method} ${req.url} ${bytes}`));
  });
  const copy = http.createServer((req, res) => {
    const got: Got = {
      method: req.method!,
      url: req.url!,
      host: req.headers.host!,
      headers: req.headers,
      bytes: 0,
      whole: false,
    };
    copies.push(got);
    req.on('data', (d: Buffer) => (got.bytes += d.length));
    req.on('error', () => {});
    req.on('end', () => {
      got.whole = true;
      res.statusCode = 500;
      res.end('nobody reads this');
    });
  });
  const deaf = net.createServer((s) => {
    s.on('error', () => {});
    s.pause();
    closing.push({ close: () => s.destroy() });
  });
  const listening = (s: net.Server, host: string) => new Promise<void>((ok) => s.listen(PORT, host, ok));
  await listening(main as unknown as net.Server, MAIN);
  await listening(copy as unknown as net.Server, COPY);
  await listening(deaf, DEAF);
  closing.push(main, copy, deaf);

  const names = { main: MAIN, copy: COPY, deaf: DEAF, nobody: NOBODY, two: NOBODY };
  const route = (prefix: string, mirrors: object[]) => ({
    ref: prefix,
    match: [{ uri: { kind: { case: 'prefix', value: prefix } } }],
    clusters: [{ ref: prefix, cluster: clusterOf('main'), weight: 1 }],
    rewrite: prefix === '/rewritten' ? { uri: '/new' } : undefined,
    mirrors,
  });
  const parts = [
    part({
      case: 'self',
      value: {
        mesh: 'test',
        instance: 'front-0',
        workload: 'front',
        namespace: 'shop',
        trustDomain: 'cluster.local',
        address: FRONT,
      },
    }),
    ...Object.keys(names).map((name) =>
      part({
        case: 'cluster',
        value: {
          name: clusterOf(name),
          host: `${name}.shop.svc.cluster.local`,
          port: PORT,
          lb: name === 'two' ? LbPolicy.ROUND_ROBIN : 0,
        },
      }),
    ),
    part({
      case: 'service',
      value: {
        host: 'main.shop.svc.cluster.local',
        name: 'main',
        namespace: 'shop',
        aliases: ['main'],
        addresses: ['10.99.20.1'],
        ports: [
          {
            port: PORT,
            protocol: Protocol.HTTP,
            http: [
              route('/copied', [{ ref: 'm', cluster: clusterOf('copy'), percent: 100 }]),
              route('/rewritten', [{ ref: 'm', cluster: clusterOf('copy'), percent: 100 }]),
              route('/twice', [
                { ref: 'm', cluster: clusterOf('copy'), percent: 100 },
                { ref: 'm', cluster: clusterOf('copy'), percent: 100 },
              ]),
              route('/half', [{ ref: 'm', cluster: clusterOf('copy'), percent: 50 }]),
              route('/never', [{ ref: 'm', cluster: clusterOf('copy'), percent: 0 }]),
              route('/deaf', [{ ref: 'm', cluster: clusterOf('deaf'), percent: 100 }]),
              { ...route('/two', []), clusters: [{ ref: 'two', cluster: clusterOf('two'), weight: 1 }] },
              route('/nobody', [{ ref: 'm', cluster: clusterOf('nobody'), percent: 100 }]),
            ],
          },
        ],
      },
    }),
  ];
  const endpoints = Object.entries(names).map(([name, address]) =>
    create(EndpointsSchema, {
      host: `${name}.shop.svc.cluster.local`,
      port: PORT,
      endpoints: [
        { instance: `${name}-0`, address, port: PORT, workload: name, namespace: 'shop' },
        ...(name === 'two'
          ? [{ instance: 'main-0', address: MAIN, port: PORT, workload: 'main', namespace: 'shop' }]
          : []),
      ],
    }),
  );
  const identity = await testIdentities(join(dir, 'ca'), 'shop');
  proxy = new DataPlane({
    address: FRONT,
    capture: 'explicit',
    bind: { outbound: { host: FRONT, port: 15001 }, mesh: { host: FRONT, port: 15008 } },
    observer,
    logger: silentLogger,
  });
  proxy.setIdentity(await identity('front'));
  proxy.apply(buildSnapshot(parts, endpoints), 1n);
  await proxy.listen();
});

after(() => {
  proxy?.close();
  for (const c of closing) c.close();
  rmSync(dir, { recursive: true, force: true });
});

function ask(path: string, body?: Buffer | string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const req = http.request(
      {
        host: FRONT,
        port: 15001,
        method: body === undefined ? 'GET' : 'POST',
        path: `http://main:${PORT}${path}`,
        headers: { host: `main:${PORT}` },
        agent: false,
      },
      (res) => {
        let text = '';
        res.on('data', (d) => (text += d));
        res.on('end', () => resolve({ status: res.statusCode!, text }));
        res.on('error', reject);
      },
    );
    req.on('error', reject);
    if (body !== undefined) for (let i = 0; i < body.length; i += 100_000) req.write(body.slice(i, i + 100_000));
    req.end();
  });
}

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!done()) {
    assert.ok(performance.now() < deadline, `${what}: not within 20 s; ${JSON.stringify([...counts])}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('the copy has the method, path, headers and body of the original, and its own host', async () => {
  copies.length = 0;
  assert.deepEqual(await ask('/copied?a=1'), { status: 200, text: 'GET /copied?a=1 0' });
  await until('the copy', () => copies.length === 1 && copies[0].whole);
  assert.deepEqual(
    [copies[0].method, copies[0].url, copies[0].host, copies[0].bytes],
    ['GET', '/copied?a=1', 'main-shadow:8080', 0],
  );
  assert.equal(copies[0].headers['x-request-id'], records.at(-1)?.requestId);

  const body = Buffer.alloc(3_000_000, 'x');
  assert.equal((await ask('/copied', body)).text, 'POST /copied 3000000');
  await until('the second copy', () => copies.length === 2 && copies[1].whole);
  assert.equal(copies[1].bytes, 3_000_000);

  await ask('/rewritten/x');
  await until('the third copy', () => copies.length === 3);
  assert.equal(copies[2].url, '/new/x');
});

test('its answer is nobody’s: neither the client nor the record of the request sees its 500', async () => {
  records.length = 0;
  copies.length = 0;
  assert.equal((await ask('/copied')).status, 200);
  await until('the copy', () => copies.length === 1);
  assert.deepEqual(
    records.map((r) => [r.status, r.attempts, r.cluster]),
    [[200, 1, clusterOf('main')]],
  );
});

test('several mirrors, part of the requests, none of them', async () => {
  copies.length = 0;
  await ask('/twice', 'body');
  await until('both', () => copies.length === 2 && copies.every((c) => c.whole && c.bytes === 4));
  copies.length = 0;
  const before = counted('mirror_requests');
  for (let i = 0; i < 40; i++) await ask('/half');
  const drawn = counted('mirror_requests') - before;
  // 4.5 sigma of 40 draws at one half, and neither all nor none
  assert.ok(Math.abs(drawn - 20) < 15 && drawn > 0, `${drawn} of 40`);
  await until('as many', () => copies.length === drawn);
  await ask('/never');
  assert.equal(counted('mirror_requests') - before, drawn);
});

test('a mirror that does not read is dropped while the original goes on; one that is down is counted', async () => {
  const dropped = counted('mirror_dropped');
  const size = 16_000_000;
  assert.equal((await ask('/deaf', Buffer.alloc(size, 'y'))).text, `POST /deaf ${size}`);
  assert.equal(counted('mirror_dropped'), dropped + 1);
  const failed = counted('mirror_failed');
  assert.equal((await ask('/nobody', 'x')).status, 200);
  await until('the failure', () => counted('mirror_failed') === failed + 1);
  assert.equal(proxy.core.exchanges.size, 0);
});

test('a client that leaves in the middle of its body ends the copy too', async () => {
  copies.length = 0;
  const s = net.connect(15001, FRONT);
  s.on('error', () => {});
  s.write(`POST http://main:${PORT}/copied HTTP/1.1\r\nhost: main\r\ncontent-length: 1000\r\n\r\nhalf`);
  await until('the beginning of it', () => copies.length === 1 && copies[0].bytes === 4);
  s.destroy();
  await until('nothing in flight', () => proxy.core.exchanges.size === 0);
  assert.equal(copies[0].whole, false);
});

test('a retry at another workload takes its place in flight along', async () => {
  running.length = 0;
  for (let i = 0; i < 2; i++) assert.equal((await ask('/two')).status, 200);
  const first = running.indexOf('two +1');
  assert.ok(first >= 0, running.join());
  assert.deepEqual(running.slice(first, first + 4), ['two +1', 'two -1', 'main +1', 'main -1']);
});
