/**
 * Envoy at the other end of the mesh link, with certificates of our CA: as client and as server, by native requests
 * (it announces our setting) and by HBONE tunnels (it does not).
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createAuthority, createKeyAndCsr } from '@weft/identity';
import { AuthorizationAction, Protocol } from '@weft/plan';
import { at, cluster, envoyProgram, httpManager, meshTls, type Pem, startEnvoy, type } from '../envoy.ts';
import { PairSide, type PolicyInit } from '../pair.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const WEB = 8080;
const GRPC = 9090;
const TCP = 7000;
const PORTS = [WEB, GRPC, TCP];
/** The id of link/settings.ts, here as any other program would write it. */
const OUR_SETTING = { custom_settings_parameters: [{ identifier: 0xf0f0, value: 1 }] };
const NAMESPACE = 'spiffe://cluster.local/ns/pair/sa';

export const suite: Suite = {
  name: 'envoy-link',
  about: 'Envoy as client and as server of the mesh link, native requests and HBONE tunnels',
  inShortForm: true,
  async install() {
    envoyProgram();
  },
  async run(ctx) {
    const tally = new Tally();
    // Addresses of this process's own, so that runs beside each other do not meet.
    const network = `127.${192 + ((process.pid >> 8) % 50)}.${process.pid & 255}`;
    const app = `${network}.3`;
    await startApplications(ctx, app);
    const authority = await createAuthority({ dir: join(ctx.dir, 'ca'), trustDomain: 'cluster.local' });
    const issue = async (name: string): Promise<Pem> => {
      const { keyPem, csrPem } = await createKeyAndCsr();
      return { keyPem, ...(await authority.sign(csrPem, { spiffeId: `${NAMESPACE}/${name}`, ttlMs: 3_600_000 })) };
    };
    const weft = async (side: 'front' | 'back', front: string, back: string, policies: PolicyInit[]) => {
      const proxy = new PairSide({
        ...{ side, front, back, mtls: 'strict', policies, limits: {}, ...(await issue(side)) },
        ports: [
          { port: WEB, protocol: Protocol.HTTP, appHost: app, appPort: WEB, timeoutMs: 30_000 },
          { port: GRPC, protocol: Protocol.GRPC, appHost: app, appPort: GRPC, timeoutMs: 30_000 },
          { port: TCP, protocol: Protocol.TCP, appHost: app, appPort: TCP, timeoutMs: 0 },
        ],
      });
      ctx.cleanup(() => proxy.stop());
      await proxy.ready();
      return proxy;
    };

    await asClient();
    await asServer('HBONE', {}, `${network}.21`, `${network}.22`);
    await asServer('native', OUR_SETTING, `${network}.31`, `${network}.32`);
    return tally;

    async function asClient(): Promise<void> {
      const back = `${network}.2`;
      const deny: PolicyInit = {
        ...{ ref: 'deny', name: 'no-admin', namespace: 'pair', action: AuthorizationAction.DENY },
        rules: [{ ref: 'deny#0', to: [{ paths: ['/admin*'], ports: [String(WEB)] }] }],
      };
      const proxy = await weft('back', `${network}.1`, back, [deny]);
      const us = `${NAMESPACE}/back`;
      const own = await issue('front');
      const strangers = await createAuthority({ dir: join(ctx.dir, 'other'), trustDomain: 'cluster.local' });
      const foreign = await createKeyAndCsr();
      const forged = await strangers.sign(foreign.csrPem, { spiffeId: `${NAMESPACE}/front`, ttlMs: 3_600_000 });
      const route = (port: string, to: string) => ({
        name: to,
        domains: ['*'],
        routes: [
          {
            match: { prefix: '/' },
            route: { cluster: to, timeout: '30s' },
            request_headers_to_add: [{ header: { key: 'x-weft-port', value: port } }],
          },
        ],
      });
      const native = (port: number, listen: number, to = 'native', named = String(port)) =>
        listener(envoyAt, listen, httpManager(`native${listen}`, [route(named, to)]));
      const tunnel = (port: number, listen: number) =>
        listener(envoyAt, listen, {
          name: 'envoy.filters.network.tcp_proxy',
          typed_config: {
            '@type': type('extensions.filters.network.tcp_proxy.v3.TcpProxy'),
            ...{ stat_prefix: `tunnel${port}`, cluster: 'hbone' },
            tunneling_config: { hostname: `${back}:${port}` },
          },
        });
      const envoyAt = `${network}.4`;
      const envoy = await startEnvoy(
        ctx,
        {
          static_resources: {
            listeners: [
              native(WEB, 1080),
              native(GRPC, 1090),
              native(WEB, 1081, 'native', '15000'),
              native(WEB, 1082, 'silent'),
              native(WEB, 1083, 'forged'),
              ...PORTS.map((port) => tunnel(port, port)),
            ],
            clusters: [
              cluster('native', back, 15008, { http2: OUR_SETTING, tls: meshTls(own, us) }),
              cluster('silent', back, 15008, { http2: {}, tls: meshTls(own, us) }),
              cluster('hbone', back, 15008, { http2: {}, tls: meshTls(own, us) }),
              cluster('forged', back, 15008, {
                http2: OUR_SETTING,
                tls: meshTls({ keyPem: foreign.keyPem, chainPem: forged.chainPem, rootPem: own.rootPem }, us),
              }),
            ],
          },
        },
        { address: envoyAt, port: 9901 },
      );

      for (const [kind, port] of [
        ['native', 1080],
        ['tunnel', WEB],
      ] as const) {
        await tally.check(`Envoy → Weft, ${kind}: request, identity, 2 MB both ways`, async () => {
          const answer = await web(envoyAt, port, '/x', Buffer.alloc(2_000_000, 'e'));
          assert.equal(answer.status, 200);
          assert.equal(answer.bytes, 2_000_000);
          assert.match(answer.headers['x-seen-client'] ?? '', /URI=spiffe:\/\/cluster\.local\/ns\/pair\/sa\/front$/);
          assert.equal(answer.headers['x-seen-port'], 'none');
        });
        await tally.check(`Envoy → Weft, ${kind}: a path that a policy denies`, async () => {
          assert.equal((await web(envoyAt, port, '/admin/x')).status, 403);
          const { records } = await proxy.take();
          assert.equal(records.at(-1)?.authzPolicy, 'pair/no-admin');
        });
      }
      for (const [kind, port] of [
        ['native', 1090],
        ['tunnel', GRPC],
      ] as const)
        await tally.check(`Envoy → Weft, ${kind}: gRPC with its status in trailers`, () => grpc(envoyAt, port));
      await tally.check('Envoy → Weft, tunnel: the server speaks first, half-close', () => talk(envoyAt, TCP));
      await tally.check('Envoy → Weft, tunnel: bulk both ways', () => bulk(envoyAt, TCP, ctx.short ? 8 : 64));
      await tally.check('Envoy → Weft, tunnel: a reset of the application is told to Envoy', async () => {
        // Envoy ends its own client's connection without one.
        const before = await envoy.stat('cluster.hbone.http2.rx_reset');
        await reset(envoyAt, TCP).catch(() => {});
        assert.equal(await envoy.stat('cluster.hbone.http2.rx_reset'), before + 1);
      });
      await tally.check('a port of the proxy itself is refused', async () => {
        assert.equal((await web(envoyAt, 1081, '/x')).status, 403);
      });
      await tally.check('our header without our setting is refused', async () => {
        assert.equal((await web(envoyAt, 1082, '/x')).status, 403);
      });
      await tally.check('a certificate of another CA is refused', async () => {
        assert.equal((await web(envoyAt, 1083, '/x')).status, 503);
        assert.ok(((await proxy.take()).counters.get('inbound_tls_refused') ?? 0) > 0, 'no refused handshake');
      });
      await tally.check('Envoy saw no protocol error', async () => {
        for (const name of ['native', 'hbone']) {
          assert.equal(await envoy.stat(`cluster.${name}.http2.rx_messaging_error`), 0, name);
          assert.equal(await envoy.stat(`cluster.${name}.upstream_cx_protocol_error`), 0, name);
        }
      });
    }

    async function asServer(kind: string, settings: object, front: string, back: string): Promise<void> {
      const own = await issue('back');
      const h2 = { ...settings, allow_connect: true };
      const connect = (port: number) => ({
        match: { connect_matcher: {} },
        route: {
          cluster: `app${port}`,
          upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
          timeout: '0s',
        },
      });
      const manager = httpManager(
        'mesh',
        [
          ...PORTS.map((port) => ({ name: `tunnel${port}`, domains: [`${back}:${port}`], routes: [connect(port)] })),
          {
            name: 'requests',
            domains: ['*'],
            routes: [WEB, GRPC].map((port) => ({
              match: { prefix: '/', headers: [{ name: 'x-weft-port', string_match: { exact: String(port) } }] },
              route: { cluster: port === GRPC ? 'grpc' : 'app8080', timeout: '30s' },
            })),
          },
        ],
        { codec_type: 'HTTP2', http2_protocol_options: h2, upgrade_configs: [{ upgrade_type: 'CONNECT' }] },
      );
      const envoy = await startEnvoy(
        ctx,
        {
          static_resources: {
            listeners: [listener(back, 15008, manager, meshTls(own, `${NAMESPACE}/front`))],
            clusters: [
              ...PORTS.map((port) => cluster(`app${port}`, app, port)),
              cluster('grpc', app, GRPC, { http2: {} }),
            ],
          },
        },
        { address: back, port: 9901 },
      );
      const proxy = await weft('front', front, back, []);
      const name = `Weft → Envoy, ${kind}`;
      await tally.check(`${name}: request, 2 MB both ways`, async () => {
        const answer = await web(front, WEB, '/x', Buffer.alloc(2_000_000, 'w'));
        assert.equal(answer.status, 200);
        assert.equal(answer.bytes, 2_000_000);
        assert.equal(answer.headers['x-seen-port'], kind === 'native' ? String(WEB) : 'none');
        const { records } = await proxy.take();
        assert.equal(records.at(-1)?.status, 200);
      });
      await tally.check(`${name}: 200 requests, 20 at a time`, async () => {
        let left = 200;
        const one = async (): Promise<void> => {
          while (left-- > 0) assert.equal((await web(front, WEB, `/${left}`)).status, 200);
        };
        await Promise.all(Array.from({ length: 20 }, one));
      });
      await tally.check(`${name}: gRPC with its status in trailers`, () => grpc(front, GRPC));
      await tally.check(`${name}: TCP, the server speaks first, half-close`, () => talk(front, TCP));
      await tally.check(`${name}: TCP, bulk both ways`, () => bulk(front, TCP, ctx.short ? 8 : 64));
      await tally.check(`${name}: TCP, a reset arrives as one`, () => reset(front, TCP));
      await tally.check(`${name}: Envoy counted what it should, and no protocol error`, async () => {
        const requests = await envoy.stat('cluster.app8080.upstream_rq_total');
        const tunnels = await envoy.stat('http.mesh.downstream_rq_2xx');
        assert.ok(tunnels > 0);
        if (kind === 'native') assert.ok(requests >= 201, `${requests} requests`);
        assert.equal(await envoy.stat('http.mesh.downstream_cx_protocol_error'), 0);
      });
    }
  },
};

