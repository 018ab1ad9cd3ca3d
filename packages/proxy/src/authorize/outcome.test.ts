/** Whatever an authorizer says: nothing is thrown, and the request that goes on is the one that was asked about. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { CheckResponseSchema, ExternalAuthorizerSchema } from '@weft/plan';
import { isFieldValue, isToken } from '@weft/wire';
import fc from 'fast-check';
import type { SideAnswer } from '../outbound/side-call.ts';
import { grpcOutcome } from './check-grpc.ts';
import { httpOutcome } from './check-http.ts';
import { applyAllowed, type CheckOutcome } from './outcome.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const HEAD = [
  ...[
    ':method',
    'GET',
    ':scheme',
    'http',
    ':authority',
    'app',
    ':path',
    '/a/b?q=1&keep=%20',
    'x-a',
    '1',
    'cookie',
    'c=1',
  ],
  ...['content-length', '2', 'x-forwarded-client-cert', 'URI=spiffe://me', 'x-weft-source', 's', 'te', 'trailers'],
];
const OURS = /^(content-length|te|x-forwarded-client-cert|x-weft-source)$/;

function judge(outcome: CheckOutcome): void {
  if (outcome.kind === 'error') return;
  const fields = outcome.kind === 'deny' ? outcome.headers : outcome.response;
  if (outcome.kind === 'deny') assert.ok(outcome.status >= 200 && outcome.status <= 599, String(outcome.status));
  for (let i = 0; i < fields.length; i += 2) assert.ok(isToken(fields[i]) && isFieldValue(fields[i + 1]));
  if (outcome.kind === 'deny') return;
  const head = HEAD.slice();
  applyAllowed(outcome, head);
  assert.equal(head.length % 2, 0);
  assert.deepEqual(head.slice(0, 7), HEAD.slice(0, 7));
  assert.match(head[7], /^\/a\/b(\?[\x21-\x22\x24-\x7e]*)?$/);
  const ours: string[] = [];
  for (let i = 8; i < head.length; i += 2) {
    assert.ok(isToken(head[i]) && isFieldValue(head[i + 1]), head[i]);
    assert.doesNotMatch(head[i], /[A-Z]/);
    if (OURS.test(head[i])) ours.push(head[i], head[i + 1]);
    assert.ok(!/^x[-_]weft/.test(head[i]) || OURS.test(head[i]), head[i]);
  }
  assert.deepEqual(ours, HEAD.slice(12));
}

const names = fc.oneof(
  fc.constantFrom(
    'x-user',
    'X-User',
    ':path',
    'host',
    'Content-Length',
    'te',
    'x-weft-port',
    'x_weft_source',
    'x-forwarded-client-cert',
    'cookie',
    '__proto__',
    '',
  ),
  fc.string({ maxLength: 8 }),
);
const values = fc.oneof(
  fc.constantFrom('1', '', ' x ', 'a\r\nb: c', '\u010a', '\u0000'),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
);
const option = fc.record({
  header: fc.option(fc.record({ key: names, value: values }), { nil: undefined }),
  append: fc.option(fc.record({ value: fc.boolean() }), { nil: undefined }),
  appendAction: fc.integer({ min: -1, max: 5 }),
});
const options = fc.array(option, { maxLength: 3 });
const message = fc.record({
  status: fc.option(fc.record({ code: fc.constantFrom(0, 0, 0, 7, -1) }), { nil: undefined }),
  httpResponse: fc.oneof(
    fc.record({
      case: fc.constant('okResponse' as const),
      value: fc.record({
        headers: options,
        headersToRemove: fc.array(names, { maxLength: 2 }),
        responseHeadersToAdd: options,
        queryParametersToSet: fc.array(fc.record({ key: values, value: values }), { maxLength: 2 }),
        queryParametersToRemove: fc.array(values, { maxLength: 2 }),
      }),
    }),
    fc.record({
      case: fc.constant('deniedResponse' as const),
      value: fc.record({ status: fc.record({ code: fc.integer() }), headers: options, body: values }),
    }),
  ),
});

const answerOf = (bytes: Uint8Array): SideAnswer => {
  const body = Buffer.alloc(5 + bytes.length);
  body.writeUInt32BE(bytes.length, 1);
  body.set(bytes, 5);
  return { status: 200, head: [':status', '200'], body, trailers: ['grpc-status', '0'] };
};

test('answers by gRPC, of every shape', () => {
  let allowed = 0;
  fc.assert(
    fc.property(message, (m) => {
      const text = create(CheckResponseSchema, m as MessageInitShape<typeof CheckResponseSchema>);
      const outcome = grpcOutcome(answerOf(toBinary(CheckResponseSchema, text)));
      if (outcome.kind === 'allow') {
        allowed++;
        assert.equal(m.status?.code, 0);
      }
      judge(outcome);
    }),
    { seed: 7, numRuns: 3000 },
  );
  assert.ok(allowed > 50, `${allowed} were let pass`);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, framed) => {
      judge(grpcOutcome(framed ? answerOf(bytes) : { ...answerOf(bytes), body: Buffer.from(bytes) }));
    }),
    { seed: 7, numRuns: 3000 },
  );
});

test('answers by HTTP, of every status and header', () => {
  const authorizer = create(ExternalAuthorizerSchema, { upstreamHeaders: ['*'], allowHeaders: ['*'] });
  fc.assert(
    fc.property(
      fc.oneof(fc.constant(200), fc.integer({ min: 100, max: 599 })),
      fc.array(fc.tuple(names, values), { maxLength: 4 }),
      (status, fields) => {
        const head = [':status', String(status), ...fields.flatMap(([n, v]) => [n.toLowerCase(), v])];
        const outcome = httpOutcome(authorizer, { status, head, body: Buffer.alloc(0), trailers: [] });
        assert.equal(outcome.kind === 'allow', status === 200);
        judge(outcome);
      },
    ),
    { seed: 7, numRuns: 3000 },
  );
});
