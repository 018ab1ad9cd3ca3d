/** Who vanishes within a TLS handshake is gone at once; who ends afterwards has only ended its half. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import tls from 'node:tls';
import { clientTlsOptions } from '@weft/identity';
import { clientHello } from '../test-hello.ts';
import { echoes, TCP } from '../test-long-lived.ts';

const MESH_PORT = 15008;
const WAIT_MS = 60_000;

async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = performance.now() + WAIT_MS; !done(); ) {
    assert.ok(performance.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('a client that ends or resets within its handshake is let go at once, on the mesh port and a captured one', async (t) => {
  const pair = await echoes(t, '127.7.206', { connectTimeoutMs: 700 });
  const back = pair.back!;
  back.core.limits.detectTimeoutMs = 2 * WAIT_MS;
  const captured = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    if (back.core.admit(socket)) back.inbound.accept(socket, TCP);
  });
  t.after(() => captured.close());
  await new Promise<void>((resolve) => captured.listen(0, pair.backAddress, resolve));
  const capturedPort = (captured.address() as AddressInfo).port;
  for (const [port, alpn] of [
    [MESH_PORT, 'h2'],
    [capturedPort, 'istio'],
  ] as const) {
    const hello = await clientHello(t, alpn);
    for (const sent of [0, 1, 7, hello.length - 1, hello.length])
      for (const how of ['end', 'resetAndDestroy'] as const) {
        const socket = net.connect({ port, host: pair.backAddress, allowHalfOpen: true });
        socket.on('error', () => {}).resume();
        await once(socket, 'connect');
        await until('it is admitted', () => back.core.connections === 1);
        if (sent > 0) await new Promise((resolve) => socket.write(hello.subarray(0, sent), resolve));
        // The whole hello is answered: the client goes when it has seen that.
        if (sent === hello.length) await once(socket, 'data');
        socket[how]();
        await until(`${how} after ${sent} bytes to ${alpn}: it is still held`, () => back.core.connections === 0);
        socket.destroy();
      }
  }
  // Not by a deadline, that is.
  assert.equal(pair.backSeen.counts.get('inbound_tls_handshake_timeout'), undefined);
  assert.equal(pair.backSeen.counts.get('detect_timeout'), undefined);

  // Once secured, the end of the one half leaves the other.
  const options = clientTlsOptions(await pair.identity('front'));
  const secured = tls.connect({
    ...{ host: pair.backAddress, port: capturedPort, allowHalfOpen: true },
    ...{ ...options, ALPNProtocols: ['istio'] },
  });
  t.after(() => secured.destroy());
  secured.end('what comes after the end');
  let heard = '';
  for await (const chunk of secured) heard += chunk;
  assert.equal(heard, 'what comes after the end');
});
