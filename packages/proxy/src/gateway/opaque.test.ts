/** Gateways of connections: TCP, TLS passed on or ended, client certificates, the mesh's own callers, and how they end. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot, type Snapshot } from '@weft/engine';
import type { Identity } from '@weft/identity';
import {
  AuthorizationAction,
  ClientCertificate,
  EndpointsSchema,
  type GatewayServerSchema,
  outboundClusterName,
  type Part,
  PartSchema,
  Protocol,
} from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { loopbackConnector } from '../net/dial.ts';
import type { TcpRecord } from '../observe/types.ts';
import { testIdentities } from '../test-identity.ts';
import { Watched } from '../test-pair.ts';

const EDGE = '127.9.40.1';
const APP = '127.9.40.2';
const CALLER = '127.9.40.3';
const VIP = '10.99.40.1';
const HOST = 'app.test.svc.cluster.local';
const EDGE_HOST = 'edge.test.svc.cluster.local';
const [TCP, TLS, HTTP, MESH] = [9306, 9443, 9080, 9081];
const GREETING = 'the server speaks first\n';

const dir = mkdtempSync(join(tmpdir(), 'weft-opaque-'));
const at = (name: string): string => join(dir, name);

/** Signed by itself, or by `ca`. */
function certificate(stem: string, san: string, ca?: string): { certificatePem: string; keyPem: string } {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${stem}.key`)];
  const name = ['-subj', `/CN=${stem}`, '-addext', `subjectAltName=${san}`, '-days', '2'];
  const by = ca ? ['-CA', at(`${ca}.crt`), '-CAkey', at(`${ca}.key`), '-addext', 'basicConstraints=CA:FALSE'] : [];
  execFileSync('openssl', ['req', '-x509', ...key, ...name, ...by, '-out', at(`${stem}.crt`)], { stdio: 'pipe' });
  return { certificatePem: readFileSync(at(`${stem}.crt`), 'utf8'), keyPem: readFileSync(at(`${stem}.key`), 'utf8') };
}

type Server = MessageInitShape<typeof GatewayServerSchema>;
const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
const cluster = (port: number): string => outboundClusterName(port, '', HOST);
const to = (port: number) => [{ ref: `to-${port}`, cluster: cluster(port), weight: 1 }];
const tcpTo = (port: number) => [{ ref: `tcp-${port}`, clusters: to(port) }];

const own = certificate('own', 'DNS:ended.test,DNS:web.test');
const authorityPem = certificate('ca', 'DNS:ca').certificatePem;
const good = certificate('good', 'DNS:me.test', 'ca');
const other = certificate('other', 'DNS:you.test', 'ca');
const stranger = certificate('stranger', 'DNS:me.test');
const appPair = certificate('app', 'DNS:pass.test');

const mutual = { secret: 'own', clientCertificate: ClientCertificate.REQUIRED, subjectAltNames: ['me.test'] };
const tcpServer: Server = { ref: 'tcp', protocol: Protocol.TCP, tcp: tcpTo(7001) };
const passes: Server = {
  ref: 'passes',
  protocol: Protocol.TLS,
  hosts: ['*.pass.test', 'pass.test'],
  tlsRoutes: [{ ref: 'by-name', sniHosts: ['pass.test'], clusters: to(7002) }],
};
const ends: Server = { ref: 'ends', protocol: Protocol.TCP, hosts: ['ended.test'], tls: mutual, tcp: tcpTo(7001) };
const httpRoute = { ref: 'main', clusters: to(7003) };
const web: Server = {
  ref: 'web',
  hosts: ['web.test'],
  tls: { secret: 'own' },
  virtualHosts: [{ host: 'web.test', http: [httpRoute] }],
};
const plain: Server = { ref: 'plain', virtualHosts: [{ host: 'out.test', http: [httpRoute] }] };
const inner: Server = { ...plain, ref: 'inner', meshOnly: true };
const usual = { [TCP]: [tcpServer], [TLS]: [passes, ends, web], [HTTP]: [plain], [MESH]: [inner] };

const policy = (name: string, rule: object, action = AuthorizationAction.DENY) => ({
  ...{ ref: name, name, namespace: 'test', action },
  rules: [{ ref: `${name}#0`, ...rule }],
});
const POLICIES = [
  policy('not-b', { from: [{ principals: ['cluster.local/ns/test/sa/b'] }] }),
  policy('no-name', { when: [{ key: 'connection.sni', values: ['no.pass.test'] }] }),
];

