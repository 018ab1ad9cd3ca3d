import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { allowedBlocks, fetchDocument, mayAsk } from './fetch.ts';

const limits = { allow: ['127.7.80.0/24'], maxBytes: 1000 };

async function listening(t: TestContext, server: net.Server, host = '127.7.80.1'): Promise<number> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (s: net.Socket) => sockets.add(s));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => {
    server.close();
    for (const s of sockets) s.destroy();
  });
  return (server.address() as AddressInfo).port;
}

test('addresses that are not public are not asked, in whatever form they are written', async () => {
  const refused = [
    ...['http://127.0.0.1/', 'http://localhost/', 'http://2130706433/', 'http://0x7f.1/', 'http://0177.0.0.1/'],
    ...['http://[::1]/', 'http://[::ffff:127.0.0.1]/', 'http://[::ffff:7f00:1]/', 'http://[::127.0.0.1]/'],
    ...['http://169.254.169.254/latest/meta-data', 'http://10.0.0.1/', 'http://172.31.0.1/', 'http://192.168.1.1/'],
    ...['http://100.64.0.1/', 'http://0.0.0.0/', 'http://[fe80::1]/', 'http://[fd00::1]/', 'http://[64:ff9b::a00:1]/'],
    ...['http://224.0.0.1/', 'http://255.255.255.255/', 'http://[2002:7f00:1::]/', 'http://[::]/'],
  ];
  for (const url of refused) {
    await assert.rejects(fetchDocument(url, 1000, limits), /not public/, url);
  }
  for (const url of ['file:///etc/passwd', 'ftp://127.7.80.1/', 'gopher://127.7.80.1/', 'data:,x']) {
    await assert.rejects(fetchDocument(url, 1000, limits), /not asked/, url);
  }
  await assert.rejects(fetchDocument('http://user:word@127.7.80.1/', 1000, limits), /password/);
  const none = allowedBlocks([]);
  assert.equal(mayAsk('93.184.215.14', none), true);
  assert.equal(mayAsk('2606:2800:21f:cb07:6820:80da:af6b:8b2c', none), true);
  assert.equal(mayAsk('10.1.2.3', allowedBlocks(['10.0.0.0/8'])), true);
  assert.equal(mayAsk('::ffff:10.1.2.3', allowedBlocks(['10.0.0.0/8'])), true);
  assert.equal(mayAsk('11.1.2.3', none), true);
  assert.equal(mayAsk('no address', none), false);
  assert.throws(() => allowedBlocks(['10.0.0.0/99']), /no block/);
  assert.throws(() => allowedBlocks(['example.com']), /no block/);
});

test('a name is what it leads to: one private address among several is enough, and it is not looked up twice', async (t) => {
  const server = http.createServer((_req, res) => res.end('document'));
  const port = await listening(t, server);
  let asked = 0;
  const names = (...addresses: string[]) => {
    return async () => {
      // A second look would lead elsewhere.
      asked++;
      return addresses.map((address) => ({ address: asked > 1 ? '127.0.0.1' : address, family: 4 }));
    };
  };
  const url = `http://issuer.test:${port}/`;
  assert.equal(await fetchDocument(url, 5000, limits, names('127.7.80.1')), 'document');
  assert.equal(asked, 1);
  asked = 0;
  await assert.rejects(fetchDocument(url, 5000, limits, names('127.7.80.1', '10.0.0.1')), /10\.0\.0\.1/);
  await assert.rejects(
    fetchDocument(url, 300, limits, () => new Promise(() => {})),
    /no answer within/,
  );
});

test('redirects, other answers, too much, too slow, broken off: no document', async (t) => {
  const server = http.createServer((req, res) => {
    if (req.url === '/redirect') res.writeHead(302, { location: '/' }).end('x');
    else if (req.url === '/missing') res.writeHead(404).end();
    else if (req.url === '/huge') res.end('x'.repeat(1001));
    else if (req.url === '/fits') res.end('x'.repeat(1000));
    else if (req.url === '/endless') {
      const write = (): void => {
        if (!res.destroyed && res.write(Buffer.alloc(1024))) setImmediate(write);
      };
      write();
    } else if (req.url === '/cut') {
      res.writeHead(200, { 'content-length': '100' });
      res.write('half');
      setTimeout(() => res.destroy(), 20);
    } else if (req.url === '/drip') {
      const timer = setInterval(() => res.write(' '), 20);
      res.on('close', () => clearInterval(timer));
    }
  });
  const silent = net.createServer(() => {});
  const base = `http://127.7.80.1:${await listening(t, server)}`;
  const quiet = `http://127.7.80.1:${await listening(t, silent)}`;
  const is = (url: string, error: RegExp, timeoutMs = 5000): Promise<void> =>
    assert.rejects(fetchDocument(url, timeoutMs, limits), error, url);
  await is(`${base}/redirect`, /redirects are not followed/);
  await is(`${base}/missing`, /answered 404/);
  await is(`${base}/huge`, /longer than 1000/);
  await is(`${base}/endless`, /longer than 1000/);
  await is(`${base}/cut`, /aborted|broke off|hang up/);
  await is(`${base}/drip`, /no answer within 300 ms/, 300);
  await is(quiet, /no answer within 300 ms/, 300);
  await is('http://127.7.80.1:1/', /ECONNREFUSED/);
  assert.equal((await fetchDocument(`${base}/fits`, 5000, limits)).length, 1000);
});

test('by TLS the certificate is judged, by the name that was asked for', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-keys-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert];
  const name = ['-subj', '/CN=issuer.test', '-addext', 'subjectAltName=DNS:issuer.test', '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...made, ...name], { stdio: 'pipe' });
  const server = https.createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_req, res) =>
    res.end('keys'),
  );
  const port = await listening(t, server);
  const resolve = async () => [{ address: '127.7.80.1', family: 4 }];
  await assert.rejects(fetchDocument(`https://issuer.test:${port}/`, 5000, limits, resolve), /self-signed/);
  // Nor is a server without TLS spoken to where TLS was asked for.
  const plain = await listening(
    t,
    http.createServer((_req, res) => res.end('keys')),
  );
  await assert.rejects(fetchDocument(`https://issuer.test:${plain}/`, 5000, limits, resolve));
});
