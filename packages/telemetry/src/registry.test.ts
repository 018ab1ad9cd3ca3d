import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bucketIndex, edgeBuckets, istioBuckets, quantile } from './histogram.ts';
import { IstioMetrics, type PeerLabels, unknownWorkload } from './istio.ts';
import { encodePrometheus } from './prometheus.ts';
import { Registry, renderLabels } from './registry.ts';

const peer = (over: Partial<PeerLabels> = {}): PeerLabels => ({
  reporter: 'destination',
  source: {
    ...unknownWorkload,
    workload: 'cart',
    namespace: 'shop',
    principal: 'spiffe://cluster.local/ns/shop/sa/cart',
  },
  destination: {
    ...unknownWorkload,
    workload: 'payment-v1',
    namespace: 'shop',
    version: 'v1',
    canonicalRevision: 'v1',
  },
  service: 'payment.shop.svc.cluster.local',
  serviceName: 'payment',
  serviceNamespace: 'shop',
  security: 'mutual_tls',
  ...over,
});

const scrape = (registry: Registry): string => [...encodePrometheus(registry)].join('');

test('Istio names, labels and buckets come out as Prometheus text', () => {
  const registry = new Registry();
  const metrics = new IstioMetrics(registry);
  const series = metrics.peer(peer());
  assert.equal(metrics.peer(peer()), series);
  series.request('http', 200, -1, '', 7, 0, 1200);
  series.request('http', 200, -1, '', 0.2, 0, 1200);
  series.request('http', 503, -1, 'UF,URX', 4_000_000, 10, 0);
  series.request('grpc', 200, 14, '', 3, 10, 10);
  series.request('grpc', 200, 4_294_967, '', 3, 10, 10);
  const tcp = series.tcp();
  tcp.opened();
  tcp.bytes(10, 20);
  tcp.closed();
  const text = scrape(registry);
  const labels =
    'reporter="destination",source_workload="cart",source_workload_namespace="shop",' +
    'source_principal="spiffe://cluster.local/ns/shop/sa/cart",source_app="unknown",source_version="unknown",' +
    'source_cluster="unknown",source_canonical_service="unknown",source_canonical_revision="unknown",' +
    'destination_workload="payment-v1",destination_workload_namespace="shop",destination_principal="unknown",' +
    'destination_app="unknown",destination_version="v1",destination_cluster="unknown",' +
    'destination_canonical_service="unknown",destination_canonical_revision="v1",' +
    'destination_service="payment.shop.svc.cluster.local",destination_service_name="payment",' +
    'destination_service_namespace="shop",connection_security_policy="mutual_tls"';
  const ok = `${labels},request_protocol="http",response_code="200",response_flags="-"`;
  const lines = new Set(text.split('\n'));
  for (const line of [
    '# TYPE istio_requests_total counter',
    '# TYPE istio_request_duration_milliseconds histogram',
    `istio_requests_total{${ok}} 2`,
    `istio_requests_total{${labels},request_protocol="http",response_code="503",response_flags="UF,URX"} 1`,
    `istio_requests_total{${labels},request_protocol="grpc",response_code="200",grpc_response_status="14",response_flags="-"} 1`,
    `istio_requests_total{${labels},request_protocol="grpc",response_code="200",grpc_response_status="2",response_flags="-"} 1`,
    `istio_request_duration_milliseconds_bucket{${ok},le="0.5"} 1`,
    `istio_request_duration_milliseconds_bucket{${ok},le="5"} 1`,
    `istio_request_duration_milliseconds_bucket{${ok},le="10"} 2`,
    `istio_request_duration_milliseconds_bucket{${ok},le="3600000"} 2`,
    `istio_request_duration_milliseconds_bucket{${ok},le="+Inf"} 2`,
    `istio_request_duration_milliseconds_sum{${ok}} 7.2`,
    `istio_request_duration_milliseconds_count{${ok}} 2`,
    `istio_response_bytes_sum{${ok}} 2400`,
    `istio_tcp_connections_opened_total{${labels},request_protocol="tcp",response_flags="-"} 1`,
    `istio_tcp_connections_closed_total{${labels},request_protocol="tcp",response_flags="-"} 1`,
    `istio_tcp_sent_bytes_total{${labels},request_protocol="tcp",response_flags="-"} 10`,
    `istio_tcp_received_bytes_total{${labels},request_protocol="tcp",response_flags="-"} 20`,
  ]) {
    assert.ok(lines.has(line), `missing: ${line}`);
  }
});

