/** CUSTOM policies through a proxy: authorizers by HTTP and by gRPC, and what becomes of requests where they do not answer. */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import {
  AuthorizationAction as Action,
  type AuthorizationPolicySchema,
  type CheckRequest,
  CheckRequestSchema,
  CheckResponseSchema,
  EndpointsSchema,
  type ExternalAuthorizerSchema,
  PartSchema,
  Protocol,
} from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { type TestPair, testPair } from '../test-pair.ts';

const PORT = 8080;
const CLUSTER = 'outbound|9000||authz.test';

type Policy = MessageInitShape<typeof AuthorizationPolicySchema>;

interface Scene {
  readonly pair: TestPair;
  /** What the application was sent. */
  readonly seen: { method: string; url: string; headers: http.IncomingHttpHeaders; body: string }[];
  apply(authorizer: MessageInitShape<typeof ExternalAuthorizerSchema>, policies: Policy[], port: number): void;
  ask(o?: { method?: string; path?: string; headers?: http.OutgoingHttpHeaders; body?: string | Buffer }): Promise<{
    status: number;
    headers: http.IncomingHttpHeaders;
    body: string;
  }>;
  count(name: string): number;
}

const custom: Policy = {
  ...{ name: 'ask', namespace: 'test', action: Action.CUSTOM, provider: 'ext' },
  rules: [{ to: [{ paths: ['/asked*'] }] }],
};

async function scene(t: TestContext, network: string): Promise<Scene> {
  const seen: Scene['seen'] = [];
  const app = http.createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (c: Buffer) => chunks.push(c));
    req.on('end', () => {
      seen.push({ method: req.method!, url: req.url!, headers: req.headers, body: String(Buffer.concat(chunks)) });
      res.end('app');
    });
  });
  const appPort = await listening(t, app, `${network}.3`);
  const pair = await testPair(t, {
    network,
    ports: [{ port: PORT, protocol: Protocol.HTTP, appHost: `${network}.3`, appPort }],
  });
  const back = pair.back!;
  const first = back.core.snapshot!;
  let epoch = 1n;
  return {
    pair,
    seen,
    apply(authorizer, policies, port) {
      const all = {
        ...{ name: 'ext', cluster: CLUSTER, authority: 'authz.test:9000' },
        timeoutMs: 5000,
        statusOnError: 403,
        ...authorizer,
      };
      const parts = [
        create(PartSchema, { kind: { case: 'authorization', value: { policies, authorizers: [all] } } }),
        create(PartSchema, { kind: { case: 'cluster', value: { name: CLUSTER, host: 'authz.test', port: 9000 } } }),
      ];
      const endpoints = create(EndpointsSchema, {
        ...{ host: 'authz.test', port: 9000 },
        endpoints: [{ instance: 'authz-0', address: `${network}.4`, port, workload: 'authz', namespace: 'test' }],
      });
      const { authorization, clusters } = buildSnapshot(parts, [endpoints]);
      back.apply({ ...first, authorization, clusters }, ++epoch);
    },
    ask(o = {}) {
      return new Promise((resolve, reject) => {
        const { method = 'GET', path = '/asked', headers = {}, body } = o;
        const req = http.request(
          { host: pair.frontAddress, port: PORT, method, path, headers: { host: 'app', ...headers }, agent: false },
          (res) => {
            const chunks: Buffer[] = [];
            res.on('data', (c: Buffer) => chunks.push(c));
            res.on('end', () =>
              resolve({ status: res.statusCode!, headers: res.headers, body: String(Buffer.concat(chunks)) }),
            );
          },
        );
        req.on('error', reject);
        req.end(body);
      });
    },
    count: (name) => pair.backSeen.counts.get(name) ?? 0,
  };
}

async function listening(t: TestContext, server: net.Server | http.Server | http2.Http2Server, host: string) {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => {
    server.close();
    if (server instanceof http.Server) server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

type Said = { status?: number; headers?: http.OutgoingHttpHeaders; body?: string };
type Asked = { method: string; url: string; headers: http.IncomingHttpHeaders; body: string };

async function httpAuthorizer(t: TestContext, host: string, say: (asked: Asked) => Said) {
  const asked: Asked[] = [];
  const server = http.createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (c: Buffer) => chunks.push(c));
    req.on('end', () => {
      const one = { method: req.method!, url: req.url!, headers: req.headers, body: String(Buffer.concat(chunks)) };
      asked.push(one);
      const { status = 200, headers = {}, body = '' } = say(one);
      res.writeHead(status, headers).end(body);
    });
  });
  return { asked, port: await listening(t, server, host) };
}

