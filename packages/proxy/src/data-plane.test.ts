import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import type { Identity } from '@weft/identity';
import {
  AuthorizationAction,
  EndpointSchema,
  EndpointsSchema,
  MtlsMode,
  outboundClusterName,
  type Part,
  PartSchema,
  Protocol,
} from '@weft/plan';
import type { Stream } from '@weft/wire';
import { DataPlane } from './data-plane.ts';
import { copyOf, type Observer, type RequestRecord } from './observe/types.ts';
import { testIdentities } from './test-identity.ts';
import type { Lane } from './upstream/lane.ts';

// Two proxies in explicit mode, "front" and "pay", whose application listens on other ports. Addresses of this process
// alone, so that the file may run twice at once.
const NET = `127.${180 + ((process.pid >> 8) & 63)}.${process.pid & 255}`;
const FRONT = `${NET}.1`;
const PAY = `${NET}.2`;
const APP = `${NET}.3`;
const HOST = 'pay.shop.svc.cluster.local';
const BIG = Buffer.alloc(8_000_000, 'weft');
const dir = mkdtempSync(join(tmpdir(), 'weft-proxy-'));

interface Seen {
  records: RequestRecord[];
  counts: Map<string, number>;
  tcp: number;
  observer: Observer;
}
function observe(): Seen {
  const seen: Seen = {
    records: [],
    counts: new Map(),
    tcp: 0,
    observer: {
      request: (r) => void seen.records.push(copyOf(r)),
      tcpOpen: () => {},
      tcpClose: () => void seen.tcp++,
      plaintext: () => {},
      running: () => undefined,
      count: (n) => void seen.counts.set(n, (seen.counts.get(n) ?? 0) + 1),
    },
  };
  return seen;
}

let identity: (account: string) => Promise<Identity>;

const ports = { http: 8080, tcp: 9000, grpc: 9090, reset: 8081 };
let apps: { close(): void }[] = [];
let front: DataPlane;
let pay: DataPlane;
const frontSeen = observe();
const paySeen = observe();
let resets = 0;

const self = (name: string, address: string): Part =>
  create(PartSchema, {
    kind: {
      case: 'self',
      value: {
        mesh: 'test',
        instance: `${name}-0`,
        workload: name,
        namespace: 'shop',
        serviceAccount: name,
        trustDomain: 'cluster.local',
        address,
        version: 'v1',
        app: name,
        services: name === 'pay' ? [HOST] : [],
      },
    },
  });

function inbound(port: number, protocol: Protocol): Part {
  return create(PartSchema, {
    kind: {
      case: 'inbound',
      value: {
        port,
        protocol,
        mtls: port === ports.tcp ? MtlsMode.STRICT : MtlsMode.PERMISSIVE,
        serviceHost: HOST,
        serviceName: 'pay',
        serviceNamespace: 'shop',
        servicePort: port,
        dialAddress: APP,
        dialPort: port,
      },
    },
  });
}