function listener(address: string, port: number, filter: unknown, tls?: Record<string, unknown>): unknown {
  return {
    name: `${address}:${port}`,
    address: at(address, port),
    filter_chains: [
      {
        filters: [filter],
        ...(tls && {
          transport_socket: {
            name: 'envoy.transport_sockets.tls',
            typed_config: {
              '@type': type('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
              require_client_certificate: true,
              common_tls_context: tls,
            },
          },
        }),
      },
    ],
  };
}

/** HTTP/1.1, gRPC (h2c) and a TCP server that speaks first and, on the word `reset`, resets. */
async function startApplications(ctx: SuiteContext, address: string): Promise<void> {
  const servers = [
    http.createServer((req, res) => {
      res.setHeader('x-seen-client', req.headers['x-forwarded-client-cert'] ?? 'none');
      res.setHeader('x-seen-port', req.headers['x-weft-port'] ?? 'none');
      req.pipe(res);
    }),
    http2.createServer().on('stream', (s) => {
      s.on('error', () => {});
      s.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      s.on('wantTrailers', () => s.sendTrailers({ 'grpc-status': '5', 'grpc-message': 'no such' }));
      s.on('data', (d) => s.write(d));
      s.on('end', () => s.end());
    }),
    net.createServer({ allowHalfOpen: true }, (s) => {
      s.on('error', () => {});
      s.write('hello\n');
      s.on('data', (d: Buffer) => {
        if (d.toString() === 'reset') s.resetAndDestroy();
        else if (!s.write(d)) {
          s.pause();
          s.once('drain', () => s.resume());
        }
      });
      s.on('end', () => s.end('bye\n'));
    }),
  ];
  for (const [i, server] of servers.entries()) {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(PORTS[i], address, resolve));
    ctx.cleanup(() => {
      server.close();
      (server as http.Server).closeAllConnections?.();
    });
  }
}