/** Answers each call with the bytes given; `undefined`: not at all. */
async function grpcAuthorizer(
  t: TestContext,
  host: string,
  say: (asked: CheckRequest) => Uint8Array | undefined,
  grpcStatus: () => string = () => '0',
) {
  const asked: CheckRequest[] = [];
  const server = http2.createServer();
  server.on('session', (s) => t.after(() => s.destroy()));
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    const chunks: Buffer[] = [];
    stream.on('data', (c: Buffer) => chunks.push(c));
    stream.on('end', () => {
      const one = fromBinary(CheckRequestSchema, Buffer.concat(chunks).subarray(5));
      asked.push(one);
      const bytes = say(one);
      if (!bytes) return;
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': grpcStatus() }));
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(bytes.length, 1);
      stream.end(Buffer.concat([prefix, bytes]));
    });
  });
  return { asked, port: await listening(t, server, host) };
}

const answer = (m: MessageInitShape<typeof CheckResponseSchema>): Uint8Array =>
  toBinary(CheckResponseSchema, create(CheckResponseSchema, m));

test('an authorizer by HTTP: told of the request, believed in what it says, asked of what rules match alone', async (t) => {
  const s = await scene(t, '127.7.171');
  const ext = await httpAuthorizer(t, '127.7.171.4', ({ url, headers }) =>
    headers['x-key'] === 'good'
      ? { headers: { 'x-user': 'ann', 'x-not-told': 'no', 'x-for-client': 'hello', 'set-cookie': 'a=1' } }
      : { status: 401, headers: { 'www-authenticate': 'Key', 'x-why': url, 'x-secret': 's' }, body: 'no key' },
  );
  const authorizer = {
    pathPrefix: '/check',
    requestHeaders: ['x-key', 'x-trace-*', 'x-forwarded-client-cert'],
    additionalHeaders: [{ name: 'x-mesh', value: 'weft' }],
    upstreamHeaders: ['x-user'],
    denyHeaders: ['x-why'],
    allowHeaders: ['x-for-client', 'set-cookie'],
  };
  s.apply(authorizer, [custom], ext.port);

  const plain = await s.ask({ path: '/free', headers: { 'x-forwarded-client-cert': 'URI=forged' } });
  assert.equal(plain.status, 200);
  assert.equal(ext.asked.length, 0);

  const good = await s.ask({
    path: '/asked/a?b=1',
    headers: {
      'x-key': 'good',
      'x-user': 'root',
      'x-mesh': 'mine',
      'x-trace-id': '7',
      'x-other': 'o',
      authorization: 'A',
    },
  });
  assert.equal(good.status, 200);
  assert.equal(good.headers['x-for-client'], 'hello');
  assert.deepEqual(good.headers['set-cookie'], ['a=1']);
  const { method, url, headers } = ext.asked[0];
  assert.deepEqual([method, url, headers.host], ['GET', '/check/asked/a?b=1', 'app']);
  assert.equal(headers['x-mesh'], 'weft');
  assert.match(
    String(headers['x-forwarded-client-cert']),
    /^By=[^;]+;Hash=[0-9a-f]{64};Subject="";URI=[^,]+\/sa\/front$/,
  );
  assert.equal(headers['x-trace-id'], '7');
  assert.equal(headers.authorization, 'A');
  assert.equal(headers['x-other'], undefined);
  assert.equal(s.seen[1].headers['x-user'], 'ann');
  assert.equal(s.seen[1].headers['x-not-told'], undefined);

  const bad = await s.ask({ method: 'POST', path: '/asked', body: 'hello' });
  assert.deepEqual([bad.status, bad.body], [401, 'no key']);
  assert.equal(bad.headers['www-authenticate'], 'Key');
  assert.equal(bad.headers['x-why'], '/check/asked');
  assert.equal(bad.headers['x-secret'], undefined);
  assert.equal(ext.asked[1].body, '');
  assert.equal(s.seen.length, 2);
  const record = s.pair.backSeen.requests.at(-1)!;
  assert.deepEqual([record.flags, record.details, record.authzPolicy], ['UAEX', 'ext_authz_denied', 'test/ask']);
  assert.deepEqual([s.count('ext_authz_ok'), s.count('ext_authz_denied')], [1, 1]);
});

