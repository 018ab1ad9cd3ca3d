import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { AuthorizationAction, AuthorizationPolicySchema, Protocol, ReferencesSchema, SpanProtocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';
import { ReferenceIndex } from './references.ts';

interface ZipkinSpan {
  traceId: string;
  id: string;
  parentId?: string;
  kind: string;
  name: string;
  timestamp: number;
  duration: number;
  localEndpoint: Record<string, unknown>;
  remoteEndpoint?: Record<string, unknown>;
  tags: Record<string, string>;
}

async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = Date.now() + 60_000; !done(); await sleep(20)) if (Date.now() > end) assert.fail(`never: ${what}`);
}

async function listening(t: TestContext, server: Server, host: string, port = 0): Promise<number> {
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A Zipkin collector. */
function collector() {
  const spans: ZipkinSpan[] = [];
  const calls: { path: string; type: string; traceparent: string }[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request
      .on('data', (c) => chunks.push(c))
      .on('end', () => {
        const { 'content-type': type = '', traceparent = '' } = request.headers;
        calls.push({ path: request.url ?? '', type, traceparent: String(traceparent) });
        spans.push(...JSON.parse(Buffer.concat(chunks).toString()));
        response.writeHead(202).end();
      });
  });
  return { spans, calls, server };
}

/** An application that keeps the traceparent of each request, and answers 503 as often as it is told. */
async function application(t: TestContext, host: string) {
  const seen: string[] = [];
  const b3: unknown[][] = [];
  const state = { failures: 0 };
  const server = http.createServer((request, response) => {
    const { headers } = request;
    seen.push(String(headers.traceparent));
    b3.push([headers['x-b3-traceid'], headers['x-b3-spanid'], headers['x-b3-sampled']]);
    response.writeHead(state.failures-- > 0 ? 503 : 200).end('hello');
  });
  return { seen, b3, state, host, port: await listening(t, server, host) };
}

function ask(host: string, path: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host, port: 9000, path, headers, agent: false }, (response) =>
      response.resume().on('end', () => resolve(response.statusCode ?? 0)),
    );
    request.on('error', reject);
  });
}

const T = '4bf92f3577b34da6a3ce929d0e0e4736';
const S = '00f067aa0ba902b7';
const from = (spans: ZipkinSpan[], path: string) => spans.filter((s) => s.tags['http.url'].endsWith(path));

/** Where the rules of the tests stand. */
function places(): ReferenceIndex {
  const references = new ReferenceIndex();
  const at = (ref: string, line: number) => ({ ref, kind: 'K', namespace: 'n', name: 'x', file: '/mesh/a.yaml', line });
  const entries = [at('http9000', 11), at('to9000', 12), at('policy#0', 21)];
  references.update(new Map([['own', create(ReferencesSchema, { epoch: 1n, entries })]]));
  return references;
}