let snapshot: Snapshot | undefined;
let epoch = 1n;
function planOf(
  ports: Record<number, Server[]>,
  policies: object[] = POLICIES,
  ca = authorityPem,
  pair = own,
): Snapshot {
  const self = { mesh: 'test', instance: 'edge-0', workload: 'edge', namespace: 'test', trustDomain: 'cluster.local' };
  const parts = [
    part({ case: 'self', value: { ...self, address: EDGE, drainMs: 300 } }),
    part({ case: 'authorization', value: { policies } }),
    part({ case: 'secret', value: { name: 'own', ref: 'own', ...pair, caPem: ca } }),
    ...[7001, 7002, 7003].map((port) =>
      part({ case: 'cluster', value: { name: cluster(port), host: HOST, port, serviceName: 'app' } }),
    ),
    ...Object.entries(ports).map(([port, servers]) =>
      part({ case: 'gateway', value: { port: Number(port), servers } }),
    ),
  ];
  const endpoints = [7001, 7002, 7003].map((port) =>
    create(EndpointsSchema, { host: HOST, port, endpoints: [{ instance: 'app-0', address: APP, port }] }),
  );
  snapshot = buildSnapshot(parts, endpoints, snapshot);
  return snapshot;
}
const apply = (...plan: Parameters<typeof planOf>): void => edge.apply(planOf(...plan), ++epoch);

const seen = new Watched();
const counted = (name: string): number => seen.counts.get(name) ?? 0;
let edge: DataPlane;
const closing: (() => void)[] = [];
let identity: (account: string) => Promise<Identity>;

before(async () => {
  const listen = async (server: net.Server, port: number): Promise<void> => {
    server.listen(port, APP);
    await once(server, 'listening');
    closing.push(() => server.close());
  };
  const echo = (socket: net.Socket): void => {
    socket.on('error', () => {});
    socket.write(GREETING);
    socket.pipe(socket);
  };
  await listen(net.createServer({ allowHalfOpen: true }, echo), 7001);
  await listen(tls.createServer({ cert: appPair.certificatePem, key: appPair.keyPem }, echo), 7002);
  await listen(
    http.createServer((q, r) => r.end(JSON.stringify({ url: q.url, headers: q.headers }))),
    7003,
  );
  identity = await testIdentities(mkdtempSync(join(dir, 'mesh-')), 'test');
  edge = new DataPlane({
    address: EDGE,
    capture: 'explicit',
    bind: { mesh: { host: EDGE, port: 15008 } },
    gateway: { host: EDGE },
    observer: seen.observer,
    logger: silentLogger,
  });
  edge.setIdentity(await identity('edge'));
  edge.apply(planOf(usual), epoch);
  await edge.listen();
});
after(() => {
  edge?.close();
  for (const close of closing) close();
  rmSync(dir, { recursive: true, force: true });
});

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!done()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What comes until it ends, after `bytes` and a half-close were sent; '' for a refused connection. */
function talk(socket: net.Socket, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (d) => {
      text += d.toString();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    socket.end(bytes);
  });
}
const secure = (servername: string, more: tls.ConnectionOptions = {}): tls.TLSSocket => {
  const options = { host: EDGE, port: TLS, servername, rejectUnauthorized: false, allowHalfOpen: true, ...more };
  const socket = tls.connect(options as tls.ConnectionOptions);
  socket.on('error', () => {});
  return socket;
};
/** However it ends. */
const closed = (end: { once(event: 'close', done: () => void): unknown }): Promise<void> =>
  new Promise((resolve) => void end.once('close', () => resolve()));
/** The record of the last connection that is over, as soon as there are so many. */
async function recorded(n: number): Promise<TcpRecord> {
  await until(`record ${n}`, () => seen.tcp.length >= n);
  return seen.tcp[n - 1];
}

test('TCP: the server may speak first, half-close is kept, and the record names route and service', async () => {
  assert.equal(await talk(net.connect({ port: TCP, host: EDGE, allowHalfOpen: true }), 'hello'), `${GREETING}hello`);
  const r = await recorded(1);
  assert.deepEqual(
    [r.routeRef, r.cluster, r.service?.host, r.bytesIn, r.source?.workload],
    ['to-7001', cluster(7001), HOST, 5, 'edge'],
  );
});

