/** A gateway in one process, in front of a plain application: what strangers may send, and what they get. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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
import {
  AuthorizationAction,
  EndpointsSchema,
  type GatewayServerSchema,
  outboundClusterName,
  type Part,
  PartSchema,
  Protocol,
  type SelfSchema,
  SpanProtocol,
  TlsVersion,
} from '@weft/plan';
import { proxyHeader } from '@weft/wire';
import { DataPlane } from '../data-plane.ts';
import { copyOf, type RequestRecord } from '../observe/types.ts';
import { clientHello } from '../test-hello.ts';

const EDGE = '127.9.0.1';
const APP = '127.9.0.2';
const HOST = 'front.shop.svc.cluster.local';
const PLAIN = 8080;
const TLS = 8443;
const dir = mkdtempSync(join(tmpdir(), 'weft-gateway-'));

function certificate(stem: string, san: string): { certificatePem: string; keyPem: string } {
  const at = (name: string) => join(dir, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${stem}.key`)];
  const name = ['-subj', `/CN=${stem}`, '-addext', `subjectAltName=${san}`, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...key, ...name, '-out', at(`${stem}.crt`)], { stdio: 'pipe' });
  return { certificatePem: readFileSync(at(`${stem}.crt`), 'utf8'), keyPem: readFileSync(at(`${stem}.key`), 'utf8') };
}

type Server = MessageInitShape<typeof GatewayServerSchema>;
const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
const cluster = outboundClusterName(8080, '', HOST);
const route = { ref: 'main', clusters: [{ ref: 'to', cluster, weight: 1 }] };
const vhosts = (host: string) => [{ host, http: [route] }];

const pairs = { a: certificate('a', 'DNS:a.test'), wild: certificate('wild', 'DNS:*.wild.test') };
const plainServer: Server = {
  ref: 'plain',
  virtualHosts: [
    ...vhosts('shop.test'),
    { host: 'moved.test', http: [{ ref: 'moved', redirect: { scheme: 'https', code: 301, port: TLS } }] },
  ],
};
const tlsServers: Server[] = [
  { ref: 'a', hosts: ['a.test'], tls: { secret: 'a', minVersion: TlsVersion.TLSV1_3 }, virtualHosts: vhosts('a.test') },
  { ref: 'wild', hosts: ['*.wild.test'], tls: { secret: 'wild' }, virtualHosts: vhosts('*') },
];
const POLICY = {
  ref: 'deny',
  name: 'no-admin',
  namespace: 'shop',
  action: AuthorizationAction.DENY,
  rules: [
    { ref: 'deny#0', to: [{ paths: ['/admin*'] }] },
    { ref: 'deny#1', from: [{ ipBlocks: ['127.9.9.0/24'] }] },
    { ref: 'deny#2', when: [{ key: 'remote.ip', values: ['7.7.7.0/24'] }] },
  ],
};

let snapshot: Snapshot | undefined;
function planOf(
  ports: Record<number, Server[]>,
  secrets = pairs,
  self: MessageInitShape<typeof SelfSchema> = {},
): Snapshot {
  const parts = [
    part({
      case: 'self',
      value: { mesh: 'test', instance: 'edge-0', workload: 'edge', namespace: 'shop', trustDomain: 't', ...self },
    }),
    part({ case: 'authorization', value: { policies: [POLICY] } }),
    part({
      case: 'cluster',
      value: { name: cluster, host: HOST, port: 8080, protocol: Protocol.HTTP, serviceName: 'front' },
    }),
    ...Object.entries(secrets).map(([name, pair]) => part({ case: 'secret', value: { name, ref: name, ...pair } })),
    ...Object.entries(ports).map(([port, servers]) =>
      part({ case: 'gateway', value: { port: Number(port), servers } }),
    ),
  ];
  const endpoints = create(EndpointsSchema, {
    host: HOST,
    port: 8080,
    endpoints: [{ instance: 'front-0', address: APP, port: 8080, workload: 'front' }],
  });
  snapshot = buildSnapshot(parts, [endpoints], snapshot);
  return snapshot;
}
const usual = { [PLAIN]: [plainServer], [TLS]: tlsServers };

const records: RequestRecord[] = [];
const counts = new Map<string, number>();
const counted = (name: string): number => counts.get(name) ?? 0;
let edge: DataPlane;
let app: http.Server;

before(async () => {
  app = http.createServer((q, r) => {
    r.setHeader('content-type', 'application/json');
    r.setHeader('x-weft-decision', 'of the inside');
    let size = 0;
    q.on('data', (d: Buffer) => {
      size += d.length;
    });
    q.on('end', () => r.end(JSON.stringify({ url: q.url, headers: q.headers, size })));
  });
  app.on('upgrade', (_q, s) => {
    s.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
    s.on('error', () => {});
    s.on('data', (d: Buffer) => s.write(d));
    s.on('end', () => s.end());
  });
  await new Promise<void>((ok) => app.listen(8080, APP, ok));
  edge = new DataPlane({
    address: EDGE,
    capture: 'explicit',
    bind: {},
    gateway: { host: EDGE },
    observer: {
      request: (r) => void records.push(copyOf(r)),
      tcpOpen: () => {},
      tcpClose: () => {},
      plaintext: () => {},
      running: () => undefined,
      count: (n) => void counts.set(n, counted(n) + 1),
    },
    logger: silentLogger,
    limits: { maxConnectionsPerListener: 20, requestTimeoutMs: 1500, visitorTracesPerSecond: 1 },
  });
  edge.apply(planOf(usual), 1n);
  await edge.listen();
});

after(() => {
  edge?.close();
  app?.close();
  app?.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

function ask(path: string, headers: Record<string, string | string[]> = {}, options: http.RequestOptions = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const target = { host: EDGE, port: PLAIN, path, agent: false, headers: { host: 'shop.test', ...headers } };
    const q = http.request({ ...target, ...options }, (r) => {
      let body = '';
      r.setEncoding('latin1');
      r.on('data', (d: string) => {
        body += d;
      });
      r.on('end', () => resolve({ status: r.statusCode!, headers: r.headers, body }));
      r.on('error', reject);
    });
    q.on('error', reject);
    q.end();
  });
}

/** What comes back to raw bytes until the connection ends. */
function raw(bytes: string | Buffer, socket: net.Socket = net.connect(PLAIN, EDGE)): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (d) => {
      text += d.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    socket.write(bytes);
  });
}

