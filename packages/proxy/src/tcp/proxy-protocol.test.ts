/** DestinationRule `proxyProtocol`: the application learns its client's address before the first byte, also across the mesh. */
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { readProxyHeader } from '@weft/wire';
import { testPair } from '../test-pair.ts';

const APP = '127.7.23.9';

test('an opaque connection begins with the header of the asked version, then has its own bytes alone', async (t) => {
  const got = new Map<number, Buffer>();
  for (const port of [7001, 7002, 7003]) {
    const app = createServer({ allowHalfOpen: true }, (s) => {
      const parts: Buffer[] = [];
      s.on('error', () => {});
      s.on('data', (d) => parts.push(d));
      s.on('end', () => {
        got.set(port, Buffer.concat(parts));
        s.end('thanks');
      });
    });
    t.after(() => app.close());
    await new Promise<void>((ok) => app.listen(port, APP, ok));
  }
  const of = (port: number, proxyProtocol: number) => ({
    ...{ port, proxyProtocol, protocol: Protocol.TCP, appHost: APP, appPort: port },
  });
  const pair = await testPair(t, { network: '127.7.23', ports: [of(7001, 1), of(7002, 2), of(7003, 0)] });
  for (const port of [7001, 7002, 7003]) {
    const answer = await new Promise<{ text: string; from: number }>((resolve, reject) => {
      const s = connect({ host: pair.frontAddress, port, localAddress: '127.7.23.77', allowHalfOpen: true });
      let text = '';
      s.on('error', reject);
      s.on('connect', () => s.end('own bytes'));
      s.on('data', (d) => {
        text += d;
      });
      s.on('end', () => resolve({ text, from: s.localPort as number }));
    });
    assert.equal(answer.text, 'thanks');
    const bytes = got.get(port) as Buffer;
    if (port === 7003) {
      assert.equal(bytes.toString(), 'own bytes');
      continue;
    }
    const header = readProxyHeader(bytes);
    assert.ok(typeof header === 'object', `${port}: ${bytes.toString('latin1')}`);
    assert.equal(header.version, port - 7000);
    const { source, sourcePort, destination, destinationPort } = header.addresses!;
    assert.deepEqual([source, destination, destinationPort], ['127.7.23.77', '10.99.0.1', port]);
    assert.ok(sourcePort > 0);
    assert.equal(bytes.subarray(header.size).toString(), 'own bytes');
  }
});
