import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Code } from '@connectrpc/connect';
import { AggregatedDiscoveryService } from './gen/envoy/service/discovery/v3/ads_pb.js';
import { grpcHandler } from './handler.ts';

let served = 0;
const server = http2.createServer(
  grpcHandler({
    readMaxBytes: 1000,
    routes: (router) =>
      router.service(AggregatedDiscoveryService, {
        // biome-ignore lint/correctness/useYield: it has nothing to say
        async *deltaAggregatedResources(requests) {
          for await (const _ of requests) served++;
        },
      }),
  }),
);
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
after(() => {
  session.destroy();
  server.close();
});

/** The status of a call with one message. */
async function status(flag: number, body: Buffer, headers: http2.OutgoingHttpHeaders = {}, length = body.length) {
  const stream = session.request({
    ...{
      ':method': 'POST',
      ':path': '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    },
    ...{ 'content-type': 'application/grpc', te: 'trailers', ...headers },
  });
  let code = -1;
  const take = (h: http2.IncomingHttpHeaders): void => {
    if (h['grpc-status'] !== undefined) code = Number(h['grpc-status']);
  };
  stream
    .on('response', take)
    .on('trailers', take)
    .on('error', () => {})
    .resume();
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(length, 1);
  stream.end(Buffer.concat([prefix, body]));
  await once(stream, 'close');
  return code;
}

test('compressed messages are refused as what is not served, and never unpacked', async () => {
  const bomb = gzipSync(Buffer.alloc(10_000_000));
  assert.equal(await status(0, Buffer.alloc(0)), 0);
  assert.equal(served, 1);
  for (const encoding of ['gzip', 'br', 'deflate', 'snappy'])
    assert.equal(await status(1, bomb.subarray(0, 900), { 'grpc-encoding': encoding }), Code.Unimplemented, encoding);
  // Compressed by nothing that it names: gRPC calls that an error of the caller's own.
  for (const headers of [{}, { 'grpc-encoding': 'identity' }])
    assert.equal(await status(1, bomb.subarray(0, 900), headers), Code.Internal);
  assert.equal(await status(0, Buffer.alloc(1001)), Code.ResourceExhausted);
  assert.equal(await status(0, Buffer.alloc(10), {}, 0xffff_ffff), Code.ResourceExhausted);
  assert.equal(served, 1);
});
