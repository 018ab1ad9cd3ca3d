import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { ReferencesSchema } from '@weft/plan';
import { encodePrometheus, Registry } from '@weft/telemetry';
import { LineWriter } from './line-writer.ts';
import { MeshObserver } from './observer.ts';
import { ReferenceIndex } from './references.ts';
import { noDecisions, type RequestRecord, type Running, type TcpRecord, unknownPeer } from './types.ts';

const source = {
  ...unknownPeer(),
  workload: 'cart',
  namespace: 'shop',
  principal: 'spiffe://cluster.local/ns/shop/sa/cart',
};
const destination = {
  ...unknownPeer(),
  workload: 'payment-v1',
  namespace: 'shop',
  version: 'v1',
  principal: 'spiffe://x',
};
const service = { host: 'payment.shop.svc.cluster.local', name: 'payment', namespace: 'shop', port: 80 };

const record = (over: Partial<RequestRecord> = {}): RequestRecord => ({
  reporter: 'source',
  method: 'GET',
  path: '/charge',
  authority: 'payment',
  protocol: 'http',
  httpVersion: 'HTTP/1.1',
  status: 200,
  grpcStatus: -1,
  flags: '',
  details: 'via_upstream',
  durationMs: 4,
  upstreamMs: 3,
  bytesIn: 1,
  bytesOut: 2,
  requestId: 'id',
  traceparent: '',
  parentSpanId: '',
  userAgent: 'test',
  sni: '',
  forwardedFor: '',
  startWallMs: 0,
  source,
  destination,
  service,
  routeRef: 'r1',
  authzRef: '',
  authzPolicy: '',
  verdict: undefined,
  port: 0,
  cluster: 'outbound|80||payment.shop.svc.cluster.local',
  upstreamHost: '10.0.0.2:8080',
  downstreamRemote: '10.0.0.1:4000',
  attempts: 2,
  mtls: true,
  epoch: 3n,
  decisions: noDecisions(),
  ...over,
});

const tcpRecord = (over: Partial<TcpRecord> = {}): TcpRecord => {
  const { reporter, routeRef, authzRef, authzPolicy, cluster, upstreamHost, downstreamRemote, mtls, epoch } = record();
  const common = { reporter, routeRef, authzRef, authzPolicy, cluster, upstreamHost, downstreamRemote, mtls, epoch };
  return {
    ...common,
    source,
    destination,
    service,
    verdict: undefined,
    port: 0,
    sni: '',
    flags: '',
    details: '',
    bytesIn: 0,
    bytesOut: 0,
    startWallMs: 0,
    durationMs: 0,
    decisions: noDecisions(),
    ...over,
  };
};

test('a request becomes a metric, a line with its sources, and an edge counted once', () => {
  const registry = new Registry();
  const references = new ReferenceIndex();
  references.update(
    new Map([
      [
        'own',
        create(ReferencesSchema, {
          entries: [
            {
              ref: 'r1',
              kind: 'VirtualService',
              namespace: 'shop',
              name: 'payment',
              file: 'mesh/routes.yaml',
              line: 9,
            },
            { ref: 'p1', kind: 'AuthorizationPolicy', namespace: 'shop', name: 'payment', field: 'spec.rules[0]' },
          ],
        }),
      ],
    ]),
  );
  const lines: string[] = [];
  const observer = new MeshObserver({ registry, log: (l) => lines.push(l), references });
  const decisions = { ...noDecisions(), route: 'r1', match: 'r1', timeout: 'gone', authorization: 'p1' };
  observer.request(record({ decisions, parentSpanId: 'abc' }));
  observer.request(record({ source: { ...source }, service: { ...service } }));
  observer.request(
    record({ reporter: 'destination', authzRef: 'p1', authzPolicy: 'shop/payment', status: 403, routeRef: '' }),
  );
  const log = lines.map((l) => JSON.parse(l));
  assert.equal(log[0].route_source, 'mesh/routes.yaml:9');
  assert.equal(log[0].retries, 1);
  // A match that is the route, and what nobody wrote, are left out; a rule that is not known any more keeps its name.
  assert.deepEqual(log[0].decisions, {
    route: ['r1', 'mesh/routes.yaml:9'],
    timeout: ['gone', ''],
    authorization: ['p1', 'AuthorizationPolicy/shop/payment#spec.rules[0]'],
  });
  assert.equal(log[0].parent_span, 'abc');
  assert.equal(log[1].decisions, undefined);
  assert.equal(log[0].epoch, 3);
  assert.equal(log[2].policy, 'shop/payment');
  assert.equal(log[2].policy_source, 'AuthorizationPolicy/shop/payment#spec.rules[0]');
  assert.equal(log[2].route_source, null);
  assert.equal(log[2].source_principal, source.principal);
  const text = [...encodePrometheus(registry)].join('');
  assert.match(text, /istio_requests_total\{reporter="source",.*security_policy="unknown".*response_code="200".*\} 2/);
  assert.match(text, /istio_requests_total\{reporter="destination",.*"mutual_tls".*response_code="403".*\} 1/);
  const { deltas } = observer.edges.takeDeltas();
  assert.equal(deltas.length, 1);
  assert.deepEqual(
    [deltas[0].source, deltas[0].destination, deltas[0].requests, deltas[0].mtls],
    ['cart', service.host, 2, true],
  );
});

