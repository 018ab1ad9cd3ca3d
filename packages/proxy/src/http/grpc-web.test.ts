/** gRPC-Web from a client that speaks HTTP/1.1 to an application that speaks gRPC alone, through both proxies. */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { EndpointsSchema, outboundClusterName, type Part, PartSchema, Protocol } from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { TEST_HOST, testPair, Watched } from '../test-pair.ts';

const APP = '127.7.24.9';
const PORT = 7010;

function frame(text: string, flag = 0): Buffer {
  const out = Buffer.alloc(5 + text.length);
  out[0] = flag;
  out.writeUInt32BE(text.length, 1);
  out.write(text, 5, 'latin1');
  return out;
}

test('messages, trailers and errors, binary and base64', async (t) => {
  const seen: http2.IncomingHttpHeaders[] = [];
  const app = http2.createServer();
  app.on('stream', (s, headers) => {
    seen.push(headers);
    if (headers['content-type'] !== 'application/grpc+proto') {
      s.respond({ ':status': 415, 'content-type': 'text/plain' });
      s.end(`no gRPC: ${headers['content-type']}`);
      return;
    }
    if (headers[':path'] === '/fails') {
      s.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5' }, { endStream: true });
      return;
    }
    const parts: Buffer[] = [];
    s.on('data', (d: Buffer) => parts.push(d));
    s.on('end', () => {
      s.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
      s.on('wantTrailers', () => s.sendTrailers({ 'grpc-status': '0', 'x-more': 'yes' }));
      // In pieces that are no multiple of three, so that base64 has to be joined.
      const all = Buffer.concat(parts);
      for (let i = 0; i < all.length; i += 7) s.write(all.subarray(i, i + 7));
      s.end();
    });
  });
  t.after(() => app.close());
  await new Promise<void>((ok) => app.listen(PORT, APP, () => ok()));
  const port = { port: PORT, protocol: Protocol.GRPC_WEB, appHost: APP, appPort: PORT };
  const pair = await testPair(t, { network: '127.7.24', ports: [port] });
  const ask = (
    path: string,
    type: string,
    pieces: Buffer[],
    host = pair.frontAddress,
  ): Promise<{ head: http.IncomingMessage; body: Buffer }> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': type };
      const q = http.request({ host, port: PORT, path, method: 'POST', headers, agent: false }, (r) => {
        const parts: Buffer[] = [];
        r.on('data', (d: Buffer) => parts.push(d));
        r.on('end', () => resolve({ head: r, body: Buffer.concat(parts) }));
        r.on('error', reject);
      });
      q.on('error', reject);
      for (const piece of pieces) q.write(piece);
      q.end();
    });
  const request = [frame('hello'), frame('second message')];
  const wanted = Buffer.concat([...request, frame('grpc-status: 0\r\nx-more: yes\r\n', 0x80)]);

  const binary = await ask('/echo', 'application/grpc-web+proto', request);
  assert.equal(binary.head.headers['content-type'], 'application/grpc-web+proto');
  assert.deepEqual(binary.body, wanted);
  assert.equal(seen[0]['content-type'], 'application/grpc+proto');
  assert.equal(seen[0].te, 'trailers');

  // Each message is padded on its own, and a piece may end inside a group.
  const text = Buffer.from(request.map((f) => f.toString('base64')).join(''));
  const encoded = await ask('/echo', 'application/grpc-web-text+proto', [text.subarray(0, 5), text.subarray(5)]);
  assert.equal(encoded.head.headers['content-type'], 'application/grpc-web-text+proto');
  assert.deepEqual(Buffer.from(encoded.body.toString(), 'base64'), wanted);

  const failed = await ask('/fails', 'application/grpc-web+proto', [frame('x')]);
  assert.equal(failed.head.statusCode, 200);
  assert.equal(failed.head.headers['grpc-status'], '5');
  const record = pair.backSeen.requests.at(-1)!;
  assert.deepEqual([record.protocol, record.grpcStatus], ['grpc', 5]);

  // A gateway's server of protocol GRPC-WEB, before an application that has no proxy.
  const edge = '127.7.24.5';
  const cluster = outboundClusterName(PORT, '', TEST_HOST);
  const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
  const virtualHosts = [{ host: '*', http: [{ ref: 'r', clusters: [{ ref: 'r', cluster, weight: 1 }] }] }];
  const servers = [{ ref: 'web', protocol: Protocol.GRPC_WEB, virtualHosts }];
  const gateway = new DataPlane({
    ...{ address: edge, capture: 'explicit', bind: {}, gateway: { host: edge }, logger: silentLogger },
    observer: new Watched().observer,
  });
  t.after(() => gateway.close());
  const parts = [
    part({ case: 'cluster', value: { name: cluster, host: TEST_HOST, port: PORT, protocol: Protocol.GRPC } }),
    part({ case: 'gateway', value: { port: PORT, servers } }),
  ];
  const endpoints = [{ instance: 'app-0', address: APP, port: PORT }];
  gateway.apply(buildSnapshot(parts, [create(EndpointsSchema, { host: TEST_HOST, port: PORT, endpoints })]), 1n);
  await gateway.listen();
  const outside = await ask('/echo', 'application/grpc-web+proto', request, edge);
  assert.equal(outside.head.headers['content-type'], 'application/grpc-web+proto');
  assert.deepEqual(outside.body, wanted);
});
