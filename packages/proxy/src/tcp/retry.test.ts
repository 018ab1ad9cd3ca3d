import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';

async function serve(t: TestContext, host: string, onSocket: (s: net.Socket) => void): Promise<number> {
  const server = net.createServer((s) => {
    s.on('error', () => {});
    onSocket(s);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Sends a word; resolves with what came until the end, or with the error's code. */
function talk(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    let got = '';
    const s = net.connect({ host, port }, () => s.write('word'));
    s.on('data', (d) => (got += d));
    s.on('error', (e: NodeJS.ErrnoException) => resolve(e.code ?? e.message));
    s.on('end', () => resolve(got));
  });
}

test('an endpoint that cannot be reached: the connection goes to another, the client sees nothing of it', async (t) => {
  const app = '127.7.60.3';
  const appPort = await serve(t, app, (s) => s.on('data', (d) => s.end(`${d}!`)));
  const pair = await testPair(t, {
    network: '127.7.60',
    ports: [{ port: 7000, protocol: Protocol.TCP, appHost: app, appPort }],
    deadToo: true,
  });
  for (let i = 0; i < 20; i++) assert.equal(await talk(pair.frontAddress, 7000), 'word!');
  assert.ok((pair.frontSeen.counts.get('link_connect_failed') ?? 0) > 0, 'the dead endpoint was never tried');
});

test('once a byte was sent nothing is sent again: the application sees each connection once', async (t) => {
  const app = '127.7.211.3';
  let accepted = 0;
  const appPort = await serve(t, app, (s) => {
    accepted++;
    s.once('data', () => s.resetAndDestroy());
  });
  const pair = await testPair(t, {
    network: '127.7.211',
    ports: [{ port: 7000, protocol: Protocol.TCP, appHost: app, appPort }],
    deadToo: true,
  });
  for (let i = 0; i < 20; i++) assert.equal(await talk(pair.frontAddress, 7000), 'ECONNRESET');
  assert.equal(accepted, 20);
});
