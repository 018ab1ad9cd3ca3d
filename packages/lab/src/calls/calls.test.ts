import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderedLines, renderCalls } from './render.ts';
import { callTree, type LoggedLine, tracesOf } from './tree.ts';

const TRACE = 'a'.repeat(32);
const span = (n: number): string => String(n).padStart(16, '0');

interface Line {
  span: number;
  parent?: number;
  at: number;
  trace?: string;
  id?: string;
  path?: string;
  decisions?: Record<string, [string, string]>;
}

function proxy(instance: string, reporter: 'source' | 'destination', l: Line): LoggedLine {
  const text = JSON.stringify({
    start_time: new Date(1_000_000 + l.at).toISOString(),
    ...{ method: 'GET', path: l.path ?? '/', authority: 'x', response_code: 200, response_flags: '-', duration: 5 },
    ...{ response_code_details: 'via_upstream', upstream_cluster: 'c', upstream_host: '10.0.0.1:80' },
    request_id: l.id ?? 'the-id',
    traceparent: `00-${l.trace ?? TRACE}-${span(l.span)}-00`,
    parent_span: l.parent === undefined ? null : span(l.parent),
    ...{ epoch: 4, decisions: l.decisions, retries: 0, reporter },
  });
  return { instance, from: 'proxy', text };
}
const app = (instance: string, text: string): LoggedLine => ({ instance, from: 'application', text });

// cart calls payment, which answers an error once; payment calls the ledger with another request id.
const LINES: LoggedLine[] = [
  proxy('ledger-0', 'destination', { span: 6, parent: 5, at: 40, id: 'other-id' }),
  proxy('payment-0', 'source', { span: 5, parent: 4, at: 38, id: 'other-id' }),
  proxy('payment-1', 'destination', {
    ...{ span: 4, parent: 2, at: 30 },
    decisions: { authorization: ['AuthorizationPolicy/shop/p#spec.rules[0]', '/mesh/security.yaml:12'] },
  }),
  // The clock of its host is behind: what called it comes first all the same.
  proxy('payment-0', 'destination', { span: 3, parent: 2, at: -500 }),
  proxy('cart-0', 'source', {
    ...{ span: 2, at: 10, path: '/\u001b[2Jpay' },
    decisions: { route: ['VirtualService/shop/payment#spec.http[0]', '/mesh/traffic.yaml:3'], timeout: ['X', ''] },
  }),
  proxy('user-0', 'source', { span: 9, at: 0, id: 'the-id-2', trace: 'b'.repeat(32) }),
  app('payment-1', 'request the-id begins'),
  app('payment-1', `{"time":${1_000_000 + 45},"msg":"paid","request":"the-id"}`),
  app('payment-1', 'request the-id-2 begins'),
  app('payment-0', `${new Date(1_000_000).toISOString()} refusing span ${span(3)} of trace ${TRACE}`),
  app('elsewhere-0', 'somebody told me of [the-id]\u001b[31m'),
  { instance: 'cart-0', from: 'proxy', text: '{"start_time":"2026-01-01T00:00:00Z","request_id":"the-id"' },
];

test('the calls of a request: by parent span, then by time, with those of its trace that have another id', () => {
  const traces = tracesOf(LINES, 'the-id');
  assert.deepEqual([...traces], [TRACE]);
  const tree = callTree(LINES, 'the-id', traces);
  const lines = orderedLines(tree).map(
    (l) => `${l.depth} ${l.instance} ${l.from} ${l.hop?.span ?? l.text.slice(0, 26)}`,
  );
  assert.deepEqual(lines, [
    `0 cart-0 proxy ${span(2)}`,
    `1 payment-0 proxy ${span(3)}`,
    '2 payment-0 application 1970-01-01T00:16:40.000Z r',
    `1 payment-1 proxy ${span(4)}`,
    '2 payment-1 application request the-id begins',
    `2 payment-0 proxy ${span(5)}`,
    `3 ledger-0 proxy ${span(6)}`,
    '2 payment-1 application {"time":1000045,"msg":"pai',
    '0 elsewhere-0 application somebody told me of [the-i',
  ]);
});

test('rendered: each hop with the rules that decided, and nothing that moves a terminal', () => {
  const tree = callTree(LINES, 'the-id', tracesOf(LINES, 'the-id'));
  const text = renderCalls(tree, (place) => place.replace('/mesh/', ''));
  assert.equal(
    text,
    `request the-id
trace   ${TRACE}

cart-0 (caller)  GET x/\ufffd[2Jpay → 10.0.0.1:80: 200 via_upstream in 5 ms
│    route    VirtualService/shop/payment#spec.http[0]  traffic.yaml:3
│    timeout  X
│    epoch    4
├─ payment-0 (called)  GET x/ → 10.0.0.1:80: 200 via_upstream in 5 ms
│       by defaults alone
│       epoch  4
└─ payment-1 (called)  GET x/ → 10.0.0.1:80: 200 via_upstream in 5 ms
   │    authorization  AuthorizationPolicy/shop/p#spec.rules[0]  security.yaml:12
   │    epoch          4
   └─ payment-0 (caller)  GET x/ → 10.0.0.1:80: 200 via_upstream in 5 ms
      │    by defaults alone
      │    epoch  4
      └─ ledger-0 (called)  GET x/ → 10.0.0.1:80: 200 via_upstream in 5 ms
              by defaults alone
              epoch  4`,
  );
});

test('spans that name each other in a circle, or themselves, are shown once each', () => {
  const circle = [
    proxy('a', 'source', { span: 1, parent: 2, at: 0 }),
    proxy('b', 'destination', { span: 2, parent: 1, at: 1 }),
    proxy('c', 'source', { span: 3, parent: 3, at: 2 }),
  ];
  const lines = orderedLines(callTree(circle, 'the-id', tracesOf(circle, 'the-id')));
  assert.deepEqual(lines.map((l) => l.instance).sort(), ['a', 'b', 'c']);
});
