/**
 * Random AuthorizationPolicies in a proxy, against the naive evaluator: callers with certificates of many identities and from
 * many addresses, and in plaintext, over HTTP/1.1, HTTP/2 and TCP. What the caller gets must be what is due.
 */
import http2 from 'node:http2';
import net, { createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { seededRandom, silentLogger } from '@weft/base';
import { loadFiles } from '@weft/config';
import { buildSnapshot } from '@weft/engine';
import { type Authority, assembleIdentity, createAuthority, createKeyAndCsr } from '@weft/identity';
import { compileAuthorization, RefTable } from '@weft/model';
import { MtlsMode, type Part, PartSchema, Protocol } from '@weft/plan';
import { DataPlane } from '@weft/proxy';
import { type NaivePolicy, type NaiveRequest, naiveAllows } from '../naive/authorization.ts';
import { Draw, PORTS, ROOT, WORKLOAD } from '../random-policies.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

const SETS = { short: 60, full: 2000 };
const REQUESTS = 10;
const SEED = 20_261_205;
const ADDRESS = '127.100.0.9';
const KINDS = ['h1', 'h2', 'tcp'] as const;
type Kind = (typeof KINDS)[number];
const GIVE_UP_MS = 10_000;

/** The addresses that are drawn, as ones of the loopback. */
function onLoopback<T>(value: T): T {
  const text = JSON.stringify(value)
    .replaceAll('10.0.0.', '127.100.0.')
    .replaceAll('10.1.', '127.101.')
    .replaceAll('10.2.', '127.102.')
    .replaceAll('10.9.', '127.109.')
    .replaceAll('192.168.', '127.168.');
  return JSON.parse(text) as T;
}

function authorizationPart(policies: readonly NaivePolicy[]): Part {
  const process = {
    ...{ apiVersion: 'weft.dev/v1alpha1', kind: 'Process' },
    metadata: { name: 'pay', namespace: WORKLOAD.namespace, labels: WORKLOAD.labels },
    spec: { command: ['pay'], ports: PORTS.map((port) => ({ port })) },
  };
  const documents = policies.map((p, i) => ({
    ...{ apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy' },
    metadata: {
      ...{ name: `p${i}`, namespace: p.namespace },
      ...(p.dryRun && { annotations: { 'istio.io/dry-run': 'true' } }),
    },
    spec: { action: p.action, rules: p.rules, ...(p.selector && { selector: { matchLabels: p.selector } }) },
  }));
  const text = [process, ...documents].map((d) => JSON.stringify(d)).join('\n---\n');
  const { model, problems } = loadFiles([{ path: 'policies.yaml', text }]);
  if (!model) throw new Error(`refused: ${JSON.stringify(problems[0])}`);
  const value = compileAuthorization(model, WORKLOAD, new RefTable(model));
  return create(PartSchema, { kind: { case: 'authorization', value } });
}

/** Echoes what begins with a zero, and answers all else as HTTP/1.1. */
function application(ctx: SuiteContext): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      if (chunk[0] === 0) socket.write(chunk);
      else if (chunk.includes('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    });
  });
  ctx.cleanup(() => void server.close());
  return new Promise((resolve) => server.listen(0, ADDRESS, () => resolve((server.address() as net.AddressInfo).port)));
}

async function startProxy(ctx: SuiteContext, authority: Authority, app: number) {
  const { keyPem, csrPem } = await createKeyAndCsr();
  const spiffeId = 'spiffe://cluster.local/ns/shop/sa/pay';
  const plane = new DataPlane({
    ...{ address: ADDRESS, capture: 'transparent', logger: silentLogger, limits: {} },
    bind: { outbound: { host: ADDRESS, port: 15001 }, mesh: { host: ADDRESS, port: 15008 } },
    observer: { request() {}, tcpOpen() {}, tcpClose() {}, plaintext() {}, running: () => undefined, count() {} },
  });
  ctx.cleanup(() => plane.close());
  plane.setIdentity(assembleIdentity({ keyPem, ...(await authority.sign(csrPem, { spiffeId, ttlMs: 3_600_000 })) }));
  const part = (kind: object): Part => create(PartSchema, { kind: kind as never });
  const self = { mesh: 'test', instance: 'pay-0', workload: 'pay', namespace: 'shop', trustDomain: 'cluster.local' };
  const parts = [
    part({ case: 'self', value: { ...self, address: ADDRESS } }),
    ...PORTS.map((port) => {
      const value = {
        port,
        protocol: Protocol.UNSPECIFIED,
        mtls: MtlsMode.PERMISSIVE,
        dialAddress: ADDRESS,
        dialPort: app,
      };
      return part({ case: 'inbound', value });
    }),
  ];
  let epoch = 0n;
  const apply = (policies: Part): void => plane.apply(buildSnapshot([...parts, policies], []), ++epoch);
  apply(part({ case: 'authorization', value: {} }));
  await plane.listen();
  for (const port of PORTS) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      if (plane.core.admit(socket)) plane.inbound.accept(socket, port);
    });
    ctx.cleanup(() => void server.close());
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, ADDRESS, resolve));
  }
  return apply;
}

/** Connections by mesh links of callers with certificates, one link for each identity and address. */
class Callers {
  readonly #authority: Authority;
  readonly #links = new Map<string, Promise<http2.ClientHttp2Session>>();
  constructor(authority: Authority) {
    this.#authority = authority;
  }