test('TLS is passed on by its server name: the application’s own certificate; other names are refused', async () => {
  const n = seen.tcp.length;
  const through = secure('PASS.test');
  await once(through, 'secureConnect');
  assert.equal(through.getPeerCertificate().subject.CN, 'app');
  assert.equal(await talk(through, 'x'), `${GREETING}x`);
  assert.equal((await recorded(n + 1)).sni.toLowerCase(), 'pass.test');
  // The server has the name, and no route.
  assert.equal(await talk(secure('a.pass.test'), 'x'), '');
  assert.equal((await recorded(n + 2)).flags, 'NR');
  assert.equal(await talk(secure('no.pass.test'), 'x'), '');
  assert.equal((await recorded(n + 3)).authzPolicy, 'test/no-name');
  assert.equal(counted('gateway_tcp_denied'), 1);
  const refused = counted('gateway_server_name_refused');
  assert.equal(await talk(secure('nobody.test'), 'x'), '');
  assert.equal(counted('gateway_server_name_refused'), refused + 1);
});

test('TLS is ended for connections; only a client with the right certificate comes in', async () => {
  const as = (pair: { certificatePem: string; keyPem: string } | undefined) =>
    talk(secure('ended.test', pair && { cert: pair.certificatePem, key: pair.keyPem }), 'x');
  assert.equal(await as(good), `${GREETING}x`);
  assert.equal(await as(undefined), '');
  assert.equal(await as(stranger), '', 'the right name, signed by itself');
  assert.equal(await as(other), '', 'the right CA, another name');
  assert.equal(counted('gateway_client_certificate_refused'), 1);
  apply({ ...usual, [TLS]: [{ ...ends, tls: { ...mutual, clientCertificate: ClientCertificate.OPTIONAL } }] });
  assert.equal(await as(undefined), `${GREETING}x`, 'optional: nothing is shown');
  assert.equal(await as(stranger), '', 'optional: what is shown must be good');
  // No CA: nobody may come in by the public roots.
  apply(usual, POLICIES, '');
  assert.equal(await as(good), '');
  assert.ok(counted('gateway_certificate_refused') > 0);
  apply(usual);
  assert.equal(await as(good), `${GREETING}x`);
});

test('the mesh comes by its own link: who calls is known, in requests and in tunnels', async (t) => {
  const meshEdge = {
    ...{ instance: 'edge-0', address: EDGE, meshPort: 15008, workload: 'edge', namespace: 'test' },
    identity: 'spiffe://cluster.local/ns/test/sa/edge',
  };
  const caller = async (account: string): Promise<DataPlane> => {
    const plane = new DataPlane({
      ...{ address: CALLER, capture: 'transparent', bind: { outbound: { host: CALLER, port: 0 } } },
      ...{ observer: new Watched().observer, logger: silentLogger, connector: loopbackConnector(CALLER) },
      originalDestination: (socket: net.Socket) => ({ host: VIP, port: socket.localPort ?? 0 }),
    });
    plane.setIdentity(await identity(account));
    t.after(() => plane.close());
    const name = (port: number) => outboundClusterName(port, '', EDGE_HOST);
    const one = (port: number) => [{ ref: 'r', clusters: [{ ref: 'r', cluster: name(port), weight: 1 }] }];
    const ports = [
      { port: TCP, protocol: Protocol.TCP, tcp: one(TCP) },
      { port: TLS, protocol: Protocol.TCP, tcp: one(TLS) },
      { port: HTTP, protocol: Protocol.HTTP, http: one(HTTP) },
      { port: MESH, protocol: Protocol.HTTP, http: one(MESH) },
    ];
    const parts = [
      part({ case: 'self', value: { mesh: 'test', instance: `${account}-0`, namespace: 'test', address: CALLER } }),
      part({ case: 'service', value: { host: EDGE_HOST, name: 'edge', namespace: 'test', addresses: [VIP], ports } }),
      ...ports.map(({ port }) => part({ case: 'cluster', value: { name: name(port), host: EDGE_HOST, port } })),
    ];
    const endpoints = ports.map(({ port }) =>
      create(EndpointsSchema, { host: EDGE_HOST, port, endpoints: [{ ...meshEdge, port }] }),
    );
    plane.apply(buildSnapshot(parts, endpoints), 1n);
    return plane;
  };
  /** A connection that the caller's application makes to a port of the gateway. */
  const dial = async (plane: DataPlane, port: number): Promise<net.Socket> => {
    const server = net.createServer({ allowHalfOpen: true }, (s) => plane.outbound.server.emit('connection', s));
    server.listen(port, CALLER);
    await once(server, 'listening');
    const socket = net.connect({ port, host: CALLER, allowHalfOpen: true });
    await once(socket, 'connect');
    socket.on('error', () => {});
    socket.once('close', () => server.close());
    return socket;
  };
  const get = 'GET /x HTTP/1.1\r\nhost: out.test\r\nx-weft-source: forged\r\nx-own: stays\r\nconnection: close\r\n\r\n';
  const [a, b] = [await caller('a'), await caller('b')];

  const n = seen.tcp.length;
  assert.equal(await talk(await dial(a, TCP), 'hi'), `${GREETING}hi`);
  await recorded(n + 1);
  assert.equal(await talk(await dial(b, TCP), 'hi'), '', 'b is denied by name');
  assert.equal((await recorded(n + 2)).authzPolicy, 'test/not-b');
  for (const port of [HTTP, MESH]) {
    const answer = await talk(await dial(a, port), get);
    assert.match(answer, /^HTTP\/1\.1 200 /, `${port}`);
    assert.match(answer, /"x-own":"stays"/);
    assert.doesNotMatch(answer, /x-weft|client-cert/, 'what is said between proxies stays there');
    assert.match(await talk(await dial(b, port), get), /^HTTP\/1\.1 403 /);
    assert.equal(seen.requests.at(-1)?.authzPolicy, 'test/not-b');
  }
  // Passed on by name, also from within the mesh; the gateway's own TLS is not for it.
  const raw = await dial(a, TLS);
  const through = tls.connect({ socket: raw, servername: 'pass.test', rejectUnauthorized: false });
  await once(through, 'secureConnect');
  assert.equal(through.getPeerCertificate().subject.CN, 'app');
  through.on('error', () => {});
  through.destroy();
  await recorded(n + 3);
  // A port for the mesh alone is not there for anybody else.
  await assert.rejects(once(net.connect(MESH, EDGE), 'connect'), /ECONNREFUSED/);

  // A policy that comes later ends what it would not have let in.
  const open = await dial(a, TCP);
  await once(open, 'data');
  const ended = closed(open);
  apply(usual, [...POLICIES, policy('nobody', { from: [{ principals: ['cluster.local/ns/test/sa/a'] }] })]);
  await ended;
  assert.equal((await recorded(n + 4)).authzPolicy, 'test/nobody');
  apply(usual);
});

