/** The application's own TLS, routed by the name that its client asks for: a VirtualService with `tls` routes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot, request, TestMesh } from './harness.ts';

const process_ = (
  name: string,
  app: string,
  version: string,
  command: string,
  port: number,
  env: string[],
): string => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata:
  name: ${name}
  namespace: shop
  labels:
    app: ${app}
    version: ${version}
spec:
  command: [node, apps/${command}]
  env:
${env.map((e) => `    - name: ${e.split('=')[0]}\n      value: ${e.split('=')[1]}`).join('\n')}
  ports:
    - name: ${port === 8443 ? 'tls' : 'http'}
      containerPort: ${port}
  readinessProbe:
    tcpSocket:
      port: ${port}
    periodSeconds: 1
    failureThreshold: 60
`;

const service = (name: string, port: string, number: number): string => `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: shop
spec:
  selector:
    app: ${name}
  ports:
    - name: ${port}
      port: ${number}
---
`;

const RULES = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: secure
  namespace: shop
spec:
  host: secure
  subsets:
    - name: v1
      labels:
        version: v1
    - name: v2
      labels:
        version: v2
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: secure
  namespace: shop
spec:
  hosts: [secure]
  tls:
    - match:
        - sniHosts: ["*.example.com"]
      route:
        - destination:
            host: secure
            subset: v1
    - match:
        - sniHosts: [two.example.com]
          port: 8443
      route:
        - destination:
            host: secure
            subset: v2
`;

test('TLS passes by its server name', async (t) => {
  const mesh = new TestMesh(isRoot ? 'transparent' : 'explicit');
  t.after(() => mesh.cleanUp());
  const at = (name: string): string => join(mesh.folder, name);
  for (const name of ['v1', 'v2']) {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${name}.key`)];
    const args = ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', '-out', at(`${name}.pem`)];
    execFileSync('openssl', args, { stdio: 'pipe' });
    execFileSync('chmod', ['644', at(`${name}.key`)]);
  }
  const tlsEnv = (v: string): string[] => [`CERT=${at(`${v}.pem`)}`, `KEY=${at(`${v}.key`)}`, `CA=${at(`${v}.pem`)}`];
  mesh.write(
    'mesh.yaml',
    `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\n${service('secure', 'tls', 8443)}${service('client', 'http', 8080)}` +
      process_('secure-v1', 'secure', 'v1', 'tls.mjs', 8443, tlsEnv('v1')) +
      process_('secure-v2', 'secure', 'v2', 'tls.mjs', 8443, tlsEnv('v2')) +
      process_('client', 'client', 'v1', 'protocols.mjs', 8080, [
        'ROLE=client',
        `DEPS=${join(import.meta.dirname, '..')}`,
      ]),
  );
  mesh.write('rules.yaml', RULES);
  mesh.start();
  await mesh.ready();
  const { address } = mesh.row('client');
  const ask = async (name: string): Promise<{ name?: string; error?: string }> => {
    const what = encodeURIComponent(`${name} secure:8443`);
    return (await request(address, 8080, `/?name=tls&with=${what}`)).json;
  };
  for (let i = 0; i < 4; i++) {
    assert.deepEqual(await ask('one.example.com'), { name: 'v1' });
    assert.deepEqual(await ask('TWO.example.com'), { name: 'v2' }, 'an exact name goes before a wildcard');
  }
  for (const name of ['example.com', 'two.example.org', ''])
    assert.ok((await ask(name)).error, `"${name}" has no route`);
  await mesh.until('the names in the log', 60_000, () => /two\.example\.com/i.test(mesh.logs('client', true)));
});
