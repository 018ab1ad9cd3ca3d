/** Readiness by gRPC health, asked in the prober's place. */
import assert from 'node:assert/strict';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { runProbe } from './probes.ts';

test('SERVING is ready; another status, an error of gRPC, silence and nobody are not', async (t) => {
  const host = '127.7.128.1';
  let answer: 'serving' | 'not' | 'unimplemented' | 'silent' = 'serving';
  let asked = '';
  const app = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  app.on('session', (s) => sessions.add(s));
  app.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      asked = `${headers[':path']} ${Buffer.concat(chunks).subarray(7).toString()}`;
      if (answer === 'silent') return;
      const head = { ':status': 200, 'content-type': 'application/grpc' };
      if (answer === 'unimplemented') {
        stream.respond({ ...head, 'grpc-status': '12' }, { endStream: true });
        return;
      }
      stream.respond(head, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, answer === 'serving' ? 1 : 2]));
    });
  });
  await new Promise<void>((resolve) => app.listen(0, host, resolve));
  t.after(() => {
    for (const s of sessions) s.destroy();
    app.close();
  });
  const { port } = app.address() as AddressInfo;
  const probe = (timeoutMs = 30_000) => runProbe({ grpc: { port, service: 'pay' }, timeoutMs }, host);
  assert.deepEqual(await probe(), { ok: true, detail: 'SERVING' });
  assert.equal(asked, '/grpc.health.v1.Health/Check pay');
  answer = 'not';
  assert.deepEqual(await probe(), { ok: false, detail: 'not serving' });
  answer = 'unimplemented';
  assert.deepEqual(await probe(), { ok: false, detail: 'grpc-status 12' });
  answer = 'silent';
  assert.deepEqual(await probe(200), { ok: false, detail: 'no answer within 200 ms' });
  const free = net.createServer().listen(0, host);
  await new Promise((resolve) => free.once('listening', resolve));
  const closed = (free.address() as AddressInfo).port;
  await new Promise((resolve) => free.close(resolve));
  const nobody = await runProbe({ grpc: { port: closed, service: '' }, timeoutMs: 30_000 }, host);
  assert.deepEqual([nobody.ok, nobody.detail], [false, 'ECONNREFUSED']);
});