async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await done())) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const seenHeaders = (a: Answer) => (JSON.parse(a.body) as { headers: Record<string, string> }).headers;

test('nothing from outside is trusted, and the visitor’s address is told', async () => {
  const a = await ask('/x', {
    'x-forwarded-for': ['1.2.3.4', '5.6.7.8'],
    'x-forwarded-proto': 'https',
    'x-request-id': 'mine',
    'x-forwarded-client-cert': 'URI=spiffe://forged',
    'x-weft-source': 'w=forged',
    'x-weft-port': '1',
    'x-envoy-retry-on': '5xx',
    'x-envoy-external-address': '9.9.9.9',
    'x-istio-attributes': 'forged',
    'x-own': 'stays',
    connection: 'x-forwarded-for, keep-alive',
  });
  assert.equal(a.status, 200, a.body);
  const seen = seenHeaders(a);
  // What Connection names is hop-by-hop: even so the address is told.
  assert.equal(seen['x-forwarded-for'], '127.0.0.1');
  assert.equal(seen['x-forwarded-proto'], 'http');
  assert.match(seen['x-request-id'], /^[0-9a-f-]{36}$/);
  assert.equal(seen['x-own'], 'stays');
  for (const name of Object.keys(seen)) assert.doesNotMatch(name, /^x-(weft|envoy|istio|forwarded-client)/);
  assert.equal(a.headers.server, undefined);
  const appended = seenHeaders(await ask('/', { 'x-forwarded-for': ['1.2.3.4', '5.6.7.8'] }));
  assert.equal(appended['x-forwarded-for'], '1.2.3.4, 5.6.7.8, 127.0.0.1');
  const record = records.at(-1)!;
  assert.equal(record.reporter, 'source');
  assert.equal(record.source?.workload, 'edge');
  assert.equal(record.service?.host, HOST, 'the service is the one that the route leads to');
  assert.equal(record.cluster, cluster);
  assert.equal(record.routeRef, 'to');
});