  async #link(principal: string, localAddress: string): Promise<http2.ClientHttp2Session> {
    const { keyPem: key, csrPem } = await createKeyAndCsr();
    const signed = await this.#authority.sign(csrPem, { spiffeId: `spiffe://${principal}`, ttlMs: 3_600_000 });
    const socket = tls.connect({
      ...{ host: ADDRESS, port: 15008, localAddress, key, cert: signed.chainPem, ca: signed.rootPem },
      ...{ ALPNProtocols: ['h2'], minVersion: 'TLSv1.3', checkServerIdentity: () => undefined },
    });
    const session = http2.connect(`https://${ADDRESS}`, { createConnection: () => socket });
    session.on('error', () => {});
    return session;
  }

  async open({ principal, ip, port }: NaiveRequest): Promise<Duplex> {
    if (principal === undefined) return net.connect({ host: ADDRESS, port, localAddress: ip });
    const name = `${principal} ${ip}`;
    let link = this.#links.get(name);
    if (!link) this.#links.set(name, (link = this.#link(principal, ip)));
    return (await link).request({ ':method': 'CONNECT', ':authority': `${ADDRESS}:${port}` });
  }

  async close(): Promise<void> {
    for (const link of this.#links.values()) (await link).destroy();
  }
}

/** Whether the call was let through; throws where it was neither that nor denied. */
function call(stream: Duplex, kind: Kind, { http }: NaiveRequest): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let session: http2.ClientHttp2Session | undefined;
    const over = (allowed: boolean | Error): void => {
      clearTimeout(timer);
      session?.destroy();
      stream.destroy();
      if (typeof allowed === 'boolean') resolve(allowed);
      else reject(allowed);
    };
    const timer = setTimeout(() => over(new Error('no answer')), GIVE_UP_MS);
    const judge = (status: number): void =>
      over(status === 200 || status === 403 ? status === 200 : new Error(`status ${status}`));
    stream.on('error', () => {});
    if (!http) {
      // Denied is closed.
      stream.on('data', () => over(true));
      stream.on('close', () => over(false));
      stream.write(Buffer.from('\0hello'));
      return;
    }
    const { method, path, host, headers } = http;
    stream.on('close', () => over(new Error('closed')));
    if (kind === 'h1') {
      const lines = [
        `${method} ${path} HTTP/1.1`,
        `host: ${host}`,
        'content-length: 0',
        ...headers.map(([n, v]) => `${n}: ${v}`),
      ];
      stream.on('data', (d: Buffer) => judge(Number(/^HTTP\/1.1 (\d+)/.exec(d.toString('latin1'))?.[1])));
      stream.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
      return;
    }
    session = http2.connect('http://x', { createConnection: () => stream as Socket });
    session.on('error', over);
    const fields: http2.OutgoingHttpHeaders = {
      ':method': method,
      ':path': path,
      ':authority': host,
      ':scheme': 'http',
    };
    for (const [n, v] of headers) {
      const before = fields[n];
      fields[n] = before === undefined ? v : [before as string, v].flat();
    }
    const request = session.request(fields, { endStream: true });
    request.on('response', (h) => judge(Number(h[':status'])));
    request.on('error', over);
  });
}

export const suite: Suite = {
  name: 'authorization-wire',
  about: 'random policies in a proxy against a naive evaluator, by callers over HTTP/1.1, HTTP/2 and TCP',
  inShortForm: true,
  async install() {},
  async run(ctx) {
    const tally = new Tally();
    const authority = await createAuthority({ dir: ctx.dir, trustDomain: 'cluster.local' });
    const apply = await startProxy(ctx, authority, await application(ctx));
    const callers = new Callers(authority);
    ctx.cleanup(() => callers.close());
    const draw = new Draw(seededRandom(SEED));
    ctx.log(`seed ${SEED}`);
    let denied = 0;
    let cases = 0;
    for (let n = 0; n < (ctx.short ? SETS.short : SETS.full); n++) {
      const policies = onLoopback(draw.policies());
      apply(authorizationPart(policies));
      // As requests come: in their canonical form.
      const plain = JSON.parse(
        JSON.stringify(policies).replaceAll('/%7Ex', '/~x').replaceAll('/é', '/%C3%A9'),
      ) as NaivePolicy[];
      const asked = Array.from({ length: REQUESTS }, (_, i) => {
        const kind = KINDS[i % KINDS.length];
        const request = onLoopback(draw.request(kind === 'tcp' ? 'tcp' : 'http'));
        // This mesh has one trust domain.
        request.principal = request.principal?.replace(/^other\.td/, 'cluster.local');
        return { kind, request };
      });
      await Promise.all(
        asked.map(async ({ kind, request }) => {
          const wanted = naiveAllows(plain, WORKLOAD, ROOT, request);
          cases++;
          if (!wanted) denied++;
          const name = `set ${n}, ${kind}: ${JSON.stringify({ wanted, request, policies })}`;
          await tally.check(name, async () => {
            const got = await call(await callers.open(request), kind, request);
            if (got !== wanted) throw new Error(`${got ? 'allowed' : 'denied'}, ${name}`);
          });
        }),
      );
    }
    await tally.check('both answers are frequent', () => {
      if (denied < cases / 10 || denied > (cases * 9) / 10) throw new Error(`${denied} of ${cases} denied`);
    });
    tally.failures.splice(10);
    ctx.log(`${cases} cases, ${denied} denied`);
    return tally;
  },
};
