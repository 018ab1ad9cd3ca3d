/**
 * External authorizers behind Envoy's filter and behind Weft: the same requests, the same answers of the authorizer. Alike
 * must be what the client gets, what the application is sent, and what the authorizer is told.
 */
import http, { type IncomingHttpHeaders } from 'node:http';
import http2 from 'node:http2';
import { createServer } from 'node:net';
import { create, fromBinary, fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { silentLogger } from '@weft/base';
import { buildSnapshot } from '@weft/engine';
import { assembleIdentity, createAuthority, createKeyAndCsr } from '@weft/identity';
import {
  AuthorizationAction,
  CheckRequestSchema,
  CheckResponseSchema,
  EndpointsSchema,
  MtlsMode,
  type Part,
  PartSchema,
  Protocol,
} from '@weft/plan';
import { DataPlane } from '@weft/proxy';
import { at, cluster, envoyProgram, hcmType, startEnvoy, type } from '../envoy.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const ADDRESS = '127.7.66.1';
const ENVOY = '127.7.66.2';
const PORTS = { http: 18_500, grpc: 18_501, partial: 18_502, open: 18_503 } as const;
type Kind = keyof typeof PORTS;
const KINDS = Object.keys(PORTS) as Kind[];
const CLUSTER = (name: string): string => `outbound|80||${name}.test`;

type Json = Record<string, unknown>;

/** What the authorizer is to answer; travels in a header that it is told of. */
interface Script {
  /** By HTTP. */
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  /** By gRPC: a CheckResponse, and the call's own status. */
  check?: JsonValue;
  grpcStatus?: number;
  /** Breaks off. */
  cut?: boolean;
}

interface Case {
  readonly name: string;
  readonly kinds: readonly Kind[];
  readonly script: Script;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

const ok = (value: Json = {}): Script => ({ check: { status: { code: 0 }, okResponse: value } as JsonValue });
const denied = (value: Json = {}): Script => ({ check: { status: { code: 7 }, deniedResponse: value } as JsonValue });
const set = (key: string, value: string, more: Json = {}): Json => ({ header: { key, value }, ...more });

function cases(): Case[] {
  const list: Case[] = [];
  const both =
    (kinds: readonly Kind[]) =>
    (name: string, script: Script, more: Partial<Case> = {}) =>
      list.push({ name, kinds, script, ...more });
  const byHttp = both(['http']);
  const byGrpc = both(['grpc']);
  for (const status of [200, 201, 204, 301, 302, 400, 401, 403, 404, 418, 429, 499, 500, 502, 503]) {
    byHttp(`status ${status}`, {
      status,
      body: status === 204 ? '' : 'said',
      headers: { location: '/login', 'www-authenticate': 'Key', 'x-why': 'y', 'x-secret': 's' },
    });
  }
  byHttp(
    'headers for the application',
    { status: 200, headers: { 'x-user': 'ann', 'x-role-a': '1', 'x-not': 'n', 'x-told': 't' } },
    { headers: { 'x-user': 'root', 'x-not': 'own' } },
  );
  for (const [method, body] of [
    ['POST', 'hello'],
    ['PUT', ''],
    ['DELETE', undefined],
    ['HEAD', undefined],
    ['OPTIONS', undefined],
  ] as const) {
    byHttp(`${method} ${body ?? 'without a body'}`, { status: 200 }, { method, ...(body !== undefined && { body }) });
    byHttp(`${method} denied`, { status: 403, body: 'no' }, { method, ...(body !== undefined && { body }) });
    byGrpc(`${method} ${body ?? 'without a body'}`, ok(), { method, ...(body !== undefined && { body }) });
  }
  for (const path of ['/', '/a/b?x=1&y=%20', '/a%20b', '/?', '/a?b?c', '/caf%C3%A9']) {
    byHttp(`path ${path}`, { status: 200 }, { path });
    byGrpc(`path ${path}`, ok(), { path });
  }
  byHttp(
    'headers for the check',
    { status: 200 },
    {
      headers: { 'x-key': 'k', 'x-trace-1': 't', authorization: 'A', cookie: 'c=1', 'x-other': 'o', 'x-mesh': 'mine' },
    },
  );
  byGrpc('headers for the check', ok(), {
    headers: { 'x-key': 'k', cookie: 'c=1', 'x-other': 'o', authorization: 'A' },
  });
  byHttp('cut', { cut: true });
  byGrpc('cut', { cut: true });
  both(['open'])('error, open', { status: 503 });
  both(['open'])('cut, open', { cut: true });
  both(['open'])('denied, open', { status: 403, body: 'no' });
  both(['partial'])('a longer body', ok(), { method: 'POST', body: 'x'.repeat(5000) });
  both(['partial'])('a short body', ok(), { method: 'POST', body: 'short' });
  both(['partial'])('a body, denied', denied(), { method: 'POST', body: 'x'.repeat(5000) });
  byGrpc('a longer body', ok(), { method: 'POST', body: 'x'.repeat(5000) });
  byGrpc('no response at all', { check: { status: { code: 0 } } });
  for (const code of [1, 3, 5, 7, 16]) byGrpc(`code ${code}`, { check: { status: { code } } });
  byGrpc('denied', denied());
  for (const code of [302, 401, 403, 429, 500, 503])
    byGrpc(
      `denied with ${code}`,
      denied({ status: { code }, body: 'said', headers: [set('Location', '/login'), set('x-why', 'y')] }),
    );
  byGrpc(
    'headers',
    ok({
      headers: [set('X-User', 'ann'), set('x-list', 'b', { append: { value: true } })],
      headersToRemove: ['x-gone', 'x-absent'],
    }),
    { headers: { 'x-user': 'root', 'x-list': 'a', 'x-gone': 'g' } },
  );
  byGrpc('response headers', ok({ responseHeadersToAdd: [set('x-back', '1')] }));
  byGrpc(
    'query set',
    ok({
      queryParametersToSet: [
        { key: 'q', value: 'new' },
        { key: 'r', value: 'x' },
      ],
    }),
    { path: '/p?q=old&keep=1' },
  );
  byGrpc('query removed', ok({ queryParametersToRemove: ['q'] }), { path: '/p?q=old&keep=1' });
  for (const grpcStatus of [2, 7, 13, 14, 16]) byGrpc(`the call's status ${grpcStatus}`, { ...ok(), grpcStatus });
  return list;
}

const SCRIPT = 'x-script';
const read = (headers: IncomingHttpHeaders): Script =>
  JSON.parse(Buffer.from(String(headers[SCRIPT] ?? ''), 'base64').toString() || '{}') as Script;

/** What each proxy's own authorizer was told, by the number of the case. */
type Told = Map<string, unknown>;

const listen = (
  ctx: SuiteContext,
  server: http.Server | http2.Http2Server | ReturnType<typeof createServer>,
  port = 0,
) =>
  new Promise<number>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, ADDRESS, () => resolve((server.address() as { port: number }).port));
    ctx.cleanup(() => void server.close());
  });

