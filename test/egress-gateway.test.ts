/**
 * The way out through an egress gateway, as Istio's documents write it: the application's plain HTTP becomes TLS at the
 * gateway (with a client certificate of a Secret there), its own TLS passes by name; who may go out is decided there, by the identity of the caller.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { isRoot, request, TestMesh } from './harness.ts';

const API = 'networking.istio.io/v1';
const GATEWAY = 'egress.edge.svc.cluster.local';

const workload = (name: string): string => `---
apiVersion: v1
kind: ServiceAccount
metadata: {name: ${name}, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}
spec:
  command: [node, apps/protocols.mjs]
  serviceAccountName: ${name}
  env: [{name: ROLE, value: client}, {name: DEPS, value: "${join(import.meta.dirname, '..')}"}]
  ports: [{name: http, containerPort: 8080}]
  readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}
`;

const entry = (host: string, ports: string, address: string): string => `---
apiVersion: ${API}
kind: ServiceEntry
metadata: {name: ${host.split('.')[0]}, namespace: edge}
spec:
  hosts: [${host}]
  resolution: STATIC
  ports: ${ports}
  endpoints: [{address: ${address}}]
`;

/** Where the outside is: in namespaces by the bridge, whose address is known when the mesh runs. */
const entries = (address: string, port: number): string =>
  entry(
    'api.test',
    `[{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: HTTP, targetPort: ${port}}]`,
    address,
  ) + entry('own.test', `[{number: 443, name: tls, protocol: TLS, targetPort: ${port}}]`, address);

const manifests = (pem: (name: string) => string): string => `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: edge}
${workload('good')}${workload('bad')}---
apiVersion: v1
kind: Service
metadata: {name: egress, namespace: edge}
spec:
  selector: {istio: egressgateway}
  ports: [{name: http2, port: 80, targetPort: 8080}, {name: tls, port: 443, targetPort: 8443}]
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: egress, namespace: edge, labels: {istio: egressgateway}}
spec: {gateway: {}}
---
apiVersion: v1
kind: Secret
metadata: {name: way-out, namespace: edge}
data: {tls.crt: ${pem('client.pem')}, tls.key: ${pem('client.key')}, ca.crt: ${pem('server.pem')}}
---
apiVersion: ${API}
kind: Gateway
metadata: {name: egress, namespace: edge}
spec:
  selector: {istio: egressgateway}
  servers:
    - {port: {number: 80, name: https-for-origination, protocol: HTTPS}, hosts: [api.test], tls: {mode: ISTIO_MUTUAL}}
    - {port: {number: 443, name: tls, protocol: TLS}, hosts: [own.test], tls: {mode: PASSTHROUGH}}
---
apiVersion: ${API}
kind: DestinationRule
metadata: {name: egress-for-api, namespace: edge}
spec:
  host: ${GATEWAY}
  subsets:
    - name: api
      trafficPolicy:
        loadBalancer: {simple: ROUND_ROBIN}
        portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL, sni: api.test}}]
---
apiVersion: ${API}
kind: VirtualService
metadata: {name: api-through-egress, namespace: edge}
spec:
  hosts: [api.test]
  gateways: [egress, mesh]
  http:
    - match: [{gateways: [mesh], port: 80}]
      route: [{destination: {host: ${GATEWAY}, subset: api, port: {number: 80}}, weight: 100}]
    - match: [{gateways: [egress], port: 80}]
      route: [{destination: {host: api.test, port: {number: 443}}, weight: 100}]
---
apiVersion: ${API}
kind: DestinationRule
metadata: {name: originate-tls-for-api, namespace: edge}
spec:
  host: api.test
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: way-out}}]
---
apiVersion: ${API}
kind: VirtualService
metadata: {name: own-through-egress, namespace: edge}
spec:
  hosts: [own.test]
  gateways: [mesh, egress]
  tls:
    - match: [{gateways: [mesh], port: 443, sniHosts: [own.test]}]
      route: [{destination: {host: ${GATEWAY}, port: {number: 443}}}]
    - match: [{gateways: [egress], port: 443, sniHosts: [own.test]}]
      route: [{destination: {host: own.test, port: {number: 443}}, weight: 100}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: who-may-go-out, namespace: edge}
spec:
  selector: {matchLabels: {istio: egressgateway}}
  action: ALLOW
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/good]}}]}]
`;

test('egress gateway: TLS begun there, TLS passed on, and who may go out', async (t) => {
  const mesh = new TestMesh(isRoot ? 'transparent' : 'explicit');
  t.after(() => mesh.cleanUp());
  const at = (name: string): string => join(mesh.folder, name);
  const make = (name: string, san: string): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at(`${name}.key`)];
    const args = ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', '-addext', `subjectAltName=${san}`];
    execFileSync('openssl', [...args, '-out', at(`${name}.pem`)], { stdio: 'pipe' });
  };
  make('server', 'DNS:api.test,DNS:own.test');
  make('client', 'DNS:client.test');
  const seen: string[] = [];
  const outside = https.createServer(
    {
      ...{ cert: readFileSync(at('server.pem')), key: readFileSync(at('server.key')) },
      ...{ requestCert: true, rejectUnauthorized: false, ca: readFileSync(at('client.pem')) },
    },
    (q, r) => {
      const socket = q.socket as TLSSocket;
      const who = socket.authorized ? socket.getPeerCertificate().subject.CN : 'nobody';
      seen.push(`${q.headers.host} by ${who}, ${q.headers['x-forwarded-client-cert'] ?? 'no xfcc'}`);
      r.end(`outside ${q.url}`);
    },
  );
  outside.listen(0, isRoot ? '0.0.0.0' : '127.0.0.1');
  await once(outside, 'listening');
  t.after(() => {
    outside.close();
    outside.closeAllConnections();
  });
  const pem = (name: string): string => readFileSync(at(name)).toString('base64');
  const { port } = outside.address() as { port: number };
  mesh.write('mesh.yaml', manifests(pem));
  mesh.write('outside.yaml', entries('127.0.0.1', port));
  mesh.start();
  await mesh.ready();
  if (isRoot) mesh.write('outside.yaml', entries(mesh.row('good').address.replace(/\d+$/, '1'), port));
  const ask = async (from: string, name: string, what: string): Promise<any> => {
    const { address } = mesh.row(from);
    return (await request(address, 8080, `/?name=${name}&with=${encodeURIComponent(what)}`)).json;
  };
  const get = async (from: string): Promise<string> => (await ask(from, 'get', 'api.test:80/x')).text;
  await mesh.until('the outside is known', 60_000, async () =>
    /^HTTP\/1\.1 200 .*outside \/x/s.test(await get('good')),
  );
  assert.deepEqual(seen, ['api.test by client, no xfcc']);
  assert.match(await get('bad'), /^HTTP\/1\.1 403 /);
  assert.deepEqual(await ask('good', 'tls', 'own.test own.test:443'), { name: 'server' });
  assert.ok((await ask('bad', 'tls', 'own.test own.test:443')).error, 'refused by the gateway');
  assert.equal(seen.length, 1, 'nothing else has come out');
  await mesh.until('the gateway says who was refused', 60_000, () =>
    /who-may-go-out|rbac_access_denied/.test(mesh.logs('egress', true)),
  );
});