before(async () => {
  identity = await testIdentities(join(dir, 'ca'), 'shop');
  const app = http.createServer((req, res) => {
    if (req.url === '/slow') return; // never answers
    if (req.url === '/teapot') res.statusCode = 418;
    if (req.url === '/big') {
      res.end(BIG);
      return;
    }
    if (req.url === '/echo') {
      res.writeHead(200, { 'content-type': 'application/octet-stream' });
      req.pipe(res);
      return;
    }
    res.setHeader('x-app', 'pay');
    res.end(JSON.stringify(req.headers));
  });
  const reset = http.createServer((req) => {
    resets++;
    req.socket.resetAndDestroy();
  });
  const tcp = net.createServer({ allowHalfOpen: true }, (s) => {
    s.on('error', () => {});
    s.write('hello\n'); // speaks first
    s.on('data', (d) => s.write(d));
    s.on('end', () => s.end('bye\n'));
  });
  const grpc = http2.createServer();
  grpc.on('stream', (s) => {
    s.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    s.on('wantTrailers', () => s.sendTrailers({ 'grpc-status': '5', 'grpc-message': 'no such' }));
    s.on('data', (d) => s.write(d));
    s.on('end', () => s.end());
  });
  const listening = (s: net.Server, port: number) => new Promise<void>((ok) => s.listen(port, APP, ok));
  await listening(app, ports.http);
  await listening(reset as unknown as net.Server, ports.reset);
  await listening(tcp, ports.tcp);
  await listening(grpc as unknown as net.Server, ports.grpc);
  apps = [app, reset, tcp, grpc];
  app.unref();

  const base = { capture: 'explicit' as const, logger: silentLogger };
  front = new DataPlane({
    ...base,
    address: FRONT,
    bind: { outbound: { host: FRONT, port: 15001 }, mesh: { host: FRONT, port: 15008 } },
    proxySecret: 's3cret',
    observer: frontSeen.observer,
  });
  pay = new DataPlane({
    ...base,
    address: PAY,
    bind: { outbound: { host: PAY, port: 15001 }, mesh: { host: PAY, port: 15008 } },
    observer: paySeen.observer,
    limits: { tlsHandshakeTimeoutMs: 2000 },
  });
  front.setIdentity(await identity('front'));
  pay.setIdentity(await identity('pay'));

  const clusters = Object.values(ports).map((port) =>
    create(PartSchema, {
      kind: { case: 'cluster', value: { name: outboundClusterName(port, '', HOST), host: HOST, port } },
    }),
  );
  const to = (port: number) => [{ ref: `route${port}`, cluster: outboundClusterName(port, '', HOST), weight: 1 }];
  const service = create(PartSchema, {
    kind: {
      case: 'service',
      value: {
        host: HOST,
        name: 'pay',
        namespace: 'shop',
        aliases: ['pay'],
        addresses: ['10.99.0.1'],
        ports: [
          {
            port: ports.http,
            protocol: Protocol.HTTP,
            http: [
              {
                ref: 'abort',
                match: [{ headers: [{ name: 'x-chaos-test', value: { kind: { case: 'exact', value: 'enabled' } } }] }],
                clusters: to(ports.http),
                fault: { ref: 'fault', abortPercent: 100, abortStatus: 503 },
              },
              { ref: 'main', clusters: to(ports.http), timeoutMs: 2500 },
            ],
          },
          { port: ports.tcp, protocol: Protocol.TCP, tcp: [{ ref: 'tcp', clusters: to(ports.tcp) }] },
          { port: ports.grpc, protocol: Protocol.GRPC, http: [{ ref: 'grpc', clusters: to(ports.grpc) }] },
          { port: ports.reset, protocol: Protocol.HTTP, http: [{ ref: 'reset', clusters: to(ports.reset) }] },
        ],
      },
    },
  });
  const endpoints = Object.values(ports).map((port) =>
    create(EndpointsSchema, {
      host: HOST,
      port,
      endpoints: [
        {
          instance: 'pay-0',
          address: PAY,
          port,
          meshPort: 15008,
          identity: 'spiffe://cluster.local/ns/shop/sa/pay',
          workload: 'pay',
          namespace: 'shop',
          version: 'v1',
        },
      ],
    }),
  );
  front.apply(buildSnapshot([self('front', FRONT), service, ...clusters], endpoints), 7n);
  const authz = create(PartSchema, {
    kind: {
      case: 'authorization',
      value: {
        policies: [
          {
            ref: 'deny-admin',
            name: 'no-admin',
            namespace: 'shop',
            action: AuthorizationAction.DENY,
            rules: [{ ref: 'deny-admin#0', to: [{ paths: ['/admin*'], ports: ['8080', '9090'] }] }],
          },
        ],
      },
    },
  });
  const ins = [
    inbound(ports.http, Protocol.HTTP),
    inbound(ports.tcp, Protocol.TCP),
    inbound(ports.grpc, Protocol.GRPC),
    inbound(ports.reset, Protocol.HTTP),
  ];
  pay.apply(buildSnapshot([self('pay', PAY), authz, ...ins], []), 7n);
  await front.listen();
  await pay.listen();
});

after(() => {
  front?.close();
  pay?.close();
  for (const app of apps) app.close();
  (apps[0] as http.Server | undefined)?.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

const auth = `Basic ${Buffer.from('front:s3cret').toString('base64')}`;

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}
function request(
  path: string,
  options: {
    method?: string;
    headers?: Record<string, string>;
    body?: string | Buffer;
    port?: number;
    agent?: http.Agent;
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = http.request(
      {
        host: FRONT,
        port: 15001,
        method: options.method ?? 'GET',
        path: `http://pay:${options.port ?? ports.http}${path}`,
        headers: { host: `pay:${options.port ?? ports.http}`, 'proxy-authorization': auth, ...options.headers },
        agent: options.agent,
      },
      (res) => {
        let body = '';
        res.setEncoding('latin1');
        res.on('data', (d) => (body += d));
        res.on('end', () => resolve({ status: res.statusCode!, headers: res.headers, body }));
        res.on('error', reject);
      },
    );
    req.on('error', reject);
    req.end(options.body);
  });
}

