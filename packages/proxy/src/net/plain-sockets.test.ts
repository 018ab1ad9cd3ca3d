/**
 * The way without the runtime's inside (`WEFT_PLAIN_SOCKETS=1`, and whatever runtime has another one): this file runs
 * itself in a process of that kind, where requests, long bodies and opaque connections pass two proxies.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { Protocol } from '@weft/plan';
import { testPair } from '../test-pair.ts';
import { readsDirectly } from './handle.ts';

const APP = '127.7.25.9';
const LONG = 'x'.repeat(3_000_000);

if (process.env.WEFT_PLAIN_SOCKETS !== '1') {
  test('a process with plain sockets', () => {
    const env: NodeJS.ProcessEnv = { ...process.env, WEFT_PLAIN_SOCKETS: '1' };
    // Else it would report to this one's runner.
    delete env.NODE_TEST_CONTEXT;
    const done = spawnSync(process.execPath, [import.meta.filename], { env, encoding: 'utf8', timeout: 60_000 });
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.match(done.stdout, /pass 1\b/);
  });
} else {
  test('plain sockets carry all that direct ones do', async (t) => {
    const app = http.createServer((q, r) => {
      r.setHeader('x-path', q.url ?? '');
      q.pipe(r);
    });
    const echo = net.createServer({ allowHalfOpen: true }, (s) => {
      s.on('error', () => {});
      s.write('first ');
      s.pipe(s);
    });
    for (const [server, port] of [
      [app, 7801],
      [echo, 7802],
    ] as const) {
      server.listen(port, APP);
      await once(server, 'listening');
      t.after(() => server.close());
    }
    const pair = await testPair(t, {
      network: '127.7.25',
      ports: [
        { port: 7001, protocol: Protocol.HTTP, appHost: APP, appPort: 7801 },
        { port: 7002, protocol: Protocol.TCP, appHost: APP, appPort: 7802 },
      ],
    });
    const probe = net.connect(7001, pair.frontAddress);
    await once(probe, 'connect');
    assert.equal(
      readsDirectly(probe, () => {}),
      false,
      'the switch holds',
    );
    probe.destroy();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const post = async (path: string, body: string): Promise<string> => {
      const q = http.request({ host: pair.frontAddress, port: 7001, path, method: 'POST', agent });
      q.end(body);
      const [r] = (await once(q, 'response')) as [http.IncomingMessage];
      assert.deepEqual([r.statusCode, r.headers['x-path']], [200, path]);
      let text = '';
      for await (const chunk of r) text += chunk;
      return text;
    };
    for (let i = 0; i < 20; i++) assert.equal(await post(`/${i}`, `body ${i}`), `body ${i}`);
    assert.equal(await post('/long', LONG), LONG);
    const socket = net.connect({ port: 7002, host: pair.frontAddress, allowHalfOpen: true });
    socket.end(LONG);
    let text = '';
    for await (const chunk of socket) text += chunk;
    assert.equal(text, `first ${LONG}`);
  });
}