test('which rules decided is told to no visitor, whatever the plan says of the gateway', async () => {
  edge.apply(planOf(usual, pairs, { decisionCallers: ['*'], decisionNamespaces: ['*'] }), 1n);
  for (const [path, status] of [
    ['/x', 200],
    ['/admin', 403],
  ] as const) {
    const a = await ask(path);
    assert.equal(a.status, status);
    assert.equal(a.headers['x-weft-decision'], undefined);
  }
  edge.apply(planOf(usual), 1n);
});

test('a gateway tells a collector of its visitors, with what it decided', async (t) => {
  const spans: { kind: string; parentId?: string; localEndpoint: object; tags: Record<string, string> }[] = [];
  const collector = http.createServer((q, r) => {
    let body = '';
    q.on('data', (d: Buffer) => {
      body += d;
    });
    q.on('end', () => {
      spans.push(...JSON.parse(body));
      r.writeHead(202).end();
    });
  });
  await new Promise<void>((ok) => collector.listen(0, APP, ok));
  t.after(() => collector.close());
  const { port } = collector.address() as net.AddressInfo;
  const to = { protocol: SpanProtocol.ZIPKIN_JSON, host: APP, port, path: '/api/v2/spans', timeoutMs: 5000 };
  const tracing = { samplingPercent: 0, maxPathTagLength: 256, collector: to };
  edge.apply(planOf(usual, pairs, { tracing, address: EDGE, app: 'edge' }), 1n);
  const asked = 'GET /traced HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n';
  await raw(`${asked}\r\n`, await secure('a.test'));
  const parent = '00f067aa0ba902b7';
  const sampled = `traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-${parent}-01\r\n`;
  await raw(`${asked}${sampled}\r\n`, await secure('a.test'));
  await until('the span of the second', () => spans.length > 0);
  const [{ kind, parentId, localEndpoint, tags }] = spans;
  assert.deepEqual([spans.length, kind, parentId], [1, 'CLIENT', parent]);
  assert.deepEqual(localEndpoint, { serviceName: 'edge.shop', ipv4: EDGE });
  assert.deepEqual([tags['http.url'], tags['peer.address']], ['https://a.test/traced', '127.0.0.1']);
  assert.match(tags.node_id, /^router~/);
  assert.deepEqual([tags['weft.decision.route'], tags['weft.decision.destination']], ['main', 'to']);
  edge.apply(planOf(usual), 1n);
});

test('a visitor has traces recorded only so often; past it the own sampling decides, by nothing he can choose', async () => {
  const to = { protocol: SpanProtocol.ZIPKIN_JSON, host: APP, port: 9, path: '/', timeoutMs: 100 };
  const plan = (samplingPercent: number) =>
    edge.apply(planOf(usual, pairs, { tracing: { samplingPercent, collector: to }, address: EDGE }), 1n);
  // The last digits of this trace are those of the few that every percentage takes.
  const T = '4bf92f3577b34da6ffffffffffffffff';
  const flags = async (headers: Record<string, string>): Promise<string[]> => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => ask('/', headers)));
    return answers.map((a) => {
      const h = seenHeaders(a);
      const [, trace, , flag] = String(h.traceparent).split('-');
      assert.equal(trace, T, 'it stays his trace');
      if (h['x-b3-traceid']) assert.equal(h['x-b3-sampled'] ?? h['x-b3-flags'], flag === '01' ? '1' : '0');
      return flag;
    });
  };
  const cases: Record<string, string>[] = [
    { traceparent: `00-${T}-00f067aa0ba902b7-01` },
    { 'x-b3-traceid': T, 'x-b3-spanid': '00f067aa0ba902b7', 'x-b3-flags': '1' },
    { 'x-b3-traceid': T, 'x-b3-spanid': '00f067aa0ba902b7' },
  ];
  for (const headers of cases) {
    plan(1e-6);
    const before = counted('visitor_traces_not_sampled');
    const got = await flags(headers);
    const refused = got.filter((f) => f === '00').length;
    // One a second: to be let through, twelve would take eleven seconds.
    assert.ok(refused > 0, JSON.stringify(headers));
    assert.equal(counted('visitor_traces_not_sampled') - before, refused);
    plan(100);
    assert.deepEqual(new Set(await flags(headers)), new Set(['01']), 'whoever records all loses nothing');
  }
  edge.apply(planOf(usual), 1n);
  assert.deepEqual(new Set(await flags(cases[0])), new Set(['01']), 'without a collector it is the applications own');
});