/** A raw tunnel through the explicit proxy. */
function tunnel(port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const s = net.connect({ host: FRONT, port: 15001, allowHalfOpen: true });
    s.on('error', reject);
    s.write(`CONNECT pay:${port} HTTP/1.1\r\nHost: pay:${port}\r\nProxy-Authorization: ${auth}\r\n\r\n`);
    let head = '';
    const onData = (d: Buffer): void => {
      head += d.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      s.off('data', onData);
      assert.match(head, /^HTTP\/1.1 200/);
      s.pause();
      if (head.length > end + 4) s.unshift(Buffer.from(head.slice(end + 4), 'latin1'));
      resolve(s);
    };
    s.on('data', onData);
  });
}

test('a request crosses the mesh: identity, ids, stripped mesh headers, records on both sides', async () => {
  const a = await request('/hello', {
    headers: { 'x-weft-source': 'w=forged', 'x-forwarded-client-cert': 'URI=forged' },
  });
  assert.equal(a.status, 200);
  assert.equal(a.headers['x-app'], 'pay');
  const seen = JSON.parse(a.body) as Record<string, string>;
  assert.match(
    seen['x-forwarded-client-cert'],
    /^By=spiffe:\/\/cluster.local\/ns\/shop\/sa\/pay;Hash=[0-9a-f]{64};Subject="";URI=spiffe:\/\/cluster.local\/ns\/shop\/sa\/front$/,
  );
  assert.equal(seen['x-weft-source'], undefined);
  assert.equal(seen['x-weft-port'], undefined);
  assert.equal(seen['proxy-authorization'], undefined);
  assert.match(seen.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
  const f = frontSeen.records.at(-1)!;
  const p = paySeen.records.at(-1)!;
  assert.equal(f.status, 200);
  assert.equal(f.mtls, true);
  assert.equal(f.routeRef, 'route8080');
  assert.equal(f.destination?.workload, 'pay');
  assert.equal(f.epoch, 7n);
  assert.equal(p.source?.workload, 'front');
  assert.equal(p.source?.principal, 'spiffe://cluster.local/ns/shop/sa/front');
  assert.equal(p.requestId, f.requestId);
});

test('a body of 5 MB comes back whole, keep-alive serves many', async () => {
  const body = Buffer.alloc(5_000_000, 'abcdefghij');
  const a = await request('/echo', { method: 'POST', body });
  assert.equal(a.status, 200);
  assert.equal(a.body.length, body.length);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
  const all = await Promise.all(Array.from({ length: 300 }, () => request('/x', { agent })));
  assert.ok(all.every((r) => r.status === 200));
  agent.destroy();
  assert.ok(front.counts().links <= 4);
});

test('denied by policy: 403, and the record names it', async () => {
  const a = await request('/admin/x');
  assert.equal(a.status, 403);
  assert.equal(a.body, 'RBAC: access denied');
  assert.equal(paySeen.records.at(-1)!.authzPolicy, 'shop/no-admin');
});

test('CONNECT in plaintext is judged as opaque bytes: no way around rules for paths', async () => {
  const socket = net.connect(ports.http, PAY);
  const got = new Promise<string>((resolve) => {
    let text = '';
    socket.on('data', (d) => (text += d.toString('latin1')));
    socket.on('close', () => resolve(text));
  });
  socket.write('CONNECT pay:8080 HTTP/1.1\r\nHost: pay:8080\r\n\r\nGET /admin/x HTTP/1.1\r\nHost: pay\r\n\r\n');
  assert.match(await got, /^HTTP\/1\.1 403 .*RBAC: access denied$/s);
  assert.equal(paySeen.records.at(-1)!.attempts, 0);
});

test('an upgrade that the application does not take: its answer is passed, and nothing of the exchange stays', async () => {
  const answer = async (host: string, port: number, path: string): Promise<string> => {
    const socket = net.connect(port, host);
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: pay\r\nProxy-Authorization: ${auth}\r\n` +
        'Connection: upgrade\r\nUpgrade: chat\r\n\r\n',
    );
    let text = '';
    for await (const chunk of socket) text += chunk;
    return text;
  };
  const both = [await answer(PAY, ports.http, '/x'), await answer(FRONT, 15001, `http://pay:${ports.http}/x`)];
  for (const text of both) {
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(text, /\r\nconnection: close\r\n/);
    assert.doesNotMatch(text, /x-weft/);
  }
  assert.match(await answer(FRONT, 15001, `http://pay:${ports.http}/teapot`), /^HTTP\/1\.1 418 /);
  const gone = (): boolean => front.core.exchanges.size + pay.core.exchanges.size === 0;
  for (const end = Date.now() + 60_000; !gone() && Date.now() < end; ) await new Promise((r) => setTimeout(r, 10));
  assert.ok(gone(), 'exchanges that are over are kept');
});

test('timeout: 504 with UT after the route time, fault: FI without reaching the destination', async () => {
  const t0 = performance.now();
  const a = await request('/slow');
  const ms = performance.now() - t0;
  assert.equal(a.status, 504);
  assert.equal(a.body, 'upstream request timeout');
  assert.ok(ms >= 2490, `${ms}`);
  assert.equal(frontSeen.records.at(-1)!.flags, 'UT');
  const b = await request('/faulted', { headers: { 'x-chaos-test': 'enabled' } });
  assert.equal(b.status, 503);
  assert.equal(b.body, 'fault filter abort');
  assert.equal(frontSeen.records.at(-1)!.flags, 'FI');
  assert.equal(
    paySeen.records.some((r) => r.path === '/faulted'),
    false,
  );
});

test('an application that resets: GET is tried again, POST is not', async () => {
  resets = 0;
  const a = await request('/', { port: ports.reset });
  assert.equal(a.status, 503);
  assert.ok(resets >= 3, `${resets}`);
  assert.match(frontSeen.records.at(-1)!.flags, /URX/);
  resets = 0;
  const b = await request('/', { port: ports.reset, method: 'POST', body: 'x' });
  assert.equal(b.status, 503);
  assert.equal(resets, 1);
});

test('TCP: the server speaks first, bytes both ways, half-close', async () => {
  const s = await tunnel(ports.tcp);
  let got = '';
  s.on('data', (d) => (got += d));
  const ended = new Promise((ok) => s.on('end', ok));
  s.resume();
  s.end('ping\n');
  await ended;
  assert.equal(got, 'hello\nping\nbye\n');
});

test('gRPC by h2c prior knowledge: trailers pass, status is recorded; local errors are gRPC statuses', async () => {
  const socket = await tunnel(ports.grpc);
  const client = http2.connect('http://pay', { createConnection: () => socket });
  const call = (path: string) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const s = client.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      let body = '';
      let head: http2.IncomingHttpHeaders = {};
      let trailers: http2.IncomingHttpHeaders = {};
      s.on('response', (h) => (head = h));
      s.on('trailers', (t) => (trailers = t));
      s.on('data', (d) => (body += d));
      s.on('end', () => resolve({ head, trailers, body }));
      s.on('error', reject);
      s.end('message');
    });
  const a = (await call('/S/M')) as { trailers: Record<string, string>; body: string };
  assert.equal(a.body, 'message');
  assert.equal(a.trailers['grpc-status'], '5');
  assert.equal(frontSeen.records.at(-1)!.grpcStatus, 5);
  const b = (await call('/admin/M')) as { head: Record<string, string> };
  assert.equal(b.head['grpc-status'], '7');
  client.destroy();
  socket.destroy();
});

