/** A mesh with a gateway, as visitors and operators see it: real processes, both captures. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { EDGE_HTTP, EDGE_HTTPS, type GatewayMesh, INGRESS, makeCertificate, startGatewayMesh } from './gateway-mesh.ts';
import { isRoot, peers, request, type TestMesh } from './harness.ts';

const ROUTES = `${INGRESS}---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: site, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [plain.test]
    - port: {number: 80, name: http-moved, protocol: HTTP}
      hosts: [shop.test]
      tls: {httpsRedirect: true}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.test, more.test]
      tls: {mode: SIMPLE, credentialNames: [shop-cert, more-cert], minProtocolVersion: TLSV1_3}
    - port: {number: 443, name: https-files, protocol: HTTPS}
      hosts: ["*.files.test"]
      tls: {mode: SIMPLE, serverCertificate: edge.crt, privateKey: edge.key}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: site, namespace: shop}
spec:
  hosts: [plain.test, shop.test, "*.files.test"]
  gateways: [shop/site]
  http:
    - match: [{headers: {x-canary: {exact: "true"}}}]
      route: [{destination: {host: front, subset: v2}}]
    - route: [{destination: {host: front, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: front, namespace: shop}
spec:
  host: front
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
# Only the gateway may ask front.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: front, namespace: shop}
spec:
  selector: {matchLabels: {app: front}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/ingress]}}]
`;

function secretOf(folder: string, stem: string, name = 'shop-cert'): string {
  const encoded = (name: string) => readFileSync(join(folder, name)).toString('base64');
  return `apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: ${name}, namespace: shop}
data:
  tls.crt: ${encoded(`${stem}.crt`)}
  tls.key: ${encoded(`${stem}.key`)}
`;
}

interface Said {
  status: number;
  version: string;
  head: string;
  text: string;
  json: any;
}

function curl(...args: string[]): Said {
  const out = execFileSync(
    'curl',
    ['-s', '-i', '--connect-timeout', '60', '--max-time', '60', '-w', '\n%{http_code} %{http_version}', ...args],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    },
  );
  const end = out.lastIndexOf('\n');
  const [status, version] = out.slice(end + 1).split(' ');
  const split = out.indexOf('\r\n\r\n');
  const text = out.slice(split + 4, end);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {}
  return { status: Number(status), version, head: out.slice(0, split), text, json };
}

/** Serial number of the certificate that is shown for a name. */
function serial(address: string, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const s = tls.connect({ host: address, port: EDGE_HTTPS, servername, rejectUnauthorized: false }, () => {
      resolve(s.getPeerCertificate().serialNumber);
      s.end();
    });
    s.on('error', reject);
  });
}

/** Every file below a folder. */
function* filesBelow(folder: string): Generator<string> {
  for (const e of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, e.name);
    if (e.isDirectory()) yield* filesBelow(path);
    else if (e.isFile()) yield path;
  }
}