test('hosts: one spelling; unknown ones, other methods and redirects are answered here', async () => {
  for (const host of ['SHOP.test', 'shop.test.', 'shop.test:80', 'shop.test:8080']) {
    const a = await ask('/', { host });
    assert.equal(a.status, 200, host);
    assert.equal(seenHeaders(a).host, host.endsWith('8080') ? 'shop.test:8080' : 'shop.test');
  }
  const unknown = await ask('/', { host: 'nobody.test' });
  assert.equal(unknown.status, 404);
  assert.equal(records.at(-1)!.flags, 'NR');
  assert.equal(records.at(-1)!.service, undefined, 'a name from outside is no label of a metric');
  const moved = await ask('/p?q=1', { host: 'moved.test:8080' });
  assert.equal(moved.status, 301);
  assert.equal(moved.headers.location, 'https://moved.test:8443/p?q=1');
  assert.match(await raw('CONNECT shop.test:80 HTTP/1.1\r\nhost: shop.test:80\r\n\r\n'), /^HTTP\/1\.1 404 /);
  assert.equal((await ask('http://shop.test/abs', { host: 'nobody.test' })).status, 200, 'the target names the host');
});

test('strict where a sidecar is not: underscores, escaped slashes, large fields, HTTP/1.0', async () => {
  assert.equal((await ask('/', { x_forwarded_for: '1' })).status, 400);
  assert.equal(counted('edge_underscore_header'), 1);
  assert.equal((await ask('/a%2fb')).status, 400);
  assert.equal((await ask('/', { 'x-long': 'a'.repeat(8000) })).status, 200);
  assert.equal((await ask('/', { 'x-long': 'a'.repeat(9000) })).status, 431);
  const old = 'GET / HTTP/1.0\r\nhost: shop.test\r\n\r\n';
  const refused = await raw(old);
  assert.match(refused, /^HTTP\/1\.1 426 Upgrade Required\r\n/);
  assert.match(refused, /\r\nupgrade: HTTP\/1\.1\r\n/);
  assert.match(refused, /\r\nconnection: upgrade, close\r\n/);
  edge.apply(planOf(usual, pairs, { acceptHttp10: true }), 2n);
  assert.match(await raw(old), /^HTTP\/1\.1 200 /);
  edge.apply(planOf(usual), 3n);
});