test('the proxy asks for its secret; plaintext to the workload: PERMISSIVE answers, STRICT resets and counts', async () => {
  const a = await request('/', { headers: { 'proxy-authorization': 'Basic eDp5' } });
  assert.equal(a.status, 407);
  const plain = await new Promise<Answer>((resolve, reject) => {
    http
      .get({ host: PAY, port: ports.http, path: '/', headers: { 'x-forwarded-client-cert': 'forged' } }, (res) => {
        let body = '';
        res.on('data', (d) => (body += d));
        res.on('end', () => resolve({ status: res.statusCode!, headers: res.headers, body }));
      })
      .on('error', reject);
  });
  assert.equal(plain.status, 200);
  assert.equal((JSON.parse(plain.body) as Record<string, string>)['x-forwarded-client-cert'], undefined);
  const before = paySeen.counts.get('inbound_plaintext_refused') ?? 0;
  await new Promise<void>((resolve) => {
    const s = net.connect(ports.tcp, PAY, () => s.write('GET / HTTP/1.1\r\n\r\n'));
    s.on('error', () => {});
    s.on('close', () => resolve());
  });
  assert.equal(paySeen.counts.get('inbound_plaintext_refused'), before + 1);
});

test('bytes that are no HTTP get an answer in the declared protocol, on the way out and in', async () => {
  const ask = async (socket: net.Socket): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    socket.end('NOT THE PREFACE\r\n\r\n');
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  };
  const inside = (port: number): net.Socket => net.connect({ host: PAY, port, allowHalfOpen: true });
  for (const socket of [await tunnel(ports.http), inside(ports.http)]) {
    assert.match((await ask(socket)).toString('latin1'), /^HTTP\/1\.1 400 /);
  }
  for (const socket of [await tunnel(ports.grpc), inside(ports.grpc)]) {
    const bytes = await ask(socket);
    assert.equal(bytes[3], 4, 'SETTINGS first');
    const types = [];
    for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) types.push(bytes[at + 3]);
    assert.equal(types.at(-1), 7, 'GOAWAY last');
  }
});