/** Of proxies, hops and connections; none is an authorizer's business here. */
const OWN =
  /^(x-envoy-(?!auth)|x-forwarded-|x-request-id$|traceparent$|tracestate$|date$|server$|connection$|keep-alive$|transfer-encoding$|:scheme$|content-length$|x-b3-|b3$|via$)/;
const rest = (headers: IncomingHttpHeaders): Json =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !OWN.test(name) && name !== SCRIPT)
      .sort(),
  );

async function httpAuthorizer(ctx: SuiteContext, told: Told): Promise<number> {
  const server = http.createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (c: Buffer) => chunks.push(c));
    req.on('end', () => {
      const { status = 200, headers = {}, body = '', cut } = read(req.headers);
      const length = req.headers['content-length'];
      told.set(String(req.headers['x-case']), {
        method: req.method,
        url: req.url,
        length,
        headers: rest(req.headers),
        body: String(Buffer.concat(chunks)),
      });
      if (cut) res.destroy();
      else res.writeHead(status, headers).end(body);
    });
  });
  return listen(ctx, server);
}

async function grpcAuthorizer(ctx: SuiteContext, told: Told): Promise<number> {
  const server = http2.createServer();
  server.on('session', (s) => ctx.cleanup(() => s.destroy()));
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    const chunks: Buffer[] = [];
    stream.on('data', (c: Buffer) => chunks.push(c));
    stream.on('end', () => {
      const { attributes } = fromBinary(CheckRequestSchema, Buffer.concat(chunks).subarray(5));
      const asked = attributes!.request!.http!;
      const headers = Object.fromEntries(asked.headers.map((h) => [h.key, h.value]));
      const { method, path, host, size, protocol, body } = asked;
      told.set(headers['x-case'], {
        ...{ method, path, host, size: String(size), protocol, body, headers: rest(headers) },
        source: attributes!.source?.address?.socketAddress?.address,
        port: attributes!.destination?.address?.socketAddress?.portValue,
      });
      const { check, grpcStatus = 0, cut } = read(headers);
      if (cut) {
        stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        return;
      }
      const bytes = toBinary(CheckResponseSchema, fromJson(CheckResponseSchema, check ?? {}));
      const framed = Buffer.alloc(5 + bytes.length);
      framed.writeUInt32BE(bytes.length, 1);
      framed.set(bytes, 5);
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(grpcStatus) }));
      stream.end(framed);
    });
  });
  return listen(ctx, server);
}

