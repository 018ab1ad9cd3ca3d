/** Memory runs short in a real proxy: it says so, refuses, lets go, and comes back. It is never ended by the kernel. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { startPair } from '../conformance/pair.ts';

const MB = 1024 * 1024;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const rssMb = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;

function ask(host: string, path: string, agent?: http.Agent): Promise<{ status: number }> {
  return new Promise((resolve) => {
    const request = http.get({ host, port: 8080, path, agent, headers: { host: 'app' } }, (response) => {
      response.resume();
      response.on('end', () => resolve({ status: response.statusCode ?? 0 }));
    });
    request.on('error', () => resolve({ status: 0 }));
    request.setTimeout(2000, () => request.destroy());
  });
}

test('a bomb of held bodies: 503 and resets below the limit, and service as before when it is over', async (t) => {
  const APP = '127.8.41.3';
  // Answers nothing under /hold, so that the proxies keep what they may of each request.
  const app = http.createServer((req, res) => {
    if (req.url !== '/hold') res.end('fine');
  });
  app.requestTimeout = 0;
  await new Promise<void>((resolve) => app.listen(8080, APP, resolve));
  t.after(() => {
    app.closeAllConnections();
    app.close();
  });
  const limitMb = 240;
  const pair = await startPair({
    ports: [{ port: 8080, appHost: APP, appPort: 8080, timeoutMs: 0 }],
    limits: { memoryBytes: limitMb * MB },
    network: '127.8.41',
  });
  t.after(() => pair.stop());
  const { front } = pair;
  assert.equal((await ask(front.address, '/')).status, 200);

  const keepAlive = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => keepAlive.destroy());
  assert.equal((await ask(front.address, '/', keepAlive)).status, 200);
  let keepAliveClosed = false;
  for (const [s] of Object.values(keepAlive.freeSockets) as net.Socket[][])
    s.once('close', () => {
      keepAliveClosed = true;
    });
  const bombs: net.Socket[] = [];
  t.after(() => {
    for (const s of bombs) s.destroy();
  });
  const body = Buffer.alloc(60_000, 'x');
  let peak = 0;
  let refused = 0;
  for (let i = 0; i < 4000 && refused < 20; i++) {
    const socket = net.connect(8080, front.address);
    socket.on('error', () => {});
    socket.on('data', (d) => {
      const text = String(d);
      if (/ 503 /.test(text) && /x-envoy-local-overloaded: true/.test(text) && /connection: close/.test(text))
        refused++;
    });
    socket.write(`POST /hold HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\n`);
    socket.write(body);
    bombs.push(socket);
    if (i % 20 === 19) {
      await sleep(5);
      peak = Math.max(peak, rssMb(front.pid));
    }
  }
  const met = async (done: () => boolean): Promise<void> => {
    for (const end = performance.now() + 60_000; !done() && performance.now() < end; ) await sleep(20);
  };
  await met(() => refused > 0 && keepAliveClosed);
  t.diagnostic(`${bombs.length} bombs, peak ${peak.toFixed(0)} MB of ${limitMb}`);
  assert.ok(refused > 0, 'requests were refused');
  assert.ok(peak < limitMb * 1.1, `${peak} MB`);
  // Refused with an answer, or, at the upper level, without a connection.
  assert.notEqual((await ask(front.address, '/')).status, 200);
  assert.equal(keepAliveClosed, true, 'the idle connection from before was told to go');
  const { counters } = await front.take();
  assert.ok((counters.get('overload') ?? 0) > 0);
  assert.ok((counters.get('overload_requests_refused') ?? 0) > 0);
  for (const s of bombs) s.destroy();

  const end = performance.now() + 60_000;
  let status = 0;
  while (status !== 200 && performance.now() < end) {
    await sleep(100);
    status = (await ask(front.address, '/')).status;
  }
  assert.equal(status, 200, `after the bomb it serves again (${rssMb(front.pid).toFixed(0)} MB)`);
  assert.equal(front.exited, undefined);
});