test('mesh port: no certificate is refused; a port outside the plan and 15000 are 403', async () => {
  await new Promise<void>((resolve) => {
    const s = tls.connect({ host: PAY, port: 15008, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    s.on('error', () => {});
    s.on('close', () => resolve());
    s.on('secureConnect', () => s.resume());
  });
  const id = await identity('front');
  const client = http2.connect(`https://${PAY}:15008`, {
    key: id.keyPem,
    cert: id.chainPem,
    ca: id.rootPem,
    checkServerIdentity: () => undefined,
  });
  const connect = (authority: string, extra: Record<string, string> = {}) =>
    new Promise<number>((resolve, reject) => {
      const s = client.request({ ':method': 'CONNECT', ':authority': authority, ...extra });
      s.on('response', (h) => {
        resolve(Number(h[':status']));
        s.close();
      });
      s.on('error', reject);
    });
  assert.equal(await connect(`${PAY}:15000`), 403);
  assert.equal(await connect(`${PAY}:7777`), 403);
  assert.equal(await connect(`127.0.0.1:${ports.tcp}`), 403);
  assert.equal(await connect(`${PAY}:${ports.tcp}`), 200);
  // The port header is not honoured from a peer that is no Weft proxy.
  const status = await new Promise<number>((resolve, reject) => {
    const s = client.request({ ':path': '/', 'x-weft-port': String(ports.http) });
    s.on('response', (h) => resolve(Number(h[':status'])));
    s.on('error', reject);
    s.end();
  });
  assert.equal(status, 403);
  client.destroy();
});

test('a rotated identity replaces the links under load without a failure', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });
  let failures = 0;
  const run = async (): Promise<void> => {
    for (let i = 0; i < 60; i++) if ((await request('/x', { agent })).status !== 200) failures++;
  };
  const running = Promise.all(Array.from({ length: 8 }, run));
  front.setIdentity(await identity('front'));
  pay.setIdentity(await identity('pay'));
  await running;
  agent.destroy();
  assert.equal(failures, 0);
});

/** A place on the one link from front to pay. */
function linkLane(): Promise<Lane> {
  const endpoint = create(EndpointSchema, {
    ...{ address: PAY, meshPort: 15008, identity: 'spiffe://cluster.local/ns/shop/sa/pay' },
  });
  const pool = front.core.links.to({ endpoint, way: '' });
  return new Promise((resolve, reject) =>
    pool.ask({ abandoned: false, onLane: resolve, onUnavailable: (_r, detail) => reject(new Error(detail)) }),
  );
}
const linkHead = (path: string) => [
  ...[':method', 'GET', ':scheme', 'http', ':authority', 'pay:8080', ':path', path],
  ...['x-weft-port', String(ports.http)],
];

