/** What tests need of things that stay open: applications that echo, and a tunnel, an upgrade and a stream to them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { Protocol } from '@weft/plan';
import { type TestPair, type TestPort, testPair } from './test-pair.ts';

export const HTTP = 8080;
export const GRPC = 9090;
export const TCP = 7000;

/** A pair whose applications echo: bytes, upgraded connections, gRPC streams. */
export async function echoes(t: TestContext, network: string, tcpPool?: TestPort['pool']): Promise<TestPair> {
  const app = `${network}.3`;
  const echo = net.createServer((s) => s.on('error', () => {}).pipe(s));
  const upgrades = net.createServer((s) => {
    s.on('error', () => {});
    s.once('data', () => {
      s.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n');
      s.pipe(s);
    });
  });
  const grpc = http2.createServer();
  grpc.on('session', (s) => t.after(() => s.destroy()));
  grpc.on('stream', (s) => {
    s.on('error', () => {});
    s.respond({ ':status': 200, 'content-type': 'application/grpc' });
    s.pipe(s);
  });
  const ports: number[] = [];
  for (const server of [upgrades, grpc, echo]) {
    await new Promise<void>((resolve) => server.listen(0, app, resolve));
    ports.push((server.address() as AddressInfo).port);
    t.after(() => server.close());
  }
  return testPair(t, {
    network,
    ports: [
      { port: HTTP, protocol: Protocol.HTTP, appHost: app, appPort: ports[0] },
      { port: GRPC, protocol: Protocol.GRPC, appHost: app, appPort: ports[1] },
      { port: TCP, protocol: Protocol.TCP, appHost: app, appPort: ports[2], ...(tcpPool && { pool: tcpPool }) },
    ],
  });
}

/** Through `echoes`: a tunnel, an upgrade and a stream that work. */
export async function openAll(
  t: TestContext,
  pair: TestPair,
): Promise<{ tunnel: net.Socket; upgraded: net.Socket; call: http2.ClientHttp2Stream }> {
  const connect = (port: number): net.Socket => {
    const socket = net.connect(port, pair.frontAddress);
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    return socket;
  };
  const tunnel = connect(TCP);
  tunnel.write('one');
  assert.equal(String((await once(tunnel, 'data'))[0]), 'one');
  const upgraded = connect(HTTP);
  upgraded.write('GET /chat HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n');
  assert.match(String((await once(upgraded, 'data'))[0]), /^HTTP\/1.1 101/);
  const client = http2.connect(`http://${pair.frontAddress}:${GRPC}`);
  client.on('error', () => {});
  t.after(() => client.destroy());
  const call = client.request({
    ':method': 'POST',
    ':path': '/S/M',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.on('error', () => {});
  call.write('three');
  assert.equal(String((await once(call, 'data'))[0]), 'three');
  return { tunnel, upgraded, call };
}
