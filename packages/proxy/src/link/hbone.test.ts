/** Peers that are no Weft proxies: they know CONNECT tunnels alone, as a client and as a server. */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AuthorizationAction, AuthorizationPolicySchema, Protocol } from '@weft/plan';
import { type TestPair, testPair } from '../test-pair.ts';

const HTTP = 8080;
const GRPC = 9090;
const TCP = 7000;

/** The three applications of every test, on `address`; gives their ports. */
async function applications(t: TestContext, address: string): Promise<Record<number, number>> {
  const web = http.createServer((req, res) => {
    const parts: Buffer[] = [];
    req.on('data', (p: Buffer) => parts.push(p));
    req.on('end', () => res.end(JSON.stringify({ headers: req.headers, bytes: Buffer.concat(parts).length })));
  });
  const grpc = http2.createServer();
  grpc.on('session', (s) => t.after(() => s.destroy()));
  grpc.on('stream', (s) => {
    s.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    s.on('wantTrailers', () => s.sendTrailers({ 'grpc-status': '5' }));
    s.on('data', (d) => s.write(d));
    s.on('end', () => s.end());
  });
  const tcp = net.createServer({ allowHalfOpen: true }, (s) => {
    s.on('error', () => {});
    s.write('hello\n');
    s.on('data', (d) => (String(d) === 'reset' ? s.resetAndDestroy() : s.write(d)));
    s.on('end', () => s.end('bye\n'));
  });
  const ports: Record<number, number> = {};
  for (const [port, server] of [
    [HTTP, web],
    [GRPC, grpc],
    [TCP, tcp],
  ] as const) {
    await new Promise<void>((resolve) => server.listen(0, address, resolve));
    ports[port] = (server.address() as AddressInfo).port;
    t.after(() => server.close());
  }
  t.after(() => web.closeAllConnections());
  return ports;
}

const declared = (address: string, ports: Record<number, number>) =>
  (
    [
      [HTTP, Protocol.HTTP],
      [GRPC, Protocol.GRPC],
      [TCP, Protocol.TCP],
    ] as const
  ).map(([port, protocol]) => ({ port, protocol, appHost: address, appPort: ports[port]! }));

interface Foreign {
  connects: string[];
  others: string[];
  refuse: boolean;
}

