/** What applications speak crosses the mesh unchanged: two real processes, each behind its sidecar. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot, type Row, request, TestMesh } from './harness.ts';

const DEPS = join(import.meta.dirname, '..');
const long = process.env.WEFT_LONG === '1';
const SIZE = (long ? 1024 : 256) * 1024 * 1024;
/** Far below the size. The goal is half of it; the rest is for garbage that a busy machine collects late. */
const GROWTH_LIMIT = (long ? 30 : 60) * 1024 * 1024;

const process_ = (name: string, ports: number[]): string => `---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${name}
  namespace: shop
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: ${name}
  namespace: shop
  labels:
    app: ${name}
    version: v1
spec:
  command: [node, apps/protocols.mjs]
  serviceAccountName: ${name}
  env:
    - name: ROLE
      value: ${name}
    - name: DEPS
      value: ${DEPS}
  ports:
${ports.map((p) => `    - name: p${p}\n      containerPort: ${p}`).join('\n')}
  readinessProbe:
    tcpSocket:
      port: ${ports.at(-1)}
    periodSeconds: 1
    failureThreshold: 60
`;

const FILES = `apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: Service
metadata:
  name: server
  namespace: shop
spec:
  selector:
    app: server
  ports:
    - name: http
      port: 8080
    - name: tcp
      port: 7000
    - name: grpc
      port: 9000
---
apiVersion: v1
kind: Service
metadata:
  name: server-headless
  namespace: shop
spec:
  clusterIP: None
  selector:
    app: server
  ports:
    - name: http
      port: 8080
---
apiVersion: v1
kind: Service
metadata:
  name: client
  namespace: shop
spec:
  selector:
    app: client
  ports:
    - name: http
      port: 8080
${process_('server', [8080, 7000, 9000])}${process_('client', [8080])}`;

function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
}

