/** An application speaks HTTP, its sidecar speaks TLS with a client certificate to a server that is not in the mesh. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot, peers, TestMesh } from './harness.ts';

test('DestinationRule with tls.mode MUTUAL', async (t) => {
  const mesh = new TestMesh(isRoot ? 'transparent' : 'explicit');
  t.after(() => mesh.cleanUp());
  const at = (name: string): string => join(mesh.folder, name);
  const make = (name: string, ca?: string): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${name}.key`)];
    const signer = ca ? ['-CA', at(`${ca}.pem`), '-CAkey', at(`${ca}.key`)] : [];
    const san = ['-addext', `subjectAltName=DNS:${name}.example.com`];
    const args = ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', '-out', at(`${name}.pem`)];
    execFileSync('openssl', [...args, ...signer, ...san], { stdio: 'pipe' });
  };
  make('ca');
  make('server', 'ca');
  make('client', 'ca');
  // Applications and proxies run as other users.
  execFileSync('chmod', ['644', at('server.key'), at('client.key')]);
  const rule = (sni: string): string => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: outside
  namespace: shop
spec:
  host: outside
  trafficPolicy:
    tls:
      mode: MUTUAL
      sni: ${sni}
      caCertificates: ${at('ca.pem')}
      clientCertificate: ${at('client.pem')}
      privateKey: ${at('client.key')}
`;
  mesh.write('services.yaml', peers({ client: { v1: 1 } }));
  mesh.write(
    'outside.yaml',
    `apiVersion: v1
kind: Service
metadata:
  name: outside
  namespace: shop
spec:
  selector:
    app: outside
  ports:
    - name: http
      port: 80
      targetPort: 8443
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: outside
  namespace: shop
  labels:
    app: outside
  annotations:
    sidecar.istio.io/inject: "false"
spec:
  command: [node, apps/tls.mjs]
  env:
    - name: CERT
      value: ${at('server.pem')}
    - name: KEY
      value: ${at('server.key')}
    - name: CA
      value: ${at('ca.pem')}
  ports:
    - name: https
      containerPort: 8443
  readinessProbe:
    tcpSocket:
      port: 8443
    periodSeconds: 1
    failureThreshold: 60
`,
  );
  mesh.write('rule.yaml', rule('server.example.com'));
  mesh.start();
  await mesh.ready();
  const call = async (): Promise<any> => (await mesh.ask('client', '/run', { url: 'http://outside/' })).json.sample;
  const good = await call();
  assert.equal(good.key, '200', JSON.stringify(good));
  const seen = { servername: 'server.example.com', client: 'client', authorized: true, host: 'outside' };
  assert.deepEqual(JSON.parse(good.text), seen);

  // A name that the server's certificate does not have.
  mesh.write('rule.yaml', rule('other.example.com'));
  await mesh.until('the new rule', 60_000, async () => (await call()).key === '503');
  await mesh.until('the reason in the log', 60_000, () =>
    /ERR_TLS_CERT_ALTNAME_INVALID/.test(mesh.logs('client', true)),
  );
});