/** `grpc` and `partial` ask by gRPC. */
const isGrpc = (kind: Kind): boolean => kind === 'grpc' || kind === 'partial';
const BODY = { grpc: { most: 8192, partial: false }, partial: { most: 1000, partial: true } } as const;

function envoyBootstrap(app: number, ports: { http: number; grpc: number }): Json {
  const patterns = (...list: string[]): Json => ({
    patterns: list.map((p) => (p.endsWith('*') ? { prefix: p.slice(0, -1) } : { exact: p })),
  });
  const filter = (kind: Kind): Json => ({
    '@type': type('extensions.filters.http.ext_authz.v3.ExtAuthz'),
    transport_api_version: 'V3',
    status_on_error: { code: 'Forbidden' },
    failure_mode_allow: kind === 'open',
    ...(isGrpc(kind)
      ? { grpc_service: { envoy_grpc: { cluster_name: 'grpc' }, timeout: '5s' } }
      : {
          allowed_headers: patterns(SCRIPT, 'x-case', 'x-key', 'x-trace-*'),
          http_service: {
            server_uri: { uri: 'http://authorizer', cluster: 'http', timeout: '5s' },
            path_prefix: '/check',
            authorization_request: { headers_to_add: [{ key: 'x-mesh', value: 'weft' }] },
            authorization_response: {
              allowed_upstream_headers: patterns('x-user', 'x-role-*'),
              allowed_client_headers: patterns('x-why'),
              allowed_client_headers_on_success: patterns('x-told'),
            },
          },
        }),
    ...((kind === 'grpc' || kind === 'partial') && {
      with_request_body: { max_request_bytes: BODY[kind].most, allow_partial_message: BODY[kind].partial },
    }),
  });
  const router = { '@type': type('extensions.filters.http.router.v3.Router') };
  const listener = (kind: Kind): Json => ({
    name: kind,
    address: at(ENVOY, PORTS[kind]),
    filter_chains: [
      {
        filters: [
          {
            name: 'hcm',
            typed_config: {
              '@type': hcmType,
              stat_prefix: kind,
              route_config: {
                name: kind,
                virtual_hosts: [
                  { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'app' } }] },
                ],
              },
              http_filters: [
                { name: 'envoy.filters.http.ext_authz', typed_config: filter(kind) },
                { name: 'envoy.filters.http.router', typed_config: router },
              ],
            },
          },
        ],
      },
    ],
  });
  const clusters = [
    cluster('app', ADDRESS, app),
    cluster('http', ADDRESS, ports.http),
    cluster('grpc', ADDRESS, ports.grpc, { http2: {} }),
  ];
  return { static_resources: { listeners: KINDS.map(listener), clusters } };
}

async function startWeft(ctx: SuiteContext, app: number, ports: { http: number; grpc: number }): Promise<void> {
  const authority = await createAuthority({ dir: ctx.dir, trustDomain: 'cluster.local' });
  const { keyPem, csrPem } = await createKeyAndCsr();
  const spiffeId = 'spiffe://cluster.local/ns/test/sa/app';
  const identity = assembleIdentity({ keyPem, ...(await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 })) });
  const plane = new DataPlane({
    ...{
      address: ADDRESS,
      capture: 'transparent',
      bind: { outbound: { host: ADDRESS, port: 15001 }, mesh: { host: ADDRESS, port: 15008 } },
      logger: silentLogger,
      limits: {},
    },
    observer: { request() {}, tcpOpen() {}, tcpClose() {}, plaintext() {}, running: () => undefined, count() {} },
  });
  ctx.cleanup(() => plane.close());
  plane.setIdentity(identity);
  const part = (kind: Part['kind'] | object): Part => create(PartSchema, { kind: kind as never });
  const authorizers = KINDS.map((kind) => ({
    ...{ name: kind, cluster: CLUSTER(isGrpc(kind) ? 'grpc' : 'http'), authority: 'authorizer', grpc: isGrpc(kind) },
    ...{ timeoutMs: 5000, statusOnError: 403, failOpen: kind === 'open' },
    ...((kind === 'grpc' || kind === 'partial') && { maxBodyBytes: BODY[kind].most, partialBody: BODY[kind].partial }),
    ...(!isGrpc(kind) && {
      ...{ pathPrefix: '/check', requestHeaders: [SCRIPT, 'x-case', 'x-key', 'x-trace-*'] },
      additionalHeaders: [{ name: 'x-mesh', value: 'weft' }],
      ...{ upstreamHeaders: ['x-user', 'x-role-*'], denyHeaders: ['x-why'], allowHeaders: ['x-told'] },
    }),
  }));
  const policies = KINDS.map((kind) => ({
    ...{ name: kind, namespace: 'test', action: AuthorizationAction.CUSTOM, provider: kind },
    rules: [{ to: [{ ports: [String(PORTS[kind])] }] }],
  }));
  const parts = [
    part({
      case: 'self',
      value: { mesh: 'test', instance: 'a-0', workload: 'a', namespace: 'test', trustDomain: 'cluster.local' },
    }),
    part({ case: 'authorization', value: { policies, authorizers } }),
    ...(['http', 'grpc'] as const).map((name) =>
      part({ case: 'cluster', value: { name: CLUSTER(name), host: `${name}.test`, port: 80 } }),
    ),
    ...KINDS.map((kind) =>
      part({
        case: 'inbound',
        value: {
          port: PORTS[kind],
          protocol: Protocol.HTTP,
          mtls: MtlsMode.PERMISSIVE,
          dialAddress: ADDRESS,
          dialPort: app,
        },
      }),
    ),
  ];
  const endpoints = (['http', 'grpc'] as const).map((name) =>
    create(EndpointsSchema, {
      host: `${name}.test`,
      port: 80,
      endpoints: [{ instance: name, address: ADDRESS, port: ports[name] }],
    }),
  );
  plane.apply(buildSnapshot(parts, endpoints), 1n);
  await plane.listen();
  for (const kind of KINDS) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      if (plane.core.admit(socket)) plane.inbound.accept(socket, PORTS[kind]);
    });
    await listen(ctx, server, PORTS[kind]);
  }
}