test('CUSTOM, then DENY, then ALLOW: a yes opens nothing that they close, and they see what it added', async (t) => {
  const s = await scene(t, '127.7.172');
  const ext = await httpAuthorizer(t, '127.7.172.4', () => ({ headers: { 'x-role': 'guest' } }));
  const when = (value: string) => [{ key: 'request.headers[x-role]', values: [value] }];
  const deny = { name: 'd', namespace: 'test', action: Action.DENY, rules: [{ to: [{ paths: ['/asked/denied'] }] }] };
  const allow = { name: 'a', namespace: 'test', action: Action.ALLOW, rules: [{ when: when('guest') }] };
  s.apply({ upstreamHeaders: ['x-role'] }, [allow, custom, deny], ext.port);
  assert.equal((await s.ask({ path: '/asked/denied' })).status, 403);
  assert.equal(ext.asked.length, 1, 'asked before DENY is looked at');
  assert.equal((await s.ask({ path: '/asked/x' })).status, 200);
  assert.equal((await s.ask({ path: '/free', headers: { 'x-role': 'other' } })).status, 403);
  // What the client claims is replaced by what the authorizer says.
  s.apply({ upstreamHeaders: ['x-role'] }, [custom, { ...allow, rules: [{ when: when('admin') }] }], ext.port);
  assert.equal((await s.ask({ path: '/asked/x', headers: { 'x-role': 'admin' } })).status, 403);
  // Nobody to ask is known.
  s.apply({ name: 'another' }, [custom], ext.port);
  assert.equal((await s.ask()).status, 403);
});

test('bodies: as much as the authorizer may see, whole or refused; the application gets all', async (t) => {
  const s = await scene(t, '127.7.173');
  const ext = await httpAuthorizer(t, '127.7.173.4', ({ body }) => ({ status: body.startsWith('ok') ? 200 : 403 }));
  s.apply({ maxBodyBytes: 100_000 }, [custom], ext.port);
  const most = `ok${'x'.repeat(99_998)}`;
  assert.equal((await s.ask({ method: 'POST', body: most })).status, 200);
  assert.equal(ext.asked[0].body, most);
  assert.equal(ext.asked[0].headers['x-envoy-auth-partial-body'], 'false');
  assert.equal(s.seen[0].body, most);
  assert.equal((await s.ask({ method: 'POST', body: `${most}y` })).status, 413);
  assert.equal(ext.asked.length, 1);
  assert.equal((await s.ask({ method: 'POST', body: 'no' })).status, 403);
  assert.equal((await s.ask({ method: 'POST', body: 'ok', headers: { expect: '100-continue' } })).status, 200);
  s.apply({ maxBodyBytes: 10, partialBody: true }, [custom], ext.port);
  assert.equal((await s.ask({ method: 'POST', body: most })).status, 200);
  assert.equal(ext.asked.at(-1)!.body, most.slice(0, 10));
  assert.equal(ext.asked.at(-1)!.headers['x-envoy-auth-partial-body'], 'true');
  assert.equal(s.seen.at(-1)!.body, most);
});