test('two spans of a hop, one below the other, with what decided; retries are seen by the called one alone', async (t) => {
  const network = '127.13.61';
  const app = await application(t, `${network}.3`);
  const { spans, calls, server } = collector();
  const port = await listening(t, server, `${network}.4`);
  const deny = create(AuthorizationPolicySchema, {
    ...{ ref: 'policy', name: 'no', namespace: 'test', action: AuthorizationAction.DENY },
    rules: [{ ref: 'policy#0', to: [{ paths: ['/denied'] }] }],
  });
  const target = { protocol: SpanProtocol.ZIPKIN_JSON, host: `${network}.4`, port, path: '/api/v2/spans' };
  const { frontAddress: host, frontSeen } = await testPair(t, {
    ...{ network, references: places(), policies: [deny] },
    tracing: { samplingPercent: 100, maxPathTagLength: 40, collector: { ...target, timeoutMs: 5000 } },
    ports: [
      {
        ...{ port: 9000, protocol: Protocol.HTTP, appHost: app.host, appPort: app.port },
        route: { retry: { attempts: 2, retryOn: ['5xx'] } },
      },
    ],
  });
  assert.equal(await ask(host, '/one', { 'user-agent': 'test', 'x-request-id': 'r1' }), 200);
  assert.equal(await ask(host, '/joined', { traceparent: `00-${T}-${S}-01` }), 200);
  assert.equal(await ask(host, '/untold', { traceparent: `00-${T}-${S}-00` }), 200);
  assert.equal(await ask(host, '/b3', { 'x-b3-traceid': T, 'x-b3-spanid': S, 'x-b3-sampled': '1' }), 200);
  assert.equal(await ask(host, '/denied'), 403);
  assert.equal(await ask(host, `/${'x'.repeat(99)}`), 200);
  app.state.failures = 1;
  assert.equal(await ask(host, '/retried'), 200);
  await until('all spans', () => spans.length >= 13);

  const [client, called] = from(spans, '/one').sort((a) => (a.kind === 'CLIENT' ? -1 : 1));
  assert.deepEqual([client.kind, called.kind, client.traceId === called.traceId], ['CLIENT', 'SERVER', true]);
  assert.deepEqual(['parentId' in client, called.parentId], [false, client.id]);
  assert.equal(
    app.seen[0],
    `00-${client.traceId}-${called.id}-01`,
    'the application goes on from the span of its proxy',
  );
  assert.equal(client.name, 'app.test.svc.cluster.local:9000/*');
  assert.deepEqual(client.localEndpoint, { serviceName: 'front.test', ipv4: `${network}.1` });
  assert.deepEqual(
    [client.remoteEndpoint?.serviceName, called.remoteEndpoint?.serviceName, called.localEndpoint.serviceName],
    ['back.test', 'front.test', 'back.test'],
  );
  assert.ok(client.duration >= 1 && Math.abs(client.timestamp / 1000 - Date.now()) < 60_000);
  const { tags } = client;
  const some = Object.fromEntries(Object.entries(tags).filter(([name]) => !/^(istio|weft|peer|node)/.test(name)));
  assert.deepEqual(some, {
    ...{ component: 'proxy', 'guid:x-request-id': 'r1', user_agent: 'test', response_flags: '-' },
    ...{ 'http.method': 'GET', 'http.url': `http://${host}:9000/one`, 'http.protocol': 'HTTP/1.1' },
    ...{ 'http.status_code': '200', request_size: '0', response_size: '5' },
    upstream_cluster: 'outbound|9000||app.test.svc.cluster.local',
    'upstream_cluster.name': 'outbound|9000||app.test.svc.cluster.local',
  });
  assert.deepEqual([tags['istio.namespace'], tags['istio.mesh_id']], ['test', 'test']);
  assert.equal(tags.node_id, `sidecar~${network}.1~front-0.test~test.svc.`);
  assert.deepEqual(
    [tags['weft.decision.route'], tags['weft.decision.destination'], tags['weft.decision.epoch']],
    ['http9000 /mesh/a.yaml:11', 'to9000 /mesh/a.yaml:12', '1'],
  );

  const joined = from(spans, '/joined');
  assert.deepEqual(
    joined.map((s) => s.traceId),
    [T, T],
  );
  assert.equal(joined.find((s) => s.kind === 'CLIENT')?.parentId, S, 'the parent is the application that called');
  assert.deepEqual(from(spans, '/untold'), [], "the caller's decision holds");
  assert.equal(app.seen[2].slice(-3), '-00');
  assert.deepEqual(app.b3[0], [client.traceId, called.id, '1'], 'for applications that pass on B3 alone');
  assert.equal(app.b3[2][2], '0');
  assert.equal(from(spans, '/b3').find((s) => s.kind === 'CLIENT')?.parentId, S);
  const denied = from(spans, '/denied').find((s) => s.kind === 'SERVER');
  assert.deepEqual(
    [denied?.tags['http.status_code'], denied?.tags['weft.decision.authorization'], denied?.tags.error],
    ['403', 'policy#0 /mesh/a.yaml:21', undefined],
  );
  assert.equal(from(spans, `http://${host}:9000/${'x'.repeat(39)}`).length, 2, 'long paths are cut');

  const tries = from(spans, '/retried');
  const first = tries.find((s) => s.kind === 'CLIENT');
  const others = tries.filter((s) => s.kind === 'SERVER');
  assert.deepEqual([tries.length, first?.tags.retries, first?.tags.error], [3, '1', undefined]);
  assert.deepEqual(
    others.map((s) => s.parentId),
    [first?.id, first?.id],
  );
  assert.notEqual(others[0].id, others[1].id);
  assert.deepEqual(others.map((s) => s.tags.error).sort(), ['true', undefined]);
  assert.ok(
    calls.every((c) => c.path === '/api/v2/spans' && c.type === 'application/json' && c.traceparent.endsWith('-00')),
  );
  await until('they are counted', () => (frontSeen.counts.get('spans_exported') ?? 0) >= 5);
});

test('a collector of the mesh is reached by the mesh, and tells nothing of what it is told', async (t) => {
  const network = '127.13.62';
  const app = await application(t, `${network}.3`);
  const { spans, calls, server } = collector();
  const port = await listening(t, server, `${network}.4`);
  const cluster = 'outbound|9411||app.test.svc.cluster.local';
  const {
    frontAddress: host,
    backSeen,
    front,
  } = await testPair(t, {
    network,
    tracing: {
      ...{ samplingPercent: 100, maxPathTagLength: 256, withoutIstioTags: true },
      collector: {
        ...{ protocol: SpanProtocol.ZIPKIN_JSON, host: 'zipkin', port: 9411, path: '/api/v2/spans' },
        ...{ cluster, timeoutMs: 5000 },
      },
    },
    ports: [
      { port: 9000, protocol: Protocol.HTTP, appHost: app.host, appPort: app.port },
      { port: 9411, protocol: Protocol.HTTP, appHost: `${network}.4`, appPort: port },
    ],
  });
  await ask(host, '/one');
  // The called one's proxy has no such cluster: its spans wait.
  await until('the span of the caller', () => spans.length === 1);
  const told = backSeen.requests.filter((r) => r.path === '/api/v2/spans');
  assert.deepEqual([told.length, told[0].mtls, told[0].traceparent.slice(-3)], [1, true, '-00']);
  assert.equal(calls[0].traceparent.slice(-3), '-00');
  assert.deepEqual(
    Object.keys(spans[0].tags).filter((name) => name.startsWith('istio.')),
    [],
  );
  await ask(host, '/two');
  await front.drain(2000);
  assert.equal(spans.length, 2, 'what waits is sent at the end');
});

