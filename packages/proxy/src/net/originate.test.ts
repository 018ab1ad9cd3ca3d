/** TLS that the proxy begins: the application speaks plaintext, real servers speak TLS. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { ClientTls, EndpointsSchema, outboundClusterName, type Part, PartSchema, Protocol } from '@weft/plan';
import { DataPlane } from '../data-plane.ts';
import { copyOf, type Observer, type RequestRecord } from '../observe/types.ts';
import { testIdentities } from '../test-identity.ts';

const FRONT = '127.7.21.1';
const OUTSIDE = '127.7.21.2';
const dir = mkdtempSync(join(tmpdir(), 'weft-originate-'));
const file = (name: string): string => join(dir, name);
const records: RequestRecord[] = [];
const observer: Observer = {
  request: (r) => void records.push(copyOf(r)),
  tcpOpen: () => {},
  tcpClose: () => {},
  plaintext: () => {},
  running: () => undefined,
  count: () => {},
};

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}

/** `NAME.pem` and `NAME.key`, signed by `CA.pem`; with no CA it is one itself. */
function certificate(name: string, ca: string | undefined, san: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file(`${name}.key`)];
  const common = ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', '-out', file(`${name}.pem`)];
  if (!ca) openssl(...common);
  else
    openssl(
      ...common,
      '-CA',
      file(`${ca}.pem`),
      '-CAkey',
      file(`${ca}.key`),
      '-addext',
      `subjectAltName=${san}`,
      '-addext',
      'basicConstraints=critical,CA:false',
    );
}

interface Outside {
  port: number;
  protocol: Protocol;
  tls: number;
  origination: object;
}
const BASE = 9400;
const services: Record<string, Outside> = {};
const closing: { close(): void }[] = [];
let proxy: DataPlane;

before(async () => {
  certificate('ca', undefined, '');
  certificate('other-ca', undefined, '');
  certificate('server', 'ca', 'DNS:api.example.com,DNS:*.wild.example.com,URI:spiffe://example.com/api');
  certificate('client', 'ca', 'DNS:client.example.com');
  copyFileSync(file('other-ca.pem'), file('changing.pem'));
  const ca = file('ca.pem');
  const add = (name: string, origination: object, options: Partial<Outside> = {}): void => {
    const port = BASE + Object.keys(services).length;
    services[name] = { port, protocol: Protocol.HTTP, tls: ClientTls.SIMPLE, origination, ...options };
  };
  const sni = 'api.example.com';
  add('simple', { sni, caCertificates: ca });
  add('pem', { sni, caPem: readFileSync(ca, 'utf8') });
  add('wrong-pem', { sni, caPem: readFileSync(file('other-ca.pem'), 'utf8') });
  add('wrong-ca', { sni, caCertificates: file('other-ca.pem') });
  add('system', { sni });
  add('wrong-name', { sni: 'else.example.com', caCertificates: ca });
  add('san-dns', { sni: 'else.example.com', caCertificates: ca, subjectAltNames: ['nobody', 'a.wild.example.com'] });
  add('san-uri', { sni, caCertificates: ca, subjectAltNames: ['spiffe://example.com/api'] });
  add('san-wrong', { sni, caCertificates: ca, subjectAltNames: ['spiffe://example.com/ap', 'b.a.wild.example.com'] });
  add('skip', { sni: 'else.example.com', insecureSkipVerify: true });
  add('changing', { sni, caCertificates: file('changing.pem') });
  add('no-file', { sni, caCertificates: file('none.pem') });
  const pair = { clientCertificate: file('client.pem'), privateKey: file('client.key') };
  add('mutual', { sni, caCertificates: ca, ...pair }, { tls: ClientTls.MUTUAL });
  add('h2', { sni, caCertificates: ca }, { protocol: Protocol.HTTP2 });
  add('tcp', { sni, caCertificates: ca }, { protocol: Protocol.TCP });

  const pem = { cert: readFileSync(file('server.pem')), key: readFileSync(file('server.key')) };
  for (const [name, { port }] of Object.entries(services)) {
    const said = (socket: tls.TLSSocket): string =>
      JSON.stringify({
        sni: socket.servername,
        alpn: socket.alpnProtocol,
        client: socket.getPeerCertificate().subject?.CN,
      });
    let server: net.Server;
    if (name === 'tcp') {
      server = tls.createServer({ ...pem, allowHalfOpen: true }, (s) => {
        s.on('error', () => {});
        s.write('first\n');
        s.on('data', (d) => s.write(d));
        s.on('end', () => s.end(said(s)));
      });
    } else if (name === 'h2') {
      server = http2.createSecureServer(pem, (req, res) => res.end(said(req.stream.session!.socket as tls.TLSSocket)));
    } else {
      const app = http.createServer((req, res) => res.end(said(req.socket as tls.TLSSocket)));
      const extra = name === 'mutual' ? { requestCert: true, rejectUnauthorized: true, ca: readFileSync(ca) } : {};
      server = tls.createServer({ ...pem, ...extra, ALPNProtocols: ['http/1.1'] }, (s) => {
        s.on('error', () => {});
        app.emit('connection', s);
      });
    }
    server.on('tlsClientError', () => {});
    await new Promise<void>((ok) => server.listen(port, OUTSIDE, ok));
    closing.push(server);
  }

  const host = (name: string): string => `${name}.outside.svc.cluster.local`;
  const part = (kind: object): Part => create(PartSchema, { kind: kind as Part['kind'] });
  const self = { mesh: 'test', instance: 'front-0', workload: 'front', trustDomain: 'cluster.local', address: FRONT };
  const parts = [part({ case: 'self', value: self })];
  const endpoints = [];
  for (const [name, s] of Object.entries(services)) {
    const cluster = outboundClusterName(s.port, '', host(name));
    const clusters = [{ ref: name, cluster, weight: 1 }];
    parts.push(
      part({
        case: 'cluster',
        value: {
          name: cluster,
          host: host(name),
          port: s.port,
          protocol: s.protocol,
          tls: s.tls,
          origination: s.origination,
        },
      }),
      part({
        case: 'service',
        value: {
          host: host(name),
          name,
          namespace: 'outside',
          aliases: [name],
          ports: [
            { port: s.port, protocol: s.protocol, http: [{ ref: name, clusters }], tcp: [{ ref: name, clusters }] },
          ],
        },
      }),
    );
    endpoints.push(
      create(EndpointsSchema, {
        host: host(name),
        port: s.port,
        // A mesh port would mean a proxy that accepts mTLS: SIMPLE goes past it.
        endpoints: [
          { instance: name, address: OUTSIDE, port: s.port, meshPort: 15008, identity: 'spiffe://x/ns/y/sa/z' },
        ],
      }),
    );
  }
  const identity = await testIdentities(file('mesh-ca'), 'shop');
  proxy = new DataPlane({
    address: FRONT,
    capture: 'explicit',
    bind: { outbound: { host: FRONT, port: 15001 }, mesh: { host: FRONT, port: 15008 } },
    observer,
    logger: silentLogger,
  });
  proxy.setIdentity(await identity('front'));
  proxy.apply(buildSnapshot(parts, endpoints), 1n);
  await proxy.listen();
});