test('no answer: down, slow, broken, an error of its own. Closed by default, open only where that is said', async (t) => {
  const s = await scene(t, '127.7.174');
  const ext = await httpAuthorizer(t, '127.7.174.4', ({ url }) => ({ status: Number(url.split('/').at(-1)) }));
  const silent = net.createServer((socket) => void socket.on('error', () => {}).on('data', () => {}));
  const garbage = net.createServer((socket) => void socket.on('error', () => {}).on('data', () => socket.end('yes\n')));
  const endless = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n');
      socket.write(Buffer.alloc(1_000_000));
    });
  });
  const ports: [string, number][] = [['down', 1]];
  for (const [name, server] of [
    ['silent', silent],
    ['garbage', garbage],
    ['endless', endless],
  ] as const) {
    const sockets = new Set<net.Socket>();
    server.on('connection', (c) => sockets.add(c));
    ports.push([name, await listening(t, server, '127.7.174.4')]);
    t.after(() => {
      for (const c of sockets) c.destroy();
    });
  }
  for (const [name, port] of ports) {
    s.apply({ timeoutMs: 1500, statusOnError: 503 }, [custom], port);
    assert.equal((await s.ask()).status, 503, name);
    s.apply({ timeoutMs: 1500, failOpen: true }, [custom], port);
    assert.equal((await s.ask()).status, 200, `${name}, failOpen`);
  }
  assert.equal(s.count('ext_authz_timeout'), 2);
  assert.equal(s.count('ext_authz_failure_mode_allowed'), 4);
  s.apply({}, [custom], ext.port);
  // An error is no answer; whatever else is not 200 is a no.
  assert.equal((await s.ask({ path: '/asked/500' })).status, 403);
  assert.match(s.pair.backSeen.requests.at(-1)!.details, /^ext_authz_error\{answered_500\}$/);
  for (const status of [201, 204, 301, 404, 429]) {
    assert.equal((await s.ask({ path: `/asked/${status}` })).status, status);
  }
  s.apply({ failOpen: true }, [custom], ext.port);
  assert.equal((await s.ask({ path: '/asked/429' })).status, 429, 'a no is no failure');
  assert.equal((await s.ask({ path: '/asked/500' })).status, 200);
});

test('an authorizer by gRPC: attributes, headers set and removed, refusals of its own form', async (t) => {
  const s = await scene(t, '127.7.175');
  const ext = await grpcAuthorizer(t, '127.7.175.4', ({ attributes }) => {
    const path = attributes!.request!.http!.path;
    if (path.startsWith('/asked/no'))
      return answer({
        status: { code: 7 },
        httpResponse: {
          case: 'deniedResponse',
          value: { status: { code: 302 }, headers: [{ header: { key: 'Location', value: '/login' } }], body: 'go' },
        },
      });
    if (path === '/asked/plain') return answer({ status: { code: 16 } });
    const set = (key: string, value: string, more = {}) => ({ header: { key, value }, ...more });
    return answer({
      status: { code: 0 },
      httpResponse: {
        case: 'okResponse',
        value: {
          headers: [
            set('X-User', 'ann'),
            set('x-list', 'b', { append: { value: true } }),
            set('x-absent', 'new', { appendAction: 1 }),
            set('x-there', 'ours', { appendAction: 3 }),
          ],
          headersToRemove: ['x-gone'],
          responseHeadersToAdd: [set('x-back', 'y')],
          queryParametersToSet: [{ key: 'q', value: 'a b' }],
          queryParametersToRemove: ['drop'],
        },
      },
    });
  });
  s.apply({ grpc: true, maxBodyBytes: 100 }, [custom], ext.port);
  const ok = await s.ask({
    method: 'POST',
    path: '/asked/yes?drop=1&keep=2&q=old',
    body: 'text',
    headers: { 'x-user': 'root', 'x-list': 'a', 'x-gone': '1', 'x-absent': 'old' },
  });
  assert.equal(ok.status, 200);
  assert.equal(ok.headers['x-back'], 'y');
  const got = s.seen[0];
  assert.deepEqual([got.url, got.body], ['/asked/yes?keep=2&q=a%20b', 'text']);
  assert.deepEqual(
    ['x-user', 'x-list', 'x-gone', 'x-absent', 'x-there'].map((name) => got.headers[name]),
    ['ann', 'a, b', undefined, 'old', undefined],
  );
  const { source, destination, request } = ext.asked[0].attributes!;
  assert.equal(source!.principal, 'spiffe://cluster.local/ns/test/sa/front');
  assert.equal(source!.address!.socketAddress!.address, '127.7.175.1');
  assert.equal(destination!.principal, 'spiffe://cluster.local/ns/test/sa/back');
  assert.deepEqual(destination!.address!.socketAddress!.portValue, PORT);
  const { method, path, host, body, size, headers } = request!.http!;
  assert.deepEqual([method, path, host, body, size], ['POST', '/asked/yes?drop=1&keep=2&q=old', 'app', 'text', 4n]);
  assert.ok(headers.some((h) => h.key === 'x-user' && h.value === 'root'));
  assert.ok(Math.abs(Number(request!.time!.seconds) - Date.now() / 1000) < 60);

  const no = await s.ask({ path: '/asked/no' });
  assert.deepEqual([no.status, no.headers.location, no.body], [302, '/login', 'go']);
  assert.equal((await s.ask({ path: '/asked/plain' })).status, 403);
});