function web(
  host: string,
  port: number,
  path: string,
  body?: Buffer,
): Promise<{ status: number; bytes: number; headers: Record<string, string> }> {
  return new Promise((resolve, reject) => {
    const method = body ? 'POST' : 'GET';
    const req = http.request({ host, port, path, method, agent: false, timeout: 30_000 }, (res) => {
      let bytes = 0;
      res.on('data', (d: Buffer) => (bytes += d.length));
      res.on('error', reject);
      res.on('end', () =>
        resolve({ status: res.statusCode ?? 0, bytes, headers: res.headers as Record<string, string> }),
      );
    });
    req.on('timeout', () => req.destroy(new Error('no answer in 30 s')));
    req.on('error', reject);
    req.end(body);
  });
}

async function grpc(host: string, port: number): Promise<void> {
  const client = http2.connect(`http://${host}:${port}`);
  try {
    const got = await new Promise<{ body: string; status: unknown; message: unknown }>((resolve, reject) => {
      client.on('error', reject);
      const s = client.request({
        ...{ ':method': 'POST', ':path': '/S/M', 'content-type': 'application/grpc', te: 'trailers' },
      });
      s.setTimeout(30_000, () => reject(new Error('no answer in 30 s')));
      let body = '';
      s.on('data', (d) => (body += d));
      s.on('trailers', (h) => resolve({ body, status: h['grpc-status'], message: h['grpc-message'] }));
      s.on('response', (h) => h['grpc-status'] && reject(new Error(`trailers only: ${JSON.stringify(h)}`)));
      s.on('error', reject);
      s.end('message');
    });
    assert.deepEqual(got, { body: 'message', status: '5', message: 'no such' });
  } finally {
    client.destroy();
  }
}