/** An HBONE server without our setting in the place of the called proxy. */
async function foreignServer(t: TestContext, pair: TestPair, ports: Record<number, number>, app: string) {
  const id = await pair.identity('back');
  const seen: Foreign = { connects: [], others: [], refuse: false };
  const server = http2.createSecureServer({
    ...{ key: id.keyPem, cert: id.chainPem, ca: id.rootPem, requestCert: true, rejectUnauthorized: true },
    minVersion: 'TLSv1.3',
  });
  server.on('session', (s) => t.after(() => s.destroy()));
  server.on('stream', (stream, head) => {
    stream.on('error', () => {});
    if (head[':method'] !== 'CONNECT') {
      seen.others.push(String(head[':path']));
      stream.respond({ ':status': 404 }, { endStream: true });
      return;
    }
    seen.connects.push(
      Object.entries(head)
        .map(([k, v]) => `${k}=${v}`)
        .join(' '),
    );
    if (seen.refuse) {
      stream.respond({ ':status': 503 }, { endStream: true });
      return;
    }
    const port = ports[Number(head[':authority']?.split(':')[1])] as number;
    const socket = net.connect({ port, host: app, allowHalfOpen: true }, () => {
      stream.respond({ ':status': 200 });
      socket.pipe(stream).pipe(socket);
    });
    socket.on('error', () => stream.close());
    stream.on('close', () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(15008, pair.backAddress, resolve));
  t.after(() => server.close());
  return seen;
}

function post(pair: TestPair, body: Buffer): Promise<{ status: number; json: any }> {
  return new Promise((resolve, reject) => {
    const req = http.request(
      {
        host: pair.frontAddress,
        port: HTTP,
        path: '/x',
        method: 'POST',
        agent: false,
        headers: { 'x-weft-port': '1' },
      },
      (res) => {
        let text = '';
        res.on('data', (d) => (text += d));
        res.on('end', () => resolve({ status: res.statusCode!, json: text.startsWith('{') ? JSON.parse(text) : text }));
      },
    );
    req.on('error', reject);
    req.end(body);
  });
}

test('a peer without our setting gets requests inside tunnels: HTTP/1.1, gRPC and TCP', async (t) => {
  const app = '127.7.30.3';
  const ports = await applications(t, app);
  const pair = await testPair(t, { network: '127.7.30', ports: declared(app, ports), back: false });
  const seen = await foreignServer(t, pair, ports, app);

  for (let i = 0; i < 5; i++) {
    const answer = await post(pair, Buffer.alloc(300_000, 'x'));
    assert.equal(answer.status, 200);
    assert.equal(answer.json.bytes, 300_000);
    assert.equal(answer.json.headers['x-weft-port'], undefined);
    assert.equal(answer.json.headers['x-weft-source'], undefined);
  }
  // One tunnel, kept alive; nothing about us in its CONNECT.
  assert.deepEqual(seen.connects, [`:method=CONNECT :authority=${pair.backAddress}:${HTTP}`]);
  const record = pair.frontSeen.requests.at(-1)!;
  assert.deepEqual([record.status, record.mtls, record.destination?.workload], [200, true, 'back']);

  const client = http2.connect(`http://${pair.frontAddress}:${GRPC}`);
  t.after(() => client.destroy());
  const status = await new Promise((resolve, reject) => {
    const s = client.request({
      ':method': 'POST',
      ':path': '/S/M',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    s.on('trailers', (h) => resolve(h['grpc-status']));
    s.on('error', reject);
    s.resume();
    s.end('message');
  });
  assert.equal(status, '5');

  const text = await new Promise<string>((resolve, reject) => {
    let got = '';
    const s = net.connect({ port: TCP, host: pair.frontAddress, allowHalfOpen: true });
    s.on('data', (d) => (got += d));
    s.on('end', () => resolve(got));
    s.on('error', reject);
    s.end('ping\n');
  });
  assert.equal(text, 'hello\nping\nbye\n');
  assert.deepEqual(
    seen.connects.slice(1),
    [GRPC, TCP].map((port) => `:method=CONNECT :authority=${pair.backAddress}:${port}`),
  );
  assert.deepEqual(seen.others, []);
});

test('a peer that refuses the tunnel is a connect failure', async (t) => {
  const app = '127.7.31.3';
  const ports = await applications(t, app);
  const pair = await testPair(t, { network: '127.7.31', ports: declared(app, ports), back: false });
  const seen = await foreignServer(t, pair, ports, app);
  seen.refuse = true;
  const answer = await post(pair, Buffer.from('x'));
  assert.equal(answer.status, 503);
  const record = pair.frontSeen.requests.at(-1)!;
  assert.match(record.flags, /UF/);
  assert.match(record.details, /CONNECT answered 503/);
});

test('requests inside a foreign tunnel are judged as requests', async (t) => {
  const app = '127.7.32.3';
  const ports = await applications(t, app);
  const deny = create(AuthorizationPolicySchema, {
    ...{ ref: 'deny', name: 'no-admin', namespace: 'test', action: AuthorizationAction.DENY },
    rules: [{ ref: 'deny#0', to: [{ paths: ['/admin*'], ports: [String(HTTP)] }] }],
  });
  const pair = await testPair(t, { network: '127.7.32', ports: declared(app, ports), policies: [deny] });
  const id = await pair.identity('stranger');
  const client = http2.connect(`https://${pair.backAddress}:15008`, {
    ...{ key: id.keyPem, cert: id.chainPem, ca: id.rootPem, checkServerIdentity: () => undefined },
  });
  t.after(() => client.destroy());
  const tunnel = (port: number): Promise<Duplex> =>
    new Promise((resolve, reject) => {
      const s = client.request({ ':method': 'CONNECT', ':authority': `${pair.backAddress}:${port}` });
      s.on('response', (h) => (h[':status'] === 200 ? resolve(s) : reject(new Error(`CONNECT: ${h[':status']}`))));
      s.on('error', reject);
    });
  const ask = async (path: string): Promise<{ status: number; text: string }> => {
    const inside = await tunnel(HTTP);
    return new Promise((resolve, reject) => {
      const req = http.request({ path, createConnection: () => inside as net.Socket }, (res) => {
        let text = '';
        res.on('data', (d) => (text += d));
        res.on('end', () => resolve({ status: res.statusCode!, text }));
      });
      req.on('error', reject);
      req.end();
    });
  };
  const good = await ask('/x');
  assert.equal(good.status, 200);
  assert.match(
    JSON.parse(good.text).headers['x-forwarded-client-cert'],
    /URI=spiffe:\/\/cluster.local\/ns\/test\/sa\/stranger$/,
  );
  assert.equal((await ask('/admin/x')).status, 403);
  assert.equal(pair.backSeen.requests.at(-1)!.authzPolicy, 'test/no-admin');

  const opaque = await tunnel(TCP);
  const first = await new Promise<string>((resolve) => opaque.once('data', (d) => resolve(String(d))));
  assert.equal(first, 'hello\n');
  // A reset of the application's connection is one of the tunnel (RFC 9113 8.5).
  const closed = new Promise((resolve) => opaque.once('close', resolve));
  opaque.on('error', () => {});
  opaque.write('reset');
  await closed;
  assert.equal((opaque as http2.ClientHttp2Stream).rstCode, http2.constants.NGHTTP2_CONNECT_ERROR);
});