test('PROXY protocol: the client is whom the balancer says, on plaintext and TLS, and without a header nobody', async () => {
  edge.apply(planOf(usual, pairs, { proxyProtocol: true }), 4n);
  const ends = { source: '192.0.2.1', sourcePort: 999, destination: '198.51.100.7', destinationPort: 80 };
  const get = 'GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n';
  const forwarded = (answer: string): string => /"x-forwarded-for":"([^"]*)"/.exec(answer)?.[1] ?? answer;
  try {
    for (const version of [1, 2] as const) {
      const header = proxyHeader(version, ends);
      assert.equal(forwarded(await raw(Buffer.concat([header, Buffer.from(get)]))), '192.0.2.1');
      assert.equal(records.at(-1)!.downstreamRemote, '192.0.2.1:999');
      const s = net.connect(TLS, EDGE);
      s.write(header);
      const secured = tls.connect({ socket: s, servername: 'a.test', rejectUnauthorized: false });
      assert.equal(forwarded(await raw(get.replace('shop.test', 'a.test'), secured)), '192.0.2.1');
    }
    // Byte by byte; and the balancer's own health check.
    const s = net.connect(PLAIN, EDGE);
    s.setNoDelay(true);
    for (const c of proxyHeader(1, ends)) {
      s.write(Buffer.from([c]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(forwarded(await raw(get, s)), '192.0.2.1');
    assert.equal(forwarded(await raw(`PROXY UNKNOWN\r\n${get}`)), '127.0.0.1');
    // A policy for addresses judges the client's.
    const denied = proxyHeader(1, { ...ends, source: '127.9.9.1' });
    assert.match(await raw(denied.toString('latin1') + get), /^HTTP\/1\.1 403 /);
    const bad = counted('proxy_header_bad');
    assert.equal(await raw(get), '');
    assert.equal(await raw('PROXY TCP4 192.0.2.1\r\n'), '');
    assert.equal(counted('proxy_header_bad'), bad + 2);
  } finally {
    edge.apply(planOf(usual), 5n);
  }
});

test('policies hold at the edge, for what was made canonical', async () => {
  const a = await ask('/x/../%61dmin/y');
  assert.equal(a.status, 403);
  assert.equal(a.body, 'RBAC: access denied');
  assert.equal(records.at(-1)!.authzPolicy, 'shop/no-admin');
  assert.equal((await ask('/', {}, { localAddress: '127.9.9.9' })).status, 403);
  const claimed = { 'x-forwarded-for': '7.7.7.7' };
  assert.equal((await ask('/', claimed)).status, 200, 'anybody can claim an address');
  edge.apply(planOf(usual, pairs, { numTrustedProxies: 1 }), 3n);
  assert.equal((await ask('/', claimed)).status, 403, 'a trusted proxy does not claim');
  edge.apply(planOf(usual), 3n);
});

test('HTTP/2 by prior knowledge, at most 100 streams; WebSocket', async () => {
  const session = http2.connect(`http://${EDGE}:${PLAIN}`);
  await new Promise<void>((ok) => session.once('remoteSettings', () => ok()));
  assert.equal(session.remoteSettings.maxConcurrentStreams, 100);
  const stream = session.request({ ':path': '/h2', ':authority': 'shop.test', ':scheme': 'https' });
  let body = '';
  let status = 0;
  stream.setEncoding('utf8');
  stream.on('response', (h) => {
    status = h[':status']!;
  });
  for await (const chunk of stream) body += chunk;
  assert.equal(status, 200);
  assert.equal(JSON.parse(body).headers['x-forwarded-proto'], 'http', 'the connection says it, not the client');
  session.close();

  const upgraded = await new Promise<net.Socket>((resolve, reject) => {
    const q = http.request({
      host: EDGE,
      port: PLAIN,
      agent: false,
      headers: { host: 'shop.test', connection: 'upgrade', upgrade: 'websocket' },
    });
    q.on('upgrade', (_r, s) => resolve(s as net.Socket));
    q.on('error', reject);
    q.end();
  });
  const echoed = new Promise<string>((resolve) => upgraded.once('data', (d) => resolve(d.toString())));
  upgraded.write('ping');
  assert.equal(await echoed, 'ping');
  upgraded.destroy();
});

const opened: tls.TLSSocket[] = [];

function secure(servername: string, options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const s = tls.connect({ host: EDGE, port: TLS, servername, rejectUnauthorized: false, ...options }, () =>
      resolve(s),
    );
    opened.push(s);
    s.on('error', reject);
    s.on('close', () => reject(new Error('closed')));
  });
}