test('what left the plan is let go: GOAWAY, connection: close, and after the drain time', async () => {
  const h2 = secure('web.test', { ALPNProtocols: ['h2'] });
  await once(h2, 'secureConnect');
  const session = http2.connect('https://web.test', { createConnection: () => h2 });
  session.on('error', () => {});
  const ok = async (): Promise<number> => {
    const stream = session.request({ ':path': '/' });
    const [head] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & { ':status': number }];
    stream.resume();
    await once(stream, 'end');
    return head[':status'];
  };
  assert.equal(await ok(), 200);
  const h1 = secure('web.test');
  h1.allowHalfOpen = false;
  h1.write('GET / HTTP/1.1\r\nhost: web.test\r\n\r\n');
  await once(h1, 'data');
  const tcp = net.connect(TCP, EDGE);
  tcp.on('error', () => {});
  await once(tcp, 'data');
  const stays = secure('pass.test');
  await once(stays, 'secureConnect');
  await once(stays, 'data');

  // Another certificate is served at once, and ends nothing.
  const drained = counted('gateway_connections_drained');
  const renewed = certificate('renewed', 'DNS:ended.test,DNS:web.test');
  apply(usual, POLICIES, authorityPem, renewed);
  const fresh = secure('web.test');
  await once(fresh, 'secureConnect');
  assert.equal(fresh.getPeerCertificate().subject.CN, 'renewed');
  fresh.destroy();
  assert.equal(counted('gateway_connections_drained'), drained);
  assert.equal(await ok(), 200);

  const goaway = once(session, 'goaway');
  const closes = [closed(h1), closed(tcp), closed(session)];
  // One server of a port that stays, and a port.
  apply({ [TLS]: [passes, ends], [HTTP]: [plain] });
  await goaway;
  await Promise.all(closes);
  assert.equal(counted('gateway_connections_drained'), drained + 3);
  assert.equal(seen.tcp.at(-1)?.details, 'its server left the plan');
  stays.write('still');
  assert.equal(String((await once(stays, 'data'))[0]), 'still', 'who is served as before keeps the connection');
  stays.destroy();

  // A name that another server takes over.
  apply(usual);
  const moved = secure('pass.test');
  await once(moved, 'secureConnect');
  const gone = closed(moved);
  apply({ ...usual, [TLS]: [{ ...passes, hosts: ['*.pass.test'] }, ends, web] });
  await gone;
  apply(usual);
  await until('nothing is left', () => edge.counts().downstream === 0);
});
