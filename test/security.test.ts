/** What a mesh refuses: wrong certificates on every TLS port, ports that are nobody's business, plaintext, dead proxies. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, converse, inside, type Proof, proofs, session, spoken, stream } from './attacker.ts';
import { isRoot, meshOf, type Row, request, type TestMesh } from './harness.ts';

const SECURITY = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: payment
  namespace: shop
spec:
  selector:
    matchLabels:
      app: payment
  mtls:
    mode: STRICT
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: payment
  namespace: shop
spec:
  selector:
    matchLabels:
      app: payment
  rules:
    - from:
        - source:
            principals: [cluster.local/ns/shop/sa/cart]
`;

const LOOPBACK_PORT = 9099;

const plaintext = (host: string, port: number, path: string) =>
  converse(net.connect(port, host), `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`, /\}$|failure$/);

/** A gRPC message whose field `number` is a string, perhaps within field 1. */
function grpc(fields: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(fields.length, 1);
  return Buffer.concat([prefix, fields]);
}
function text(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

async function ask15012(host: string, port: number, proof: Proof, method: string, message: Buffer): Promise<string> {
  const socket = connect(host, port, proof, ['h2']);
  socket.on('error', () => {});
  const s = await session(socket);
  if (s.destroyed) return 'refused';
  const head = {
    ':method': 'POST',
    ':path': method,
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  const { status } = await stream(s, head, grpc(message));
  s.destroy();
  return status;
}

const DELTA = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const TELEMETRY = '/weft.control.v1.TelemetryService/Push';
const SIGN = '/weft.control.v1.CertificateService/Sign';

/** A counter of the proxy's events, as Prometheus sees it. */
async function counter(row: Row, name: string): Promise<number> {
  const { text: metrics } = await request(row.address, 15090, '/stats/prometheus');
  return Number(metrics.match(new RegExp(`^weft_events_total\\{event="${name}"\\} ([0-9]+)`, 'm'))?.[1] ?? 0);
}

async function counts(row: Row, name: string, by: number, act: () => Promise<void>) {
  const before = await counter(row, name);
  await act();
  // Who is refused may know it before it is counted.
  let after = await counter(row, name);
  for (const end = performance.now() + 60_000; after < before + by && performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    after = await counter(row, name);
  }
  assert.ok(after >= before + by, `${name} of ${row.name}: ${before} → ${after}, expected ${by} more`);
}

function bootstrap(mesh: TestMesh, instance: string): { controlAddress: string } {
  const folder =
    isRoot && process.platform === 'linux'
      ? `/run/weft/${mesh.name}.${instance}`
      : join(mesh.state, mesh.name, 'run', instance);
  return JSON.parse(readFileSync(join(folder, 'bootstrap.json'), 'utf8'));
}

for (const capture of [isRoot ? 'transparent' : 'explicit'] as const) {
  test(`security, ${capture} capture`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'weft-security-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const mesh = await meshOf(
      t,
      capture,
      { cart: { v1: 1 }, frontend: { v1: 1 }, payment: { v1: 1 } },
      { 'security.yaml': SECURITY },
    );
    const has = await proofs(mesh, folder);
    const cart = mesh.row('cart');
    const payment = mesh.row('payment');
    const wrong = ['untrusted', 'expired', 'none'] as const;

    await t.test('15008 answers a peer of the mesh, and no other certificate', async () => {
      const hello = async (proof: Proof) => {
        const socket = connect(payment.address, 15008, proof, ['h2']);
        return converse(socket, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', /./s);
      };
      assert.equal((await hello(has.right)).end, 'answered');
      await counts(payment, 'inbound_tls_refused', wrong.length, async () => {
        for (const name of wrong) {
          const r = await hello(has[name]);
          assert.equal(r.text, '', `${name}: nothing is answered`);
          assert.notEqual(r.end, 'open', `${name}: the connection ends`);
        }
      });
    });

    await t.test(
      '15008: the right CA with another identity gets what policies give that identity: nothing',
      async () => {
        const head = {
          ':method': 'GET',
          ':path': '/charge',
          ':scheme': 'http',
          ':authority': 'payment:8080',
          'x-weft-port': '8080',
        };
        const asks = async (proof: Proof) => {
          const s = await session(connect(payment.address, 15008, proof, ['h2']), true);
          const r = await stream(s, head);
          s.destroy();
          return r;
        };
        assert.equal((await asks(has.right)).status, '200');
        assert.deepEqual(await asks(has.another), { status: '403', text: 'RBAC: access denied' });
      },
    );

    await t.test(
      '15008: a port outside the plan, 15000, and a loopback listener are refused and counted',
      async (t) => {
        if (capture === 'transparent') {
          const source = `import net from 'node:net'; net.createServer((s) => s.end('private')).listen(${LOOPBACK_PORT}, '127.0.0.1', () => console.log('listens'))`;
          await spoken(inside(t, mesh, 'cart', false, source));
        }
        const s = await session(connect(cart.address, 15008, has.right, ['h2']), true);
        const authorities = [LOOPBACK_PORT, 22, 15000, 15008, 15012, 15099, 0]
          .map((p) => `${cart.address}:${p}`)
          .concat(
            `127.0.0.1:${LOOPBACK_PORT}`,
            `127.0.0.1:8080`,
            `localhost:8080`,
            `${payment.address}:8080`,
            'payment.shop.svc.cluster.local:8080',
          );
        await counts(cart, 'inbound_port_refused', authorities.length, async () => {
          for (const authority of authorities) {
            const r = await stream(s, { ':method': 'CONNECT', ':authority': authority });
            assert.equal(r.status, '403', `CONNECT ${authority}: ${r.status}`);
          }
        });
        const ports = [
          String(LOOPBACK_PORT),
          '22',
          '15000',
          '15006',
          '15020',
          '0',
          '-1',
          '08080',
          '8080x',
          '65616',
          '',
        ];
        await counts(cart, 'inbound_port_refused', ports.length, async () => {
          for (const port of ports) {
            const head = {
              ':method': 'GET',
              ':path': '/',
              ':scheme': 'http',
              ':authority': 'cart',
              'x-weft-port': port,
            };
            const r = await stream(s, head);
            assert.equal(r.status, '403', `x-weft-port ${port}: ${r.status}`);
          }
        });
        const open = await stream(s, { ':method': 'CONNECT', ':authority': `${cart.address}:8080` });
        assert.equal(open.status, '200', 'its own port is open');
        s.destroy();
        // The header of a peer that has not announced itself does not count.
        const foreign = await session(connect(cart.address, 15008, has.right, ['h2']));
        const r = await stream(foreign, {
          ':method': 'GET',
          ':path': '/',
          ':scheme': 'http',
          ':authority': 'cart',
          'x-weft-port': '8080',
        });
        assert.equal(r.status, '403');
        foreign.destroy();
      },
    );

    await t.test('15012: only its own plan for a verified proxy, and no certificate without a token', async () => {
      const address = bootstrap(mesh, 'cart-0').controlAddress;
      const colon = address.lastIndexOf(':');
      const [host, port] = [address.slice(0, colon), Number(address.slice(colon + 1))];
      const delta = (id: string) =>
        Buffer.concat([text(1, text(1, id)), text(2, 'type.weft.dev/weft.plan.v1.Endpoints')]);
      for (const name of wrong) {
        for (const [method, message] of [
          [DELTA, delta('cart-0')],
          [TELEMETRY, Buffer.alloc(0)],
          [SIGN, Buffer.alloc(0)],
          [SIGN, text(2, randomUUID())],
        ] as const) {
          const r = await ask15012(host, port, has[name], method, message);
          assert.ok(r === 'grpc 16' || r === 'refused', `${name}, ${method}: ${r}`);
        }
      }
      assert.equal(await ask15012(host, port, has.right, DELTA, delta('payment-0')), 'grpc 7', "another's plan");
      const other = await ask15012(host, port, has.another, DELTA, delta('cart-0'));
      assert.equal(other, 'grpc 7', 'an identity that no instance has');
      assert.equal(await ask15012(host, port, has.another, SIGN, Buffer.alloc(0)), 'grpc 16', 'it is not prolonged');
    });

    if (capture !== 'transparent') {
      assert.match(
        mesh.output,
        /not enforced here: direct calls to an application's own socket/,
        'what cannot be enforced without privileges is said at the start',
      );
      return;
    }

    await t.test('STRICT resets plaintext from outside and counts it; PERMISSIVE answers it', async () => {
      await counts(payment, 'inbound_plaintext_refused', 1, async () => {
        const r = await plaintext(payment.address, 8080, '/state');
        assert.deepEqual(r, { text: '', end: 'ECONNRESET' });
      });
      assert.match((await plaintext(cart.address, 8080, '/state')).text, /^HTTP\/1\.1 200/);
    });

    await t.test('15006: mesh TLS answers a peer of the mesh, and no other certificate', async () => {
      for (const alpn of [['istio'], ['istio-http/1.1', 'istio']]) {
        const get = (proof: Proof, workload = payment) =>
          converse(
            connect(workload.address, 8080, proof, alpn),
            'GET /charge HTTP/1.1\r\nhost: payment\r\n\r\n',
            /\r\n\r\n/,
          );
        assert.match((await get(has.right)).text, /^HTTP\/1\.1 200/);
        assert.match((await get(has.another)).text, /^HTTP\/1\.1 403/);
        // PERMISSIVE is no way around either: who speaks mesh TLS proves who it is.
        for (const workload of [payment, cart]) {
          await counts(workload, 'inbound_tls_refused', wrong.length, async () => {
            for (const name of wrong) {
              const r = await get(has[name], workload);
              assert.equal(r.text, '', `${name}: nothing is answered`);
              assert.notEqual(r.end, 'open', `${name}: the connection ends`);
            }
          });
        }
      }
      await counts(payment, 'inbound_plaintext_refused', 1, async () => {
        const r = await converse(connect(payment.address, 8080, {}, ['http/1.1']), 'GET / HTTP/1.1\r\n\r\n', /./s);
        assert.equal(r.text, '', "STRICT: the application's own TLS is no mesh TLS");
      });
    });

    await t.test('what the proxy keeps for itself is out of reach from other namespaces', async () => {
      for (const port of [15000, 15001, 15006, 15053, LOOPBACK_PORT]) {
        const r = await plaintext(cart.address, port, '/stats/prometheus');
        assert.ok(!/HTTP\/1\.1 200|private/.test(r.text) && r.end !== 'open', `${port}: ${JSON.stringify(r)}`);
        const viaProxy = await request(cart.address, 8080, '/run', {
          url: `http://${payment.address}:${port}/stats/prometheus`,
        });
        assert.equal(viaProxy.json.statuses['200'], undefined, `${port} through the mesh`);
      }
      for (const [port, path] of [
        [15020, '/stats/prometheus'],
        [15021, '/healthz/ready'],
        [15090, '/stats/prometheus'],
      ] as const)
        assert.equal((await request(cart.address, port, path)).status, 200, `${port} is for monitoring`);
      assert.equal((await request(cart.address, 15090, '/config_dump')).status, 404);
      assert.equal((await request(cart.address, 15020, '/config_dump')).status, 404);
    });

    await t.test('a client refuses an endpoint that proves another identity', async (t) => {
      const ns = payment.netns as string;
      const material = join(folder, 'impostor.json');
      writeFileSync(material, JSON.stringify(has.right));
      const source = `import tls from 'node:tls'; import { readFileSync } from 'node:fs';
        const proof = JSON.parse(readFileSync(${JSON.stringify(material)}, 'utf8'));
        tls.createServer({ ...proof, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' }, (s) => {
          s.on('error', () => {});
          s.on('data', (d) => console.log('GOT ' + d.toString('latin1')));
        }).on('tlsClientError', () => {}).on('connection', () => console.log('TRIED')).listen(25008, '0.0.0.0', () => console.log('listens'));`;
      const impostor = inside(t, mesh, 'payment', true, source);
      let heard = '';
      impostor.stdout?.on('data', (d: Buffer) => {
        heard += d.toString();
      });
      await spoken(impostor);
      const nft = (input: string) =>
        execFileSync('ip', ['netns', 'exec', ns, 'nft', '-f', '-'], { input, encoding: 'utf8' });
      // Who owns the network leads new links of payment to somebody who has a certificate of the mesh, but of cart.
      nft(`insert rule ip weft entering tcp dport 25008 accept
        table ip impostor { chain pre { type nat hook prerouting priority -150; tcp dport 15008 redirect to :25008; }; }`);
      const r = await mesh.ask('frontend', '/run', { url: 'http://payment:8080/charge', count: 3, concurrency: 1 });
      nft('delete table ip impostor');
      assert.deepEqual(r.json.statuses, { '503': 3 }, JSON.stringify(r.json));
      await mesh.until('the impostor was tried', 60_000, () => /TRIED/.test(heard));
      assert.doesNotMatch(heard, /GOT/, 'nothing was sent to it');
      await mesh.until('the right one is used again', 60_000, async () => {
        const again = await mesh.ask('frontend', '/run', { url: 'http://payment:8080/charge' });
        return again.json.statuses['403'] === 1;
      });
    });

    await t.test('a killed proxy: unreachable, not exposed, back by itself', async (t) => {
      const file = join(folder, 'killed.pcap');
      const bridge = JSON.parse(
        execFileSync('ip', ['-j', 'link', 'show', 'type', 'bridge'], { encoding: 'utf8' }),
      ).find((l: { ifalias?: string }) => l.ifalias === `weft:${mesh.name}`).ifname;
      const dump = spawn('tcpdump', ['-i', bridge, '-w', file, '-U', '-n', '-s', '0', '-Z', 'root', 'ip'], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      t.after(() => dump.kill('SIGKILL'));
      await new Promise<void>((resolve) => dump.stderr.once('data', () => resolve()));
      const marker = `marker${randomUUID().replaceAll('-', '')}`;
      const source = `import http from 'node:http';
        const once = () => new Promise((resolve) => {
          const r = http.get({ host: '${payment.address}', port: 8080, path: '/charge-${marker}', agent: false }, (a) => { console.log(a.statusCode); a.resume(); a.on('end', resolve); a.on('error', resolve); });
          r.on('error', () => { console.log('failed'); resolve(); });
        });
        for (;;) { await once(); await new Promise((r) => setTimeout(r, 10)); }`;
      const loop = inside(t, mesh, 'cart', false, source);
      let answers = '';
      loop.stdout?.on('data', (d: Buffer) => {
        answers += d.toString();
      });
      await mesh.until(
        'the loop is answered and captured',
        60_000,
        () => answers.includes('200') && statSync(file).size > 10_000,
      );
      const before = mesh.row('cart').proxyPid as number;
      process.kill(before, 'SIGKILL');
      const killed = performance.now();
      const seen: string[] = [];
      let down = 0;
      for (;;) {
        const { text: said } = await plaintext(cart.address, 8080, `/who-${randomUUID()}`);
        if (said === '') down += 1;
        else seen.push(said);
        if (seen.length > 0 && down > 0) break;
        if (performance.now() - killed > 60_000) break;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const backMs = performance.now() - killed;
      t.diagnostic(`back after ${Math.round(backMs)} ms, ${down} refusals between`);
      assert.ok(down > 0, 'it was unreachable');
      for (const said of seen) assert.match(said, /x-request-id/, 'what is answered came through the proxy');
      assert.ok(seen.length > 0, 'it is back');
      // The long form has the machine to itself.
      assert.ok(process.env.WEFT_LONG !== '1' || backMs < 2000, `back after ${backMs} ms`);
      assert.ok(answers.includes('failed'), "the application's own calls failed meanwhile");
      answers = '';
      await mesh.until('its own calls work again', 60_000, () => answers.includes('200'));
      loop.kill('SIGKILL');
      dump.kill('SIGINT');
      await new Promise((resolve) => dump.on('exit', resolve));
      const captured = readFileSync(file);
      assert.equal(captured.indexOf(marker), -1, 'no plaintext left the workload');
    });
  });
}