test('an authorizer that lies: nothing but a clear yes is one', async (t) => {
  const s = await scene(t, '127.7.176');
  let bytes: Uint8Array | undefined;
  let status = '0';
  const ext = await grpcAuthorizer(
    t,
    '127.7.176.4',
    () => bytes,
    () => status,
  );
  s.apply({ grpc: true, timeoutMs: 1500 }, [custom], ext.port);
  const yes = answer({ status: { code: 0 } });
  const refused = async (what: string, say: Uint8Array | undefined, grpcStatus = '0'): Promise<void> => {
    bytes = say;
    status = grpcStatus;
    assert.equal((await s.ask()).status, 403, what);
  };
  const adds = (key: string, value: string): Uint8Array =>
    answer({
      status: { code: 0 },
      httpResponse: { case: 'okResponse', value: { headers: [{ header: { key, value } }] } },
    });
  await refused('silence', undefined);
  await refused('an empty message', new Uint8Array(0));
  await refused('no message', Buffer.from('no protobuf at all'));
  await refused('a yes with an error beside it', yes, '13');
  await refused(
    'a yes with a denial in it',
    answer({ status: { code: 0 }, httpResponse: { case: 'deniedResponse', value: {} } }),
  );
  await refused('another path', adds(':path', '/admin'));
  await refused('another host', adds('host', 'other'));
  await refused('a second request', adds('x-a', '1\r\ncontent-length: 0\r\n\r\nGET /admin HTTP/1.1'));
  await refused('another length', adds('content-length', '0'));
  await refused('no name', adds('', 'x'));
  await refused('our headers', adds('x-weft-source', 'x'));
  await refused('an identity', adds('x_forwarded_client_cert', 'URI=spiffe://cluster.local/ns/test/sa/admin'));
  await refused(
    'removal of framing',
    answer({
      status: { code: 0 },
      httpResponse: { case: 'okResponse', value: { headersToRemove: ['Transfer-Encoding'] } },
    }),
  );
  assert.equal(s.seen.length, 0);
  bytes = yes;
  status = '0';
  assert.equal((await s.ask()).status, 200);
});

test('connections: an authorizer by gRPC is asked of them, one by HTTP cannot be; a later policy ends what it did not see', async (t) => {
  const echo = net.createServer((socket) => socket.on('error', () => {}).pipe(socket));
  const appPort = await listening(t, echo, '127.7.177.3');
  const pair = await testPair(t, {
    network: '127.7.177',
    ports: [{ port: 7000, protocol: Protocol.TCP, appHost: '127.7.177.3', appPort }],
  });
  const back = pair.back!;
  const first = back.core.snapshot!;
  let yes = true;
  const ext = await grpcAuthorizer(t, '127.7.177.4', () => answer({ status: { code: yes ? 0 : 7 } }));
  let epoch = 1n;
  const apply = (authorizer: MessageInitShape<typeof ExternalAuthorizerSchema>, policies: Policy[]): void => {
    const all = { ...{ name: 'ext', cluster: CLUSTER, authority: 'authz.test' }, timeoutMs: 5000, ...authorizer };
    const parts = [
      create(PartSchema, { kind: { case: 'authorization', value: { policies, authorizers: [all] } } }),
      create(PartSchema, { kind: { case: 'cluster', value: { name: CLUSTER, host: 'authz.test', port: 9000 } } }),
    ];
    const endpoints = create(EndpointsSchema, {
      ...{ host: 'authz.test', port: 9000 },
      endpoints: [
        { instance: 'authz-0', address: '127.7.177.4', port: ext.port, workload: 'authz', namespace: 'test' },
      ],
    });
    const { authorization, clusters } = buildSnapshot(parts, [endpoints]);
    back.apply({ ...first, authorization, clusters }, ++epoch);
  };
  const open = (): Promise<{ socket: net.Socket; echoed: boolean; closed: Promise<void> }> => {
    const socket = net.connect(7000, pair.frontAddress);
    t.after(() => socket.destroy());
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    return new Promise((resolve) => {
      socket.once('data', () => resolve({ socket, echoed: true, closed }));
      socket.once('close', () => resolve({ socket, echoed: false, closed }));
      socket.write('hello');
    });
  };
  const all = { ...custom, rules: [{ to: [{ ports: ['7000'] }] }] };
  apply({ grpc: true }, [all]);
  const kept = await open();
  assert.equal(kept.echoed, true);
  const { source, request } = ext.asked[0].attributes!;
  assert.equal(source!.principal, 'spiffe://cluster.local/ns/test/sa/front');
  assert.equal(request!.http, undefined);
  yes = false;
  assert.equal((await open()).echoed, false);
  apply({ grpc: false, failOpen: true }, [all]);
  assert.equal((await open()).echoed, false, 'HTTP has no words for a connection');
  // The one that was let in by this authorizer stays; a policy of another one ends it.
  assert.equal(kept.socket.destroyed, false);
  apply({ name: 'other', grpc: true }, [{ ...all, provider: 'other' }]);
  await kept.closed;
});