test('TLS: the server name chooses certificate, versions and hosts', async () => {
  for (const [name, want] of [
    ['a.test', 'a'],
    ['x.wild.test', 'wild'],
    ['A.TEST', 'a'],
  ] as const) {
    const s = await secure(name);
    assert.equal(s.getPeerCertificate().subject.CN, want);
    s.end(); // A client that vanishes before the server has its Finished is kept for the time of a handshake.
  }
  assert.equal((await secure('a.test', { ALPNProtocols: ['h2', 'http/1.1'] })).alpnProtocol, 'h2');
  assert.equal((await secure('a.test', { ALPNProtocols: ['http/1.1'] })).alpnProtocol, 'http/1.1');
  await assert.rejects(secure('a.test', { ALPNProtocols: ['smtp'] }));
  assert.equal((await secure('x.wild.test', { maxVersion: 'TLSv1.2' })).getProtocol(), 'TLSv1.2');
  await assert.rejects(secure('a.test', { maxVersion: 'TLSv1.2' }), 'this server begins at 1.3');
  const before = counted('gateway_server_name_refused');
  await assert.rejects(secure('nobody.test'));
  await assert.rejects(secure(''), 'no server here is for clients without a name');
  assert.equal(counted('gateway_server_name_refused'), before + 2);
  const plaintext = counted('gateway_plaintext_refused');
  assert.equal(await raw('GET / HTTP/1.1\r\nhost: a.test\r\n\r\n', net.connect(TLS, EDGE)), '');
  assert.equal(counted('gateway_plaintext_refused'), plaintext + 1);
  // TLS to the plaintext port gets an HTTP answer, as any other bytes.
  await assert.rejects(secure('a.test', { port: PLAIN }));

  const other = await raw('GET / HTTP/1.1\r\nhost: b.test\r\nconnection: close\r\n\r\n', await secure('a.test'));
  assert.match(other, /^HTTP\/1\.1 404 /, 'a host of another server is not served on this connection');
  const mine = await raw('GET / HTTP/1.1\r\nhost: a.test:443\r\nconnection: close\r\n\r\n', await secure('a.test'));
  assert.match(mine, /"x-forwarded-proto":"https"/);
  assert.match(mine, /"host":"a\.test"/);
});

test('a ClientHello in small pieces is read all the same', async () => {
  // Slices what it passes on.
  const relay = net.createServer((c) => {
    const up = net.connect({ host: EDGE, port: TLS, noDelay: true });
    let pieces = Promise.resolve();
    c.on('data', (d) => {
      for (let i = 0; i < d.length; i += 40) {
        const piece = d.subarray(i, i + 40);
        pieces = pieces.then(() => new Promise((next) => up.write(piece, () => setImmediate(next))));
      }
    });
    up.on('data', (d) => c.write(d));
    for (const s of [c, up]) s.on('error', () => {});
    c.on('close', () => up.destroy());
    up.on('close', () => c.destroy());
  });
  await new Promise<void>((ok) => relay.listen(0, EDGE, ok));
  const s = await secure('a.test', { port: (relay.address() as net.AddressInfo).port });
  assert.equal(s.getPeerCertificate().subject.CN, 'a');
  s.end();
  relay.close();
});

test('a certificate changes under open connections; one that cannot be used changes nothing', async () => {
  const old = await secure('a.test');
  const firstSerial = old.getPeerCertificate().serialNumber;
  const renewed = certificate('a', 'DNS:a.test');
  edge.apply(planOf(usual, { ...pairs, a: renewed }), 4n);
  const fresh = await secure('a.test');
  assert.notEqual(fresh.getPeerCertificate().serialNumber, firstSerial);
  fresh.end();
  const answer = await raw('GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n', old);
  assert.match(answer, /^HTTP\/1\.1 200 /);
  edge.apply(planOf(usual, { ...pairs, a: { certificatePem: 'x', keyPem: 'y' } }), 5n);
  assert.equal(counted('gateway_certificate_refused'), 1);
  const kept = await secure('a.test');
  assert.notEqual(kept.getPeerCertificate().serialNumber, firstSerial);
  kept.end();
  edge.apply(planOf(usual), 6n);
});

test('bytes that are no HTTP get an answer in the protocol that the port was declared with', async () => {
  edge.apply(planOf({ ...usual, 8083: [{ ...plainServer, protocol: Protocol.HTTP2 }] }), 6n);
  const garbage = async (port: number): Promise<Buffer> => {
    const socket = net.connect({ host: EDGE, port, allowHalfOpen: true });
    socket.end('NOT THE PREFACE\r\n\r\n');
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  };
  await until('8083 opens', () =>
    ask('/', {}, { port: 8083 }).then(
      (a) => a.status === 200,
      () => false,
    ),
  );
  const frames = await garbage(8083);
  assert.equal(frames[3], 4, 'SETTINGS');
  assert.match((await garbage(PLAIN)).toString('latin1'), /^HTTP\/1\.1 400 /);
  edge.apply(planOf(usual), 6n);
});

