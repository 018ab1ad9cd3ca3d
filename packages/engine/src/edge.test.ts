import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ForwardClientCert } from '@weft/plan';
import { edgeHead, edgeTrailers, visitorAddress } from './edge.ts';

test('the visitor behind trusted proxies', () => {
  const head = (...values: string[]) => values.flatMap((v) => ['x-forwarded-for', v]);
  const table: [string[], number, string][] = [
    [head('1.1.1.1'), 0, '9.9.9.9'],
    [head(), 1, '9.9.9.9'],
    [head('1.1.1.1'), 1, '1.1.1.1'],
    [head('1.1.1.1, 2.2.2.2'), 1, '2.2.2.2'],
    [head('1.1.1.1,2.2.2.2'), 2, '1.1.1.1'],
    [head('1.1.1.1', '2.2.2.2, 3.3.3.3'), 3, '1.1.1.1'],
    [head('1.1.1.1', '2.2.2.2, 3.3.3.3'), 4, '9.9.9.9'],
    [head('forged, 2001:db8::1'), 1, '2001:db8::1'],
    [head('nonsense'), 1, '9.9.9.9'],
  ];
  for (const [h, trusted, want] of table) assert.equal(visitorAddress(h, '9.9.9.9', trusted), want, `${h} ${trusted}`);
});

test("x-forwarded-client-cert: a visitor's own word is believed only where the setting says so", () => {
  const { UNSPECIFIED, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY } = ForwardClientCert;
  const told = (forward: ForwardClientCert | undefined, own: string, ...came: string[]): string => {
    const head = [':method', 'GET', ...came.flatMap((v) => ['x-forwarded-client-cert', v])];
    assert.ok(edgeHead(head, '9.9.9.9', true, 0, forward, own));
    return head.flatMap((name, i) => (name === 'x-forwarded-client-cert' ? [head[i + 1]] : [])).join(' | ');
  };
  const table: [ForwardClientCert | undefined, string, string, string, string][] = [
    // what came and a certificate; what came alone; a certificate alone; neither
    [undefined, '', '', '', ''],
    [UNSPECIFIED, '', '', '', ''],
    [99 as ForwardClientCert, '', '', '', ''],
    [FORWARD_ONLY, 'Hash=a,Hash=b', '', '', ''],
    [APPEND_FORWARD, 'Hash=a,Hash=b,Hash=own', '', 'Hash=own', ''],
    [SANITIZE_SET, 'Hash=own', '', 'Hash=own', ''],
    [ALWAYS_FORWARD_ONLY, 'Hash=a,Hash=b', 'Hash=a,Hash=b', '', ''],
  ];
  for (const [forward, both, came, own, neither] of table) {
    assert.equal(told(forward, 'Hash=own', 'Hash=a', 'Hash=b'), both, `${forward}: both`);
    assert.equal(told(forward, '', 'Hash=a', 'Hash=b'), came, `${forward}: what came`);
    assert.equal(told(forward, 'Hash=own'), own, `${forward}: a certificate`);
    assert.equal(told(forward, ''), neither, `${forward}: neither`);
  }
});

test('x-forwarded-proto is the connection’s, or what a trusted proxy said', () => {
  const proto = (said: string | undefined, secure: boolean, trusted: number) => {
    const head = [':method', 'GET', ':scheme', 'x', ':authority', 'a', ':path', '/'];
    if (said !== undefined) head.push('x-forwarded-proto', said);
    assert.ok(edgeHead(head, '9.9.9.9', secure, trusted));
    assert.equal(head[3], secure ? 'https' : 'http');
    assert.equal(head.filter((v) => v === 'x-forwarded-proto').length, 1);
    return head[head.indexOf('x-forwarded-proto') + 1];
  };
  assert.equal(proto('https', false, 0), 'http');
  assert.equal(proto('https', false, 1), 'https');
  assert.equal(proto('gopher', false, 1), 'http');
  assert.equal(proto(undefined, true, 1), 'https');
});

test("a stranger's trailers say nothing of where the request came from", () => {
  const names = [
    'x-forwarded-for',
    'x_forwarded-proto',
    'forwarded',
    'x-request-id',
    'x-envoy-retry-on',
    'X-Weft-Source',
  ];
  const fields = ['grpc-status', '0', ...names.flatMap((n) => [n.toLowerCase(), 'forged']), 'x-checksum', 'abc'];
  edgeTrailers(fields);
  assert.deepEqual(fields, ['grpc-status', '0', 'x-checksum', 'abc']);
});