after(() => {
  proxy?.close();
  for (const c of closing) c.close();
  rmSync(dir, { recursive: true, force: true });
});

function ask(name: string): Promise<{ status: number; text: string; detail: string; flags: string }> {
  const authority = `${name}:${services[name].port}`;
  return new Promise((resolve, reject) => {
    const options = {
      host: FRONT,
      port: 15001,
      path: `http://${authority}/`,
      headers: { host: authority },
      agent: false,
    };
    const req = http.get(options, (res) => {
      let text = '';
      res.on('data', (d) => (text += d));
      res.on('end', () => {
        const { details, flags } = records.at(-1) as RequestRecord;
        resolve({ status: res.statusCode!, text, detail: details, flags });
      });
    });
    req.on('error', reject);
  });
}

test('SIMPLE: SNI, protocol, and the server’s certificate is checked', async () => {
  const good = await ask('simple');
  assert.equal(good.status, 200, good.detail);
  assert.deepEqual(JSON.parse(good.text), { sni: 'api.example.com', alpn: 'http/1.1' });
  assert.equal((await ask('simple')).status, 200);
  assert.equal((await ask('pem')).status, 200);
  for (const name of ['san-dns', 'san-uri', 'skip']) {
    const a = await ask(name);
    assert.equal(a.status, 200, `${name}: ${a.detail}`);
  }
  const bad: [string, RegExp][] = [
    ['wrong-pem', /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET_ISSUER/],
    ['wrong-ca', /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET_ISSUER/],
    ['system', /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET_ISSUER/],
    ['wrong-name', /ERR_TLS_CERT_ALTNAME_INVALID/],
    ['san-wrong', /ERR_TLS_CERT_ALTNAME_INVALID/],
    ['no-file', /cannot read .*none\.pem/],
  ];
  for (const [name, why] of bad) {
    const a = await ask(name);
    assert.equal(a.status, 503, `${name}: ${a.text}`);
    assert.match(a.detail, why, name);
    assert.match(a.flags, /UF/, name);
  }
});

test('MUTUAL: the server sees the client certificate', async () => {
  const a = await ask('mutual');
  assert.equal(a.status, 200, a.detail);
  assert.equal(JSON.parse(a.text).client, 'client');
});

test('HTTP/2 to a server that is declared to speak it', async () => {
  const a = await ask('h2');
  assert.equal(a.status, 200, a.detail);
  assert.equal(JSON.parse(a.text).alpn, 'h2');
});

test('opaque TCP: the server speaks first, half-close is kept', async () => {
  const s = net.connect({ host: FRONT, port: 15001, allowHalfOpen: true });
  s.write(`CONNECT tcp:${services.tcp.port} HTTP/1.1\r\nhost: tcp:${services.tcp.port}\r\n\r\n`);
  let text = '';
  await new Promise<void>((resolve, reject) => {
    s.on('error', reject);
    s.on('data', (d) => {
      text += d;
      if (text.endsWith('first\n')) s.end('ping');
    });
    s.on('end', resolve);
  });
  assert.match(text, /^HTTP\/1\.1 200.*first\nping\{"sni":"api\.example\.com"/s);
});

test('a file that is replaced holds for new connections', async () => {
  assert.equal((await ask('changing')).status, 503);
  writeFileSync(file('changing.pem'), readFileSync(file('ca.pem')));
  const deadline = performance.now() + 60_000;
  for (;;) {
    if ((await ask('changing')).status === 200) return;
    assert.ok(performance.now() < deadline, 'the new CA file is not used');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
});