function dial(host: string, port: number): net.Socket {
  const socket = net.connect({ host, port, allowHalfOpen: true });
  socket.setTimeout(60_000, () => socket.destroy(new Error('nothing came in 60 s')));
  return socket;
}

function talk(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const s = dial(host, port);
    let got = '';
    s.on('error', reject);
    s.on('data', (d) => {
      got += d;
      if (got === 'hello\n') s.end('ping\n');
    });
    s.on('end', () => (got === 'hello\nping\nbye\n' ? resolve() : reject(new Error(`got ${JSON.stringify(got)}`))));
  });
}

function bulk(host: string, port: number, megabytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const s = dial(host, port);
    const chunk = Buffer.alloc(1 << 20, 'bulk');
    const wanted = megabytes * chunk.length + 'hello\nbye\n'.length;
    let got = 0;
    s.on('error', reject);
    s.on('data', (d) => (got += d.length));
    s.on('end', () => {
      s.destroy();
      if (got === wanted) resolve();
      else reject(new Error(`${got} of ${wanted} bytes came back`));
    });
    Readable.from(Array.from({ length: megabytes }, () => chunk)).pipe(s);
  });
}

function reset(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const s = dial(host, port);
    s.once('data', () => s.write('reset'));
    s.on('error', (e: NodeJS.ErrnoException) => (e.code === 'ECONNRESET' ? resolve() : reject(e)));
    s.on('end', () => reject(new Error('it ended as if all were well')));
  });
}