test('at a gateway: a login by redirect, headers for the application and for the visitor, and routes by what was added', async (t) => {
  const seen: http.IncomingHttpHeaders[] = [];
  const app = http.createServer((req, res) => {
    seen.push(req.headers);
    res.end(req.url);
  });
  const appPort = await listening(t, app, '127.7.178.3');
  const ext = await httpAuthorizer(t, '127.7.178.4', ({ headers }) =>
    headers.cookie === 's=1'
      ? { headers: { 'x-user': 'ann', 'set-cookie': 's=2' } }
      : { status: 302, headers: { location: 'https://login.test/', 'set-cookie': 'state=x' } },
  );
  const edge = new DataPlane({
    ...{
      address: '127.7.178.1',
      capture: 'explicit',
      bind: {},
      gateway: { host: '127.7.178.1' },
      logger: silentLogger,
    },
    observer: { request() {}, tcpOpen() {}, tcpClose() {}, plaintext() {}, running: () => undefined, count() {} },
    limits: {},
  });
  t.after(() => edge.close());
  const target = 'outbound|80||app.test';
  const authorizers = [
    {
      ...{ name: 'ext', cluster: CLUSTER, authority: 'authz.test', timeoutMs: 5000, statusOnError: 403 },
      ...{ requestHeaders: ['cookie'], upstreamHeaders: ['x-user'], allowHeaders: ['set-cookie'] },
    },
  ];
  const route = { clusters: [{ ref: 'to', cluster: target, weight: 1 }] };
  const http1 = [
    {
      ref: 'ann',
      match: [{ headers: [{ name: 'x-user', value: { kind: { case: 'exact', value: 'ann' } } }] }],
      ...route,
    },
    { ref: 'others', directResponse: { status: 418, body: '' } },
  ];
  const parts = [
    create(PartSchema, { kind: { case: 'authorization', value: { policies: [custom], authorizers } } }),
    create(PartSchema, { kind: { case: 'cluster', value: { name: CLUSTER, host: 'authz.test', port: 9000 } } }),
    create(PartSchema, { kind: { case: 'cluster', value: { name: target, host: 'app.test', port: 80 } } }),
    create(PartSchema, {
      kind: {
        case: 'gateway',
        value: { port: PORT, servers: [{ ref: 's', virtualHosts: [{ host: '*', http: http1 as never }] }] },
      },
    }),
  ];
  const endpoints = [
    { host: 'authz.test', port: 9000, to: { address: '127.7.178.4', port: ext.port } },
    { host: 'app.test', port: 80, to: { address: '127.7.178.3', port: appPort } },
  ].map(({ to, ...e }) => create(EndpointsSchema, { ...e, endpoints: [{ instance: e.host, ...to }] }));
  edge.apply(buildSnapshot(parts, endpoints), 1n);
  await edge.listen();
  const ask = (path: string, headers: Record<string, string> = {}) =>
    new Promise<http.IncomingMessage>((resolve, reject) => {
      const to = { host: '127.7.178.1', port: PORT, path, headers: { host: 'shop.test', ...headers }, agent: false };
      http.get(to, (res) => resolve(res.resume())).on('error', reject);
    });
  const stranger = await ask('/asked', { 'x-user': 'ann' });
  assert.deepEqual([stranger.statusCode, stranger.headers.location], [302, 'https://login.test/']);
  assert.deepEqual(stranger.headers['set-cookie'], ['state=x']);
  assert.equal(ext.asked[0].headers.host, 'shop.test');
  const ann = await ask('/asked', { cookie: 's=1', 'x-user': 'root' });
  assert.deepEqual([ann.statusCode, ann.headers['set-cookie']], [200, ['s=2']]);
  assert.equal(seen[0]['x-user'], 'ann');
  assert.equal((await ask('/free')).statusCode, 418);
  assert.equal(ext.asked.length, 2);
});