for (const capture of [isRoot ? 'transparent' : 'explicit'] as const) {
  test(`protocols, ${capture} capture`, async (t) => {
    const mesh = new TestMesh(capture);
    t.after(() => mesh.cleanUp());
    mesh.write('mesh.yaml', FILES);
    mesh.start();
    await mesh.ready();
    const rows = mesh.ps();
    const row = (name: string): Row => rows.find((r) => r.workload === name) as Row;
    const run = async (name: string, argument = ''): Promise<any> => {
      const answer = await request(row('client').address, 8080, `/?name=${name}&with=${encodeURIComponent(argument)}`);
      assert.equal(answer.status, 200, `${name}: ${answer.text}\n${mesh.logs('client', true).slice(-1500)}`);
      return answer.json;
    };

    await t.test('gRPC: unary call, status and trailers', async () => {
      const r = await run('grpc');
      assert.deepEqual(r.good, { code: 0, text: 'hello', trailer: 'there' });
      assert.deepEqual(r.bad, { code: 9, details: 'as asked', trailer: 'there' });
    });

    await t.test('TCP: the server speaks first, half-close keeps the other direction', async () => {
      assert.deepEqual(await run('tcp'), { greeting: 'HELLO\n', rest: 'ping\nBYE\n' });
    });

    await t.test('WebSocket: key and accept pass unchanged, bytes pass both ways', async () => {
      const r = await run('websocket');
      assert.match(r.head, /^HTTP\/1\.1 101 /);
      assert.match(r.head, /^upgrade: websocket\r$/im);
      assert.match(r.head, /^connection: upgrade\r$/im);
      assert.equal(/^sec-websocket-accept: (.*)\r$/im.exec(r.head)?.[1], r.expected);
      assert.equal(/^x-seen-key: (.*)\r$/im.exec(r.head)?.[1], r.key);
      assert.equal(r.echoed, 'onetwo');
    });

    await t.test('server-sent events are not held back', async () => {
      const r = await run('sse');
      assert.equal(r.events, 4);
      assert.ok(r.spreadMs > 300, `events came within ${r.spreadMs} ms`);
    });

    // Once is enough: capture makes no difference to bodies.
    if (capture === 'transparent' || !isRoot)
      await t.test(`${long ? '1 GiB' : '256 MiB'} up and down in constant memory`, async () => {
        const pids = ['client', 'server'].map((w) => row(w).proxyPid as number);
        // What compiling and the first collections of garbage take is no matter of the size.
        await run('download', String(SIZE / 8));
        await run('upload', String(SIZE / 8));
        const before = pids.map(residentBytes);
        const most = [...before];
        const timer = setInterval(() => {
          for (const [i, pid] of pids.entries()) most[i] = Math.max(most[i] ?? 0, residentBytes(pid));
        }, 50);
        try {
          assert.deepEqual(await run('download', String(SIZE)), { bytes: SIZE });
          assert.deepEqual(await run('upload', String(SIZE)), { bytes: SIZE });
        } finally {
          clearInterval(timer);
        }
        const growth = most.map((m, i) => m - (before[i] ?? 0));
        t.diagnostic(`growth of the proxies: ${growth.map((g) => `${(g / 1e6).toFixed(1)} MB`).join(', ')}`);
        assert.ok(Math.max(...growth) < GROWTH_LIMIT, `the proxies grew by ${growth} bytes`);
      });

    await t.test('HTTP/1.0, with and without Host', async () => {
      const r = await run('http10');
      for (const text of [r.plain, r.withHost]) {
        assert.match(text, /^HTTP\/1\.[01] 200 /);
        assert.doesNotMatch(text, /transfer-encoding/i);
        assert.match(text, /"http":"1\.1"\}$/);
      }
    });

    await t.test('chunked bodies with trailers, both ways', async () => {
      const { text } = await run('trailers');
      assert.match(text, /hello/);
      assert.match(text, /^x-answer: sum=11\r$/m);
    });

    await t.test('Expect: 100-continue', async () => {
      const r = await run('expect100');
      assert.match(r.interim, /^HTTP\/1\.1 100 /);
      assert.match(r.text, /^HTTP\/1\.1 200 /);
    });

    await t.test('a trace goes on', async () => {
      const h = await run('trace');
      const [, trace, span, sampled] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])$/.exec(h.traceparent) ?? [];
      assert.equal(trace, '0af7651916cd43dd8448eb211c80319c');
      assert.notEqual(span, 'b7ad6b7169203331');
      assert.equal(sampled, '01');
      assert.equal(h.tracestate, 'a=b');
    });

    await t.test('a destination outside of the mesh passes', async () => {
      const outside = http.createServer((_q, r) => r.end('from outside'));
      await new Promise<void>((resolve) => outside.listen(0, '0.0.0.0', resolve));
      try {
        const r = await run('outside', String((outside.address() as AddressInfo).port));
        assert.match(r.text, /from outside/);
      } finally {
        outside.close();
      }
    });

    if (capture !== 'transparent') return;
    await t.test('DNS over UDP and TCP: names of a service, headless, unknown', async () => {
      const fqdn = await run('dns', 'server.shop.svc.cluster.local');
      assert.equal(fqdn.udp.rcode, 0);
      assert.equal(fqdn.udp.addresses.length, 1);
      assert.deepEqual(fqdn.tcp, fqdn.udp);
      for (const name of ['server', 'server.shop', 'server.shop.svc']) {
        assert.deepEqual((await run('lookup', name)).addresses, fqdn.udp.addresses, name);
        const plain = await run('dns', name);
        assert.deepEqual([plain.udp, plain.tcp], [fqdn.udp, fqdn.udp], name);
      }
      const headless = await run('dns', 'server-headless.shop.svc.cluster.local');
      assert.deepEqual(headless.udp.addresses, [row('server').address]);
      const unknown = await run('dns', 'no-such-name.invalid');
      assert.ok([2, 3].includes(unknown.udp.rcode), `rcode ${unknown.udp.rcode}`);
      assert.equal(unknown.tcp.rcode, unknown.udp.rcode);
      assert.ok(!long || unknown.ms < 9000, `${unknown.ms}`);
    });
  });
}