test('unknown peers, plaintext callers and gauges', () => {
  const observer = new MeshObserver({ registry: new Registry() });
  const key = { reporter: 'source' as const, source, destination, service };
  const running = observer.running(key) as Running;
  running.inFlight++;
  observer.request(record({ reporter: 'destination', source: undefined, mtls: false }));
  const report = observer.edges.takeDeltas();
  assert.equal(report.deltas[0].source, 'unknown');
  assert.deepEqual(
    report.inFlight.map((g) => [g.source, g.mtls, g.inFlight]),
    [['cart', true, 1]],
  );
  running.inFlight--;
  assert.equal(observer.edges.takeDeltas().inFlight[0].inFlight, 0);
  observer.request(record({ source: undefined, destination: undefined, service: undefined, flags: 'NR', status: 404 }));
  assert.equal(observer.edges.takeDeltas().deltas[0].destination, 'unknown');
});

test('TCP: bytes are seen while the connection is open, and added once', () => {
  const registry = new Registry();
  const lines: string[] = [];
  const observer = new MeshObserver({ registry, log: (l) => lines.push(l) });
  const tcp = tcpRecord({ sni: 'db' });
  const sum = (name: string) => {
    const family = registry.families.find((f) => f.name === name);
    return family!.series.reduce((n, s) => n + registry.values[s.slot], 0);
  };
  observer.tcpOpen(tcp);
  tcp.bytesIn = 100;
  tcp.bytesOut = 7;
  observer.flush();
  assert.equal(sum('istio_tcp_received_bytes_total'), 100);
  assert.equal(observer.edges.takeDeltas().inFlight[0].inFlight, 1);
  tcp.bytesIn = 150;
  tcp.flags = 'UF';
  observer.flush();
  observer.tcpClose(tcp);
  observer.flush();
  assert.equal(sum('istio_tcp_received_bytes_total'), 150);
  assert.equal(sum('istio_tcp_sent_bytes_total'), 7);
  assert.equal(sum('istio_tcp_connections_opened_total'), 1);
  assert.equal(sum('istio_tcp_connections_closed_total'), 1);
  assert.equal(observer.openConnections, 0);
  const report = observer.edges.takeDeltas();
  assert.deepEqual([report.deltas[0].code, report.deltas[0].flags, report.inFlight[0].inFlight], [-1, 'UF', 0]);
  assert.equal(JSON.parse(lines[0]).requested_server_name, 'db');
  assert.equal(JSON.parse(lines[0]).method, null);
});

test('the log never waits for its reader: lines past the limit are dropped and counted', async () => {
  const counted: string[] = [];
  const written: string[] = [];
  const waiting: ((error: Error | null, n: number) => void)[] = [];
  const writer = new LineWriter({
    fd: 1,
    maxQueued: 10,
    count: (name) => counted.push(name),
    write: (_fd, data, offset, done) => {
      written.push(data.toString('utf8', offset));
      waiting.push(done);
    },
  });
  writer.line('aaaa\n');
  writer.line('bbbb\n');
  writer.line('cccc\n');
  assert.deepEqual(counted, ['access_log_dropped']);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(written, ['aaaa\nbbbb\n']);
  writer.line('dddd\n');
  const drained = writer.drained();
  waiting.shift()!(null, 5);
  assert.equal(written[1], 'bbbb\n');
  waiting.shift()!(null, 5);
  assert.equal(written[2], 'dddd\n');
  waiting.shift()!(Object.assign(new Error('gone'), { code: 'EPIPE' }), 0);
  await drained;
  writer.line('eeee\n');
  assert.deepEqual(counted, ['access_log_dropped', 'access_log_broken', 'access_log_dropped']);
});

test('what policies were asked about is counted by caller, port, method and template, with what they said', () => {
  const observer = new MeshObserver({ registry: new Registry() });
  const allowed = { allow: true, policy: 'shop/pay', ref: 'rule', details: '' };
  const shadow = { allow: false, policy: 'shop/later', ref: 'later' };
  const at = { reporter: 'destination' as const, port: 8080 };
  observer.request(record());
  for (const path of ['/charge/1', '/charge/2?x=1'])
    observer.request(record({ ...at, path, verdict: { ...allowed, shadow } }));
  observer.request(record({ ...at, verdict: { ...allowed, allow: false }, status: 403 }));
  const audit = ['shop/seen', 'shop/too'];
  observer.request(record({ ...at, port: 9090, verdict: { ...allowed, audit, shadow: { ...shadow, allow: true } } }));
  const connection = tcpRecord({ ...at, source: undefined, verdict: allowed });
  observer.tcpOpen(connection);
  observer.tcpClose(connection);
  const who = (c: { principal: string; source: string }) => c.principal || c.source;
  assert.deepEqual(
    observer.calls
      .takeDeltas()
      .map((c) => [who(c), c.port, c.method, c.path, c.denied, c.policy, c.ref, c.shadowPolicy, c.audit, c.requests]),
    [
      ['cluster.local/ns/shop/sa/cart', 8080, 'GET', '/charge/{*}', false, 'shop/pay', 'rule', 'shop/later', '', 2],
      ['cluster.local/ns/shop/sa/cart', 8080, 'GET', '/charge', true, 'shop/pay', 'rule', '', '', 1],
      ['cluster.local/ns/shop/sa/cart', 9090, 'GET', '/charge', false, 'shop/pay', 'rule', '', audit.join(), 1],
      ['unknown', 8080, '', '', false, 'shop/pay', 'rule', '', '', 1],
    ],
  );
});