test('upgrades and gRPC calls are asked of as what they are; who goes away is asked of no longer', async (t) => {
  const network = '127.7.179';
  const upgraded = http.createServer();
  upgraded.on('upgrade', (_req, socket) => {
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n');
    socket.pipe(socket);
  });
  const appPort = await listening(t, upgraded, `${network}.3`);
  const pair = await testPair(t, {
    network,
    ports: [{ port: PORT, protocol: Protocol.HTTP, appHost: `${network}.3`, appPort }],
  });
  const back = pair.back!;
  const first = back.core.snapshot!;
  let epoch = 1n;
  const apply = (port: number): void => {
    const authorizers = [
      { name: 'ext', cluster: CLUSTER, authority: 'authz.test', timeoutMs: 60_000, maxBodyBytes: 10 },
    ];
    const parts = [
      create(PartSchema, { kind: { case: 'authorization', value: { policies: [custom], authorizers } } }),
      create(PartSchema, { kind: { case: 'cluster', value: { name: CLUSTER, host: 'authz.test', port: 9000 } } }),
    ];
    const to = [{ instance: 'authz-0', address: `${network}.4`, port }];
    const endpoints = create(EndpointsSchema, { host: 'authz.test', port: 9000, endpoints: to });
    const { authorization, clusters } = buildSnapshot(parts, [endpoints]);
    back.apply({ ...first, authorization, clusters }, ++epoch);
  };
  const ext = await httpAuthorizer(t, `${network}.4`, ({ url }) => ({ status: url.includes('no') ? 401 : 200 }));
  apply(ext.port);
  const upgrade = (path: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = net.connect(PORT, pair.frontAddress);
      t.after(() => socket.destroy());
      let got = '';
      socket.on('error', () => {});
      socket.on('data', (d) => {
        got += d.toString();
        if (/^HTTP.1.1 101.*\r\n\r\nhello$/s.test(got) || /^HTTP.1.1 4/.test(got)) resolve(got);
      });
      socket.write(`GET ${path} HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nhello`);
    });
  assert.match(await upgrade('/asked/chat'), /^HTTP.1.1 101/);
  assert.match(await upgrade('/asked/no'), /^HTTP.1.1 401/);
  assert.deepEqual(
    ext.asked.map((a) => [a.method, a.url]),
    [
      ['GET', '/asked/chat'],
      ['GET', '/asked/no'],
    ],
  );
  const client = http2.connect(`http://${pair.frontAddress}:${PORT}`);
  t.after(() => client.destroy());
  client.on('error', () => {});
  const call = client.request({
    ':method': 'POST',
    ':path': '/asked.no/M',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.end(Buffer.alloc(5));
  const answered = await new Promise<http2.IncomingHttpHeaders>((resolve) => call.on('response', resolve));
  assert.deepEqual([answered[':status'], answered['grpc-status']], [200, '16']);

  // One that says nothing, and a client that has had enough.
  const waiting = new Set<net.Socket>();
  let left: () => void;
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  const silent = net.createServer((socket) => {
    waiting.add(socket);
    socket.on('error', () => {});
    socket.on('data', () => impatient.resetAndDestroy());
    socket.on('close', () => left());
  });
  apply(await listening(t, silent, `${network}.4`));
  t.after(() => {
    for (const socket of waiting) socket.destroy();
  });
  const impatient = net.connect(PORT, pair.frontAddress);
  impatient.on('error', () => {});
  impatient.write('GET /asked HTTP/1.1\r\nhost: app\r\n\r\n');
  await gone;
  assert.equal(pair.backSeen.requests.at(-1)!.flags, 'DC');
});
