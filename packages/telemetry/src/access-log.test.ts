import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AccessLogEntry, accessLogFieldChars, formatAccessLog } from './access-log.ts';

const entry: AccessLogEntry = {
  startMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6) + 0.7,
  method: 'GET',
  path: '/charge?x=1',
  protocol: 'HTTP/1.1',
  responseCode: 403,
  responseFlags: '',
  responseCodeDetails: 'rbac_access_denied_matched_policy[none]',
  bytesReceived: 1,
  bytesSent: 19,
  durationMs: 1.6,
  upstreamHost: '10.0.0.1:8080',
  upstreamCluster: 'inbound|8080||',
  authority: 'payment',
  userAgent: 'curl/8',
  requestId: 'id',
  routeName: 'default',
  sourcePrincipal: 'spiffe://cluster.local/ns/shop/sa/cart',
  policy: 'shop/payment',
  policySource: 'mesh/authz.yaml:12',
  epoch: 7,
  reporter: 'destination',
};

test('a line is JSON with the names of Istio and ours', () => {
  const line = formatAccessLog(entry);
  assert.ok(line.endsWith('}\n'));
  const read = JSON.parse(line);
  assert.equal(read.start_time, '2026-01-02T03:04:05.006Z');
  assert.equal(read.response_code, 403);
  assert.equal(read.response_flags, '-');
  assert.equal(read.duration, 2);
  assert.equal(read.policy_source, 'mesh/authz.yaml:12');
  assert.equal(read.epoch, 7);
  assert.equal(read.x_forwarded_for, null);
  for (const name of [
    ...['method', 'path', 'protocol', 'response_code_details', 'bytes_received', 'bytes_sent', 'upstream_host'],
    ...['upstream_cluster', 'authority', 'user_agent', 'request_id', 'downstream_remote_address', 'reporter'],
    ...['requested_server_name', 'route_name', 'source_principal', 'traceparent', 'policy', 'route_source'],
  ]) {
    assert.ok(name in read, name);
  }
  assert.equal(JSON.parse(formatAccessLog({ ...entry, startMs: 999 })).start_time, '1970-01-01T00:00:00.999Z');
  assert.equal(JSON.parse(formatAccessLog({ ...entry, durationMs: Number.NaN })).duration, 0);
});

test('no value can break out of its field or its line', () => {
  let every = '';
  for (let i = 0; i < 256; i++) every += String.fromCharCode(i);
  every += '\u2028\u2029\ud800","reporter":"x"}\n{"a":"';
  const line = formatAccessLog({ ...entry, path: every, userAgent: every, authority: every });
  assert.equal(line.indexOf('\n'), line.length - 1);
  assert.doesNotMatch(line.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
  const read = JSON.parse(line);
  assert.equal(read.path, every);
  assert.equal(read.reporter, 'destination');
  const long = JSON.parse(formatAccessLog({ ...entry, path: `/${'x'.repeat(60_000)}` }));
  assert.equal(long.path.length, accessLogFieldChars);
});