test('past the limit label sets fold into "other", are counted, and nothing is lost', () => {
  const registry = new Registry({ maxLabelSets: 10 });
  const metrics = new IstioMetrics(registry);
  for (let i = 0; i < 1000; i++) {
    const series = metrics.peer(peer({ service: `host-${i}.example` }));
    series.request('http', 200 + (i % 300), -1, '', 1, 0, 0);
    series.tcp('UF').opened();
  }
  const one = metrics.peer(peer({ service: 'host-1.example' }));
  for (let code = 100; code < 1000; code++) one.request('http', code, -1, '', 1, 0, 0);
  assert.equal(registry.labelSets, 10);
  assert.ok(registry.folded > 900);
  let total = 0;
  for (const s of metrics.families.requests.series) total += registry.values[s.slot];
  assert.equal(total, 1900);
  assert.ok(metrics.families.requests.series.length <= 12);
  assert.match(scrape(registry), /destination_service="other",.*response_code="other"/);
});

test('a scrape of 10,000 label sets comes in slices of a few series each', () => {
  const registry = new Registry();
  const metrics = new IstioMetrics(registry);
  for (let i = 0; i < 1000; i++) {
    const series = metrics.peer(peer({ service: `svc-${i}` }));
    for (let code = 200; code < 210; code++) series.request('http', code, -1, '', 1, 1, 1);
  }
  assert.equal(registry.labelSets, 10_000);
  let samples = 0;
  for (const slice of encodePrometheus(registry)) {
    const lines = slice.split('\n').length - 1;
    samples += lines;
    assert.ok(slice.length < 64 * 1024, `${slice.length} characters`);
    assert.ok(lines < 200, `${lines} lines`);
    if (samples > 100_000) break; // enough to know; the rest is the same again
  }
  assert.ok(samples > 100_000);
});

test('counters, gauges, escaping, growth and name conflicts', () => {
  const registry = new Registry();
  registry.count('h2_reset_flood');
  registry.count('h2_reset_flood');
  registry.gauge('weft_x', 'A\nhelp', () => 3);
  const slots = Array.from({ length: 3000 }, () => registry.allocate(1));
  for (const slot of slots) registry.add(slot, slot);
  assert.deepEqual(
    slots.map((s) => registry.values[s]),
    slots,
  );
  assert.deepEqual(registry.events(), [['h2_reset_flood', 2]]);
  const text = scrape(registry);
  assert.match(text, /^weft_events_total\{event="h2_reset_flood"\} 2$/m);
  assert.match(text, /^# HELP weft_x A\\nhelp\n# TYPE weft_x gauge\nweft_x 3$/m);
  assert.equal(renderLabels(['a', 'b', 'c'], ['x"y\\z\n\u0000', undefined, '']), '{a="x\\"y\\\\z\\n?",c=""}');
  assert.throws(() => registry.family('weft_events_total', 'histogram', ''), { code: 'metric-conflict' });
  for (let i = 0; i < 5000; i++) registry.count(`n${i}`);
  assert.ok(registry.events().length <= 1001);
});

test('buckets and quantiles', () => {
  assert.equal(bucketIndex(istioBuckets, 0), 0);
  assert.equal(bucketIndex(istioBuckets, 0.5), 0);
  assert.equal(bucketIndex(istioBuckets, 0.51), 1);
  assert.equal(bucketIndex(istioBuckets, 1e12), istioBuckets.length);
  assert.ok(Number.isNaN(quantile(0.5, [0, 0])));
  assert.equal(quantile(0.5, [0, 10, 0], [10, 20]), 15);
  assert.equal(quantile(1, [0, 0, 10], [10, 20]), 20);
  const counts = new Uint32Array(edgeBuckets.length + 1);
  for (let ms = 1; ms <= 1000; ms++) counts[bucketIndex(edgeBuckets, ms)]++;
  for (const [p, want] of [
    [0.5, 500],
    [0.9, 900],
    [0.99, 990],
  ]) {
    assert.ok(Math.abs(quantile(p, counts) - want) / want < 0.25, `p${p}: ${quantile(p, counts)}`);
  }
});