interface Outcome {
  answer: unknown;
  application: unknown;
  authorizer: unknown;
}

const ALWAYS = (headers: IncomingHttpHeaders): Json => {
  const shown = rest(headers);
  // Of a proxy's own answer the one gives a type, the other none.
  delete shown['content-type'];
  return shown;
};

export const suite: Suite = {
  name: 'ext-authz',
  about: "external authorizers: client, application and authorizer see the same behind Envoy's filter and behind Weft",
  inShortForm: false,
  async install() {
    envoyProgram();
  },
  async run(ctx) {
    const tally = new Tally();
    const seen = new Map<string, unknown>();
    const app = http.createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (c: Buffer) => chunks.push(c));
      req.on('end', () => {
        const { url, method } = req;
        seen.set(String(req.headers['x-case']), {
          url,
          method,
          headers: rest(req.headers),
          body: String(Buffer.concat(chunks)),
        });
        res.writeHead(200, { 'x-app': 'yes' }).end('app');
      });
    });
    const appPort = await listen(ctx, app);
    ctx.cleanup(() => app.closeAllConnections());
    const told = { weft: new Map() as Told, envoy: new Map() as Told };
    const portsOf = async (who: 'weft' | 'envoy') => ({
      http: await httpAuthorizer(ctx, told[who]),
      grpc: await grpcAuthorizer(ctx, told[who]),
    });
    await startWeft(ctx, appPort, await portsOf('weft'));
    await startEnvoy(ctx, envoyBootstrap(appPort, await portsOf('envoy')), { address: ENVOY, port: 18_510 });
    const ask = async (who: 'weft' | 'envoy', kind: Kind, one: Case): Promise<Outcome> => {
      seen.clear();
      told[who].clear();
      const script = Buffer.from(JSON.stringify(one.script)).toString('base64');
      const headers = { host: 'app.test', [SCRIPT]: script, 'x-case': 'c', 'user-agent': 'suite', ...one.headers };
      const options = {
        host: who === 'weft' ? ADDRESS : ENVOY,
        port: PORTS[kind],
        path: one.path ?? '/p',
        method: one.method ?? 'GET',
        headers,
        agent: false as const,
      };
      const answer = await new Promise((resolve, reject) => {
        const req = http.request(options, (res) => {
          const chunks: Buffer[] = [];
          res.on('data', (c: Buffer) => chunks.push(c));
          res.on('end', () =>
            resolve({ status: res.statusCode, headers: ALWAYS(res.headers), body: String(Buffer.concat(chunks)) }),
          );
        });
        req.setTimeout(10_000, () => req.destroy(new Error('no answer')));
        req.on('error', reject);
        req.end(one.body);
      });
      return { answer, application: seen.get('c') ?? null, authorizer: told[who].get('c') ?? null };
    };
    for (const one of cases()) {
      for (const kind of one.kinds) {
        await tally.check(`${kind}: ${one.name}`, async () => {
          const [weft, envoy] = [await ask('weft', kind, one), await ask('envoy', kind, one)];
          for (const at of ['answer', 'application', 'authorizer'] as const) {
            // Two fields of a name, or one with a list: the same.
            const [a, b] = [weft[at], envoy[at]].map((v) => JSON.stringify(v).replaceAll(', ', ','));
            if (a !== b) throw new Error(`${at}: Weft ${a}, Envoy ${b}`);
          }
        });
      }
    }
    return tally;
  },
};
