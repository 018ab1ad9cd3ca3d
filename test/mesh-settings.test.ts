/** Mesh settings, delegates and sessions through real processes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import tls from 'node:tls';
import { peers, TestMesh } from './harness.ts';

test('trust domain and egress of an IstioOperator; a delegate; a settings file that cannot hold is refused', async (t) => {
  const outside = createServer((_request, response) => response.end('outside'));
  outside.listen(0, '127.97.5.1');
  await once(outside, 'listening');
  t.after(() => outside.close());
  const undeclared = `http://127.97.5.1:${(outside.address() as { port: number }).port}/`;

  const mesh = new TestMesh('explicit');
  t.after(() => mesh.cleanUp());
  const settings = (trustDomain: string, mode: string, more = '{}') =>
    `apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    trustDomain: ${trustDomain}
    outboundTrafficPolicy: {mode: ${mode}}
    meshMTLS: ${more}
    tcpKeepalive: {time: 60s, interval: 10s, probes: 3}
`;
  const api = 'networking.istio.io/v1';
  mesh.write('services.yaml', peers({ client: { v1: 1 }, server: { v1: 1 } }));
  mesh.write('settings.yaml', settings('shop.test', 'REGISTRY_ONLY'));
  mesh.write(
    'rules.yaml',
    `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: own, namespace: shop}
spec:
  selector: {matchLabels: {app: server}}
  rules: [{from: [{source: {principals: ["shop.test/ns/shop/sa/*"]}}]}]
---
apiVersion: ${api}
kind: VirtualService
metadata: {name: server, namespace: shop}
spec:
  hosts: [server]
  http:
    - match: [{uri: {prefix: /team}}]
      delegate: {name: team, namespace: shop}
    - route: [{destination: {host: server}}]
---
apiVersion: ${api}
kind: VirtualService
metadata: {name: team, namespace: shop}
spec:
  http:
    - match: [{uri: {exact: /team/away}}]
      directResponse: {status: 418}
    - rewrite: {uri: /}
      route: [{destination: {host: server}}]
`,
  );
  mesh.start();
  await mesh.ready();
  const call = async (url: string): Promise<any> => (await mesh.ask('client', '/run', { url })).json.sample;
  const server = await call('http://server:8080/');
  assert.equal(server.key.split(' ')[0], '200', JSON.stringify(server));
  assert.equal((await call('http://server:8080/team/away')).key, '418');
  assert.equal((await call('http://server:8080/team/other')).key.split(' ')[0], '200');
  assert.notEqual((await call(undeclared)).key, '200', 'unknown places are refused');

  mesh.write('settings.yaml', settings('shop.test', 'ALLOW_ANY'));
  await mesh.until('unknown places are passed on', 60_000, async () => (await call(undeclared)).key === '200');

  // A stranger's handshake with the mesh port is done before its certificate is missed.
  const { address } = mesh.ps().find((r) => r.workload === 'server')!;
  const by = async (ecdhCurve: string): Promise<string> => {
    const socket = tls.connect({ host: address, port: 15008, ecdhCurve, rejectUnauthorized: false });
    socket.on('error', () => {});
    const done = once(socket, 'secureConnect').then(
      () => socket.getCipher().name,
      (error: NodeJS.ErrnoException) => error.code ?? '',
    );
    return done.finally(() => socket.destroy());
  };
  assert.match(await by('P-256'), /^TLS_/);
  const chosen = '{ecdhCurves: [P-384], cipherSuites: [TLS_AES_256_GCM_SHA384]}';
  mesh.write('settings.yaml', settings('shop.test', 'ALLOW_ANY', chosen));
  await mesh.until('links are of the curve', 60_000, async () => /HANDSHAKE_FAILURE/.test(await by('P-256')));
  assert.equal(await by('P-384'), 'TLS_AES_256_GCM_SHA384');
  assert.equal((await call('http://server:8080/')).key.split(' ')[0], '200');

  // A trust domain is in every certificate: the change is refused whole, and what was before it goes on.
  mesh.write('settings.yaml', settings('other.test', 'REGISTRY_ONLY'));
  await mesh.until('the refusal is told', 60_000, () => mesh.output.includes('it is in every certificate'));
  assert.equal((await call(undeclared)).key, '200');
  assert.equal((await call('http://server:8080/')).key.split(' ')[0], '200');
});