test('OTLP by HTTP and by gRPC; a collector that is away, refuses or asks to wait touches no request', async (t) => {
  const network = '127.13.63';
  const app = await application(t, `${network}.3`);
  const bodies: { type: string; path: string; body: Buffer; te?: string }[] = [];
  const answers = [503, 400];
  const otlp = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request
      .on('data', (c) => chunks.push(c))
      .on('end', () => {
        const status = answers.shift() ?? 200;
        if (status === 200)
          bodies.push({
            type: String(request.headers['content-type']),
            path: request.url ?? '',
            body: Buffer.concat(chunks),
          });
        response.writeHead(status).end();
      });
  });
  const tracing = (protocol: SpanProtocol, port: number) => ({
    ...{ samplingPercent: 100, maxPathTagLength: 256 },
    collector: { protocol, host: `${network}.4`, port, path: '/v1/traces', timeoutMs: 5000 },
  });
  const port = await listening(t, http.createServer(), `${network}.4`);
  const pair = (part: string, protocol: SpanProtocol, to: number, limits = {}) =>
    testPair(t, {
      ...{ network: `127.13.${part}`, back: true, limits, tracing: tracing(protocol, to) },
      ports: [{ port: 9000, protocol: Protocol.HTTP, appHost: app.host, appPort: app.port }],
    });
  // Nobody is there yet.
  const free = port + 1 > 65_535 ? port - 1 : port + 1;
  const one = await pair('64', SpanProtocol.OTLP_HTTP, free, { queuedSpans: 2 });
  for (let i = 0; i < 3; i++) assert.equal(await ask(one.frontAddress, `/n${i}`), 200);
  assert.equal(one.frontSeen.counts.get('spans_dropped'), 1, 'the queue is bounded');
  await until('a try that failed', () => (one.frontSeen.counts.get('spans_export_failed') ?? 0) > 0);
  await listening(t, otlp, `${network}.4`, free);
  await until(
    'an answer that is final',
    () => (one.frontSeen.counts.get('spans_exported') ?? 0) + (one.backSeen.counts.get('spans_exported') ?? 0) > 0,
  );
  assert.deepEqual([bodies[0].type, bodies[0].path], ['application/x-protobuf', '/v1/traces']);
  assert.ok(bodies[0].body.includes('service.name') && bodies[0].body.includes('app.test.svc.cluster.local:9000/*'));
  // Of the two sides one was told 400: that batch is gone.
  const dropped = () => [one.frontSeen, one.backSeen].map((s) => s.counts.get('spans_dropped') ?? 0);
  await until('the refused batch is dropped', () => dropped()[0] + dropped()[1] >= 3);

  const messages: { path: string; type: string; te: string; body: Buffer }[] = [];
  const grpc = http2.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request
      .on('data', (c: Buffer) => chunks.push(c))
      .on('end', () => {
        const { 'content-type': type, te } = request.headers;
        messages.push({ path: request.url, type: String(type), te: String(te), body: Buffer.concat(chunks) });
        response.writeHead(200, { 'content-type': 'application/grpc' });
        response.addTrailers({ 'grpc-status': messages.length === 1 ? '14' : '0' });
        response.end(Buffer.alloc(5));
      });
  });
  const grpcPort = await listening(t, grpc as unknown as Server, `${network}.4`);
  const two = await pair('65', SpanProtocol.OTLP_GRPC, grpcPort);
  assert.equal(await ask(two.frontAddress, '/g'), 200);
  const exported = () => [two.frontSeen, two.backSeen].map((s) => s.counts.get('spans_exported') ?? 0);
  await until('both spans', () => exported()[0] === 1 && exported()[1] === 1);
  assert.equal(messages.length, 3, 'the one that was told UNAVAILABLE came again');
  for (const { path, type, te, body } of messages) {
    assert.equal(path, '/opentelemetry.proto.collector.trace.v1.TraceService/Export');
    assert.deepEqual([type, te, body[0], body.readUInt32BE(1)], ['application/grpc', 'trailers', 0, body.length - 5]);
  }
});
