/** What the called side's proxy repeats at its application. */
import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

/**
 * Asks twice by one connection of an application that answers the first request of each connection and closes it at the
 * second: statuses, and the connections that it saw.
 */
async function twice(t: TestContext, network: string, method: string, applicationRetries?: number) {
  let connections = 0;
  const app = net.createServer((socket) => {
    connections++;
    let first = true;
    socket.on('error', () => {});
    socket.on('data', () => {
      if (first) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
      else socket.destroy();
      first = false;
    });
  });
  await new Promise<void>((resolve) => app.listen(0, `${network}.3`, resolve));
  t.after(() => app.close());
  const { port } = app.address() as AddressInfo;
  const pair = await testPair(t, {
    network,
    ports: [
      {
        port: 9000,
        protocol: Protocol.HTTP,
        appHost: `${network}.3`,
        appPort: port,
        route: { retry: { attempts: 0 } },
      },
    ],
    ...(applicationRetries !== undefined && { applicationRetries }),
  });
  const statuses: number[] = [];
  for (let i = 0; i < 2; i++) {
    const response = await fetch(`http://${pair.frontAddress}:9000/`, { method });
    statuses.push(response.status);
    await response.arrayBuffer();
  }
  return { statuses, connections };
}

test('a kept connection that the application closes: safe requests are repeated, unless the mesh says no', async (t) => {
  assert.deepEqual(await twice(t, '127.7.214', 'GET'), { statuses: [200, 200], connections: 2 });
  assert.deepEqual(await twice(t, '127.7.215', 'POST'), { statuses: [200, 503], connections: 1 });
  assert.deepEqual(await twice(t, '127.7.216', 'GET', 0), { statuses: [200, 503], connections: 1 });
});