test('199 stalled streams on a link hold up nothing of the 200th', async () => {
  const lane = await linkLane();
  const read = (): Promise<number> =>
    new Promise((resolve, reject) => {
      let bytes = 0;
      lane.request(linkHead('/big'), true, {
        onHead() {},
        onData(_s, chunk, end) {
          bytes += chunk.length;
          if (end) resolve(bytes);
        },
        onTrailers() {},
        onReset: (_s, code) => reject(new Error(code)),
        onDrain() {},
      });
    });
  const stalled: Stream[] = [];
  let heads = 0;
  await new Promise<void>((resolve, reject) => {
    for (let i = 0; i < 199; i++) {
      const stream = lane.request(linkHead('/big'), true, {
        onHead() {
          if (++heads === 199) resolve();
        },
        onData: () => reject(new Error('a stalled stream was given data')),
        onTrailers() {},
        onReset: (_s, code, detail) => reject(new Error(`${code} ${detail}`)),
        onDrain() {},
      });
      stream.pause();
      stalled.push(stream);
    }
  });
  // More than any window that the stalled ones could have left.
  for (let i = 0; i < 3; i++) assert.equal(await read(), BIG.length);
  for (const s of stalled) s.reset('cancel');
});

test('a peer of the mesh may cancel many streams; a stranger to Weft may not', async () => {
  const ignore = { onHead() {}, onData() {}, onTrailers() {}, onReset() {}, onDrain() {} };
  const flood = 'http2_reset_received_flood';
  const before = paySeen.counts.get(flood) ?? 0;
  for (let i = 0; i < 30; i++) {
    const lane = await linkLane();
    for (let j = 0; j < 100; j++) lane.request(linkHead('/x'), true, ignore).reset('cancel');
    await new Promise((resolve) => setImmediate(resolve));
  }
  // The application is still busy with the connections that were cancelled: ask until it is not.
  const end = performance.now() + 60_000;
  while ((await request('/x')).status !== 200) assert.ok(performance.now() < end, 'no answer after the resets');
  assert.equal(paySeen.counts.get(flood) ?? 0, before);
  const id = await identity('front');
  const client = http2.connect(`https://${PAY}:15008`, {
    key: id.keyPem,
    cert: id.chainPem,
    ca: id.rootPem,
    checkServerIdentity: () => undefined,
  });
  const closed = new Promise((resolve) => client.on('close', resolve));
  client.on('error', () => {});
  let going = true;
  client.on('goaway', () => (going = false));
  for (let i = 0; i < 40 && going && !client.destroyed; i++) {
    for (let j = 0; j < 50; j++) {
      const s = client.request({ ':path': '/' });
      s.on('error', () => {});
      s.close(http2.constants.NGHTTP2_CANCEL);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await closed;
  assert.equal(paySeen.counts.get(flood), before + 1);
});

test('limits: requests in flight, connections, silence before detection, TLS handshake, idle streams', async () => {
  const limits = pay.core.limits;
  limits.maxRequests = 0;
  const refused = await request('/x', { method: 'POST', body: 'x' });
  limits.maxRequests = 10_000;
  assert.equal(refused.status, 503);
  assert.ok((paySeen.counts.get('requests_overflow') ?? 0) >= 1);

  front.core.limits.maxConnections = 0;
  await assert.rejects(request('/x', { agent: new http.Agent() }));
  front.core.limits.maxConnections = 10_000;
  assert.equal(frontSeen.counts.get('downstream_connections_overflow'), 1);
  assert.equal((await request('/x')).status, 200);

  front.core.limits.detectTimeoutMs = 50;
  const silent = await tunnel(ports.http);
  const end = performance.now() + 60_000;
  while (!frontSeen.counts.has('detect_timeout') && performance.now() < end)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(frontSeen.counts.get('detect_timeout'), 1);
  front.core.limits.detectTimeoutMs = 10_000;
  silent.destroy();

  const mute = net.connect(15008, PAY);
  mute.on('error', () => {});
  await new Promise((resolve) => mute.on('close', resolve));
  assert.equal(paySeen.counts.get('inbound_tls_handshake_timeout'), 1);

  front.core.limits.streamIdleTimeoutMs = 1000;
  await new Promise<void>((resolve, reject) => {
    const req = http.request({
      ...{ host: FRONT, port: 15001, method: 'POST', path: `http://pay:${ports.http}/echo` },
      headers: { host: `pay:${ports.http}`, 'proxy-authorization': auth },
    });
    req.on('response', (res) => {
      res.on('data', () => {});
      res.on('end', () => reject(new Error('ended well')));
      res.on('error', () => resolve());
    });
    req.on('error', () => resolve());
    req.write('some');
  });
  front.core.limits.streamIdleTimeoutMs = 300_000;
  assert.equal(frontSeen.counts.get('stream_idle_timeout'), 1);
  assert.equal(frontSeen.records.at(-1)!.flags, 'SI');
  assert.equal(front.core.exchanges.size, 0);
});