async function visit(t: TestContext, capture: 'transparent' | 'explicit'): Promise<void> {
  let gateway: GatewayMesh;
  t.before(async () => {
    gateway = await startGatewayMesh(capture, {
      prepare: (mesh: TestMesh) => {
        makeCertificate(mesh.folder, 'shop', ['shop.test']);
        makeCertificate(mesh.folder, 'edge', ['*.files.test']);
        mesh.write('services.yaml', peers({ front: { v1: 1, v2: 1 } }));
        mesh.write('gateway.yaml', ROUTES);
        mesh.write('secret.yaml', secretOf(mesh.folder, 'shop'));
        makeCertificate(mesh.folder, 'more', ['more.test']);
        mesh.write('more.yaml', secretOf(mesh.folder, 'more', 'more-cert'));
      },
    });
  });
  t.after(() => gateway?.close());
  const http = (path: string, ...args: string[]) => curl(`http://${gateway.address}:${EDGE_HTTP}${path}`, ...args);
  const https = (name: string, ca: string, ...args: string[]) =>
    curl(
      `https://${name}:${EDGE_HTTPS}/`,
      '--resolve',
      `${name}:${EDGE_HTTPS}:${gateway.address}`,
      '--cacert',
      join(gateway.mesh.folder, `${ca}.crt`),
      ...args,
    );
  const plain = ['-H', 'Host: plain.test'];

  await t.test('plaintext: HTTP/1.1, HTTP/2 by prior knowledge, routes by header, unknown hosts', () => {
    const one = http('/a?b=c', ...plain, '-H', 'x-weft-source: w=forged', '-H', 'x-forwarded-for: 1.2.3.4');
    assert.deepEqual(
      [one.status, one.version, one.json?.version, one.json?.path],
      [200, '1.1', 'v1', '/a?b=c'],
      one.text,
    );
    assert.doesNotMatch(one.head, /^server:/im);
    const { headers } = one.json;
    assert.match(headers['x-forwarded-for'], /^1\.2\.3\.4, [0-9.]+$/);
    assert.equal(headers['x-forwarded-proto'], 'http');
    assert.equal(headers['x-weft-source'], undefined);
    assert.match(headers['x-forwarded-client-cert'], /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/ingress$/);
    const two = http('/', ...plain, '--http2-prior-knowledge', '-H', 'x-canary: true');
    assert.deepEqual([two.status, two.version, two.json?.version], [200, '2', 'v2'], two.text);
    assert.equal(http('/').status, 404);
    assert.equal(http('/', ...plain, '-0').status, 426);
    const body = 'x'.repeat(200_000);
    const sent = join(gateway.mesh.folder, 'body.txt');
    execFileSync('sh', ['-c', 'head -c 200000 /dev/zero | tr "\\0" x > "$0"', sent]);
    const posted = http('/', ...plain, '--data-binary', `@${sent}`);
    assert.equal(posted.json?.headers['content-length'], String(body.length));
    assert.equal(posted.json?.body, body.slice(0, 1000));
  });

  await t.test('TLS: certificates by name, both protocols, the redirect, and names that nobody has', () => {
    const moved = http('/x?y=z', '-H', 'Host: shop.test');
    assert.equal(moved.status, 301);
    assert.match(moved.head, /^location: https:\/\/shop\.test\/x\?y=z\r?$/im);
    const two = https('shop.test', 'shop');
    assert.deepEqual([two.status, two.version, two.json?.headers['x-forwarded-proto']], [200, '2', 'https'], two.text);
    assert.equal(https('shop.test', 'shop', '--http1.1').version, '1.1');
    assert.equal(https('a.files.test', 'edge', '--tls-max', '1.2').status, 200);
    assert.throws(() => https('shop.test', 'shop', '--tls-max', '1.2'), /Command failed/);
    assert.throws(() => https('nobody.test', 'shop', '-k'), /Command failed/);
    assert.throws(() => https('shop.test', 'edge'), /Command failed/, 'the certificate is the one of the name');
  });

  await t.test('of several certificates of a server the one for the name is shown', async () => {
    const serialOf = (stem: string) =>
      new X509Certificate(readFileSync(join(gateway.mesh.folder, `${stem}.crt`))).serialNumber;
    assert.equal(await serial(gateway.address, 'more.test'), serialOf('more'));
    assert.equal(await serial(gateway.address, 'shop.test'), serialOf('shop'));
    assert.match(gateway.mesh.weft('proxy-config', 'secret', 'ingress'), /secret\/shop\/more-cert \(DNS:more\.test\)/);
  });

  await t.test('nobody else comes in', async (s) => {
    if (capture === 'explicit') return s.skip('without namespaces an application’s own socket is open to all');
    await assert.rejects(request(gateway.mesh.row('front-v1').address, 8080, '/'), /ECONNRESET|socket hang up/);
  });

  await t.test('the command line and metrics tell of it, and never a key', async () => {
    const { mesh, address } = gateway;
    const said = /gateway ingress-0 serves plain\.test at http:\/\//;
    await mesh.until('weft up says where', 60_000, () => said.test(mesh.output));
    assert.equal(mesh.row('ingress').state, 'ready');
    assert.match(mesh.weft('proxy-config', 'listener', 'ingress'), /gateway +plain\.test,shop\.test +8080 +HTTP /);
    assert.match(mesh.weft('proxy-config', 'route', 'ingress'), /https:\/\/\*\.files\.test:8443/);
    assert.match(mesh.weft('proxy-config', 'secret', 'ingress'), /secret\/shop\/shop-cert \(DNS:shop\.test\)/);
    assert.match(mesh.weft('proxy-status'), /ingress-0 +SYNCED/);
    const metrics = (await request(address, 15090, '/stats/prometheus')).text;
    const line = metrics
      .split('\n')
      .find((l) => l.startsWith('istio_requests_total{') && l.includes('destination_version="v2"'));
    for (const want of ['reporter="source"', 'source_workload="ingress"', 'destination_service_name="front"'])
      assert.ok(line?.includes(want), `${want} in ${line}`);
    let log = '';
    await mesh.until('the access log tells of all', 60_000, () => {
      log = mesh.logs('ingress', true);
      assert.match(log, /"authority":"plain\.test".*"route_source":"[^"]*gateway\.yaml:\d+"/);
      assert.match(log, /"x_forwarded_for":"1\.2\.3\.4, [0-9.]+"/);
      assert.match(log, /"requested_server_name":"shop\.test"/);
      return true;
    });
    const told = ['listener', 'route', 'cluster', 'endpoint', 'secret'].map((w) =>
      mesh.weft('proxy-config', w, 'ingress', '-o', 'json'),
    );
    const keys = ['shop.key', 'edge.key'].map((f) => readFileSync(join(mesh.folder, f), 'utf8').split('\n')[1]!);
    for (const key of keys) assert.ok(!`${told.join('')}${log}${mesh.output}`.includes(key), 'a key is told');
    let kept = 0;
    for (const file of filesBelow(mesh.state)) {
      const text = readFileSync(file, 'latin1');
      if (!keys.some((k) => text.includes(k) || text.includes(Buffer.from(k).toString('base64').slice(4, -8))))
        continue;
      kept += 1;
      assert.equal(statSync(file).mode & 0o077, 0, `${file} holds a key and is open to others`);
    }
    assert.ok(kept > 0, 'the search finds what it looks for');
  });

  await t.test('certificates change while visitors are served; a broken one is refused', async () => {
    const { mesh, address } = gateway;
    const before = [await serial(address, 'shop.test'), await serial(address, 'x.files.test')];
    makeCertificate(mesh.folder, 'next', ['shop.test']);
    mesh.write('secret.yaml', secretOf(mesh.folder, 'next'));
    await mesh.until('the new certificate is shown', 60_000, async () => {
      assert.equal(http('/', ...plain).status, 200);
      return (await serial(address, 'shop.test')) !== before[0];
    });
    assert.equal(await serial(address, 'x.files.test'), before[1]);
    makeCertificate(mesh.folder, 'edge', ['*.files.test']);
    await mesh.until(
      'the new file is shown',
      60_000,
      async () => (await serial(address, 'x.files.test')) !== before[1],
    );

    const shown = await serial(address, 'shop.test');
    mesh.write('secret.yaml', secretOf(mesh.folder, 'next').replace(/tls\.key: .*/, 'tls.key: QUJD'));
    await mesh.until('it is refused with its place', 60_000, () =>
      /secret\.yaml:\d+.*no PEM of a PRIVATE KEY/.test(mesh.output),
    );
    assert.equal(await serial(address, 'shop.test'), shown);
    mesh.write('secret.yaml', secretOf(mesh.folder, 'next'));
  });

  await t.test('a killed gateway comes back; more of them serve alike', async () => {
    const { mesh } = gateway;
    process.kill(mesh.row('ingress').proxyPid!, 'SIGKILL');
    await mesh.until('it serves again', 60_000, () => http('/', ...plain).status === 200);
    mesh.weft('scale', 'ingress', '2');
    const second = mesh.ps().find((r) => r.name === 'ingress-1')!;
    assert.equal(second.state, 'ready');
    assert.equal(curl(`http://${second.address}:${EDGE_HTTP}/`, ...plain).status, 200);
    mesh.weft('scale', 'ingress', '0');
    assert.throws(() => http('/', ...plain), /Command failed/);
  });
}

// Each way where it is the one that users get: .ci/run does both.
const capture = isRoot ? 'transparent' : 'explicit';
test(`a gateway, ${capture} capture`, (t) => visit(t, capture));