test('ports follow the plan; a port that cannot be had is tried again', async () => {
  const agent = new http.Agent({ keepAlive: true });
  edge.apply(planOf({ ...usual, 8081: [plainServer] }), 7n);
  await until('8081 opens', () =>
    ask('/', {}, { port: 8081, agent }).then(
      (a) => a.status === 200,
      () => false,
    ),
  );
  const open = Object.values(agent.freeSockets)[0]![0]!;
  const ended = new Promise<void>((ok) => open.once('close', () => ok()));
  edge.apply(planOf(usual), 8n);
  await ended;
  await assert.rejects(ask('/', {}, { port: 8081 }), /ECONNREFUSED/);

  const squatter = net.createServer();
  await new Promise<void>((ok) => squatter.listen(8082, EDGE, ok));
  edge.apply(planOf({ ...usual, 8082: [plainServer] }), 9n);
  await until('the failure is counted', () => counted('gateway_listen_failed') > 0);
  await new Promise<void>((ok) => squatter.close(() => ok()));
  await until('8082 opens', () =>
    ask('/', {}, { port: 8082 }).then(
      (a) => a.status === 200,
      () => false,
    ),
  );
  edge.apply(planOf(usual), 10n);
});

test('bounds: connections of a port, and the time for a whole request', async () => {
  for (const s of opened) s.destroy();
  await until('earlier connections are gone', () => edge.counts().downstream === 0);
  const sockets = Array.from({ length: 20 }, () => net.connect(PLAIN, EDGE));
  await Promise.all(sockets.map((s) => new Promise<void>((ok) => s.once('connect', () => ok()))));
  await until('all are admitted', () => edge.counts().downstream === 20);
  assert.equal(await raw('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n'), '', 'one too many');
  assert.equal(counted('gateway_connections_overflow'), 1);
  for (const s of sockets) s.destroy();
  await until('they are gone', () => edge.counts().downstream === 0);

  const slow = await raw('POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 10\r\n\r\nabc');
  assert.match(slow, /^HTTP\/1\.1 408 /);
  assert.equal(counted('request_timeout'), 1);
});

test('a client that ends within its handshake is let go', async (t) => {
  for (const s of opened) s.destroy();
  await until('earlier connections are gone', () => edge.counts().downstream === 0);
  const late = counted('inbound_tls_handshake_timeout') + counted('detect_timeout');
  const hello = await clientHello(t, 'h2', 'a.test');
  for (const sent of [7, hello.length]) {
    const socket = net.connect({ port: TLS, host: EDGE, allowHalfOpen: true });
    socket.on('error', () => {});
    await new Promise((resolve) => socket.write(hello.subarray(0, sent), resolve));
    await until('it is admitted', () => edge.counts().downstream === 1);
    if (sent === hello.length) await new Promise((resolve) => socket.once('data', resolve));
    socket.resume().end();
    await until(`it is let go after ${sent} bytes`, () => edge.counts().downstream === 0);
    socket.destroy();
  }
  assert.equal(counted('inbound_tls_handshake_timeout') + counted('detect_timeout'), late);
});

test('a drain finishes what runs and takes nothing new', async () => {
  const open = await secure('a.test', { ALPNProtocols: ['h2'] });
  const session = http2.connect(`https://a.test:${TLS}`, { createConnection: () => open });
  const stream = session.request({ ':path': '/', ':method': 'POST', ':authority': 'a.test' });
  stream.write('half');
  await until('it runs', () => edge.core.exchanges.size === 1);
  const drained = edge.drain(10_000);
  await assert.rejects(ask('/'), /ECONNREFUSED/);
  let status = 0;
  stream.on('response', (h) => {
    status = h[':status']!;
  });
  stream.end(' and half');
  let body = '';
  for await (const chunk of stream) body += chunk;
  assert.equal(status, 200);
  assert.equal(JSON.parse(body).size, 13);
  await drained;
  session.destroy();
});
