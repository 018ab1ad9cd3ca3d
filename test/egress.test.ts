/** Calls that leave the mesh: ServiceEntries with routes of their own, and what becomes of places nobody declared. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { peers, TestMesh } from './harness.ts';

test('ServiceEntry: static endpoints, a looked up name, routes; REGISTRY_ONLY by a Sidecar', async (t) => {
  const listen = async (address: string): Promise<number> => {
    const server = createServer((request, response) => response.end(request.url));
    server.listen(0, address);
    await once(server, 'listening');
    t.after(() => server.close());
    return (server.address() as { port: number }).port;
  };
  const port = await listen('127.0.0.1');
  const inBlock = await listen('127.97.4.9');
  const undeclared = `http://127.97.3.1:${await listen('127.97.3.1')}/direct`;

  const mesh = new TestMesh('explicit');
  t.after(() => mesh.cleanUp());
  const api = 'networking.istio.io/v1';
  mesh.write('services.yaml', peers({ client: { v1: 1 } }));
  mesh.write(
    'egress.yaml',
    `apiVersion: ${api}
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.outside.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${port}}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: ${api}
kind: VirtualService
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.outside.test]
  http:
    - match: [{uri: {prefix: /old}}]
      rewrite: {uriRegexRewrite: {match: "^/old/(.*)$", rewrite: '/new/\\1'}}
      route: [{destination: {host: api.outside.test}}]
    - match: [{uri: {prefix: /stop}}]
      directResponse: {status: 418}
    - route: [{destination: {host: api.outside.test}}]
---
apiVersion: ${api}
kind: ServiceEntry
metadata: {name: local, namespace: shop}
spec:
  hosts: ["localhost"]
  resolution: DNS
  ports: [{number: ${port}, name: http, protocol: HTTP}]
---
apiVersion: ${api}
kind: ServiceEntry
metadata: {name: block, namespace: shop}
spec:
  hosts: [block.outside.test]
  addresses: [127.97.4.0/24]
  resolution: NONE
  ports: [{number: ${inBlock}, name: http, protocol: HTTP}]
`,
  );
  mesh.start();
  await mesh.ready();
  const call = async (url: string): Promise<any> => (await mesh.ask('client', '/run', { url })).json.sample;

  const old = await call('http://api.outside.test/old/x?y=1');
  assert.deepEqual([old.key, old.text], ['200', '/new/x?y=1'], JSON.stringify(old));
  assert.equal((await call('http://api.outside.test/stop')).key, '418');
  assert.equal((await call('http://api.outside.test/other')).text, '/other');
  const local = await call(`http://localhost:${port}/by-name`);
  assert.deepEqual([local.key, local.text], ['200', '/by-name'], JSON.stringify(local));
  assert.equal((await call(undeclared)).key, '200', 'what nobody declared passes');

  mesh.write(
    'sidecar.yaml',
    `apiVersion: ${api}
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
`,
  );
  await mesh.until('unknown places are refused', 60_000, async () => {
    return (await call(undeclared)).key !== '200';
  });
  assert.equal((await call('http://api.outside.test/other')).key, '200', 'what is declared is served still');
  const block = await call(`http://127.97.4.9:${inBlock}/in-a-block`);
  assert.deepEqual([block.key, block.text], ['200', '/in-a-block'], 'of a block the address that was dialled');
});
