import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { assembleIdentity, clientTlsOptions } from '@weft/identity';
import { startGatewayMesh } from '../../test/gateway-mesh.ts';
import { goProgram } from '../install.ts';
import { type Pair, startPair } from '../pair.ts';
import { type Suite, type SuiteContext, Tally } from '../suite.ts';

/** The newest that the module proxy has: 145 cases, 146 with the strict one. */
const VERSION = 'v2.2.1+incompatible';
const CASES = { usual: 145, strict: 146 };
const RUN_MS = 120_000;
const MESH_PORT = 15008;

/** Something that serves HTTP/2 over plaintext or TLS. */
interface Target {
  name: string;
  host: string;
  port: number;
  tls?: boolean;
}

let h2spec = '';

const H2C_PORT = 8090;
/** A port of the gateway that is declared as HTTP/2: on one that is HTTP, what is no HTTP gets a 400 of HTTP/1.1. */
const H2C = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge-h2c, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: ${H2C_PORT}, name: http2, protocol: HTTP2}
      hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front-h2c, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge-h2c]
  http:
    - route: [{destination: {host: front}}]
`;

async function application(ctx: SuiteContext, host: string): Promise<number> {
  const server = http2.createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.on('data', () => {});
    stream.on('end', () => {
      if (stream.destroyed) return;
      stream.respond({ ':status': 200, 'content-type': 'text/plain' });
      stream.end('an answer of the application\n');
    });
  });
  server.on('sessionError', () => {});
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  ctx.cleanup(() => void server.close());
  return (server.address() as net.AddressInfo).port;
}

/** Runs all cases; judges each by the JUnit report. */
async function run(ctx: SuiteContext, tally: Tally, target: Target, strict: boolean): Promise<void> {
  const report = join(ctx.dir, `${target.name.replaceAll(/\W+/g, '-')}-${strict ? 'strict' : 'usual'}.xml`);
  const args = ['-h', target.host, '-p', String(target.port), '-j', report, '-o', '5'];
  if (strict) args.push('-S');
  if (target.tls) args.push('-t', '-k');
  const output = await new Promise<string>((resolve) => {
    const child = execFile(h2spec, args, { timeout: RUN_MS, maxBuffer: 16 << 20 }, (_error, stdout) => resolve(stdout));
    ctx.cleanup(() => void child.kill('SIGKILL'));
  });
  if (!existsSync(report)) throw new Error(`${target.name}: h2spec gave up: ${output.trim().split('\n').at(-1)}`);
  let seen = 0;
  const text = readFileSync(report, 'utf8');
  for (const [, where, what, rest] of text.matchAll(
    /<testcase package="([^"]*)" classname="([^"]*)"[^>]*>([\s\S]*?)<\/testcase>/g,
  )) {
    seen++;
    if (/<(failure|error)>/.test(rest as string)) {
      tally.failed++;
      tally.failures.push(
        `${target.name}: ${where} ${what}: ${(rest as string).replaceAll(/<[^>]*>|\s+/g, ' ').trim()}`,
      );
    } else if (/<skipped>/.test(rest as string)) {
      tally.skipped++;
      tally.notes.push(`${target.name}: ${where} ${what} was skipped`);
    } else tally.passed++;
  }
  const expected = strict ? CASES.strict : CASES.usual;
  if (seen !== expected) {
    tally.failed++;
    tally.failures.push(`${target.name}: ${seen} of ${expected} cases ran`);
  }
}

/** The case that later versions of the tool have besides: HPACK 2.3.3, a literal whose name has an index that is not there. */
async function literalWithInvalidIndex(target: Target): Promise<void> {
  const frame = (type: number, flags: number, id: number, payload: number[]): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(id, 5);
    return Buffer.concat([head, Buffer.from(payload)]);
  };
  const to = { port: target.port, host: target.host };
  const socket = target.tls
    ? tls.connect({ ...to, ALPNProtocols: ['h2'], rejectUnauthorized: false })
    : net.connect(to);
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer within 10 s')));
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(frame(4, 0, 0, []));
  // :method GET, :scheme http, :path /, then a literal whose name is entry 70 of a table of 61.
  socket.write(frame(1, 5, 1, [0x82, 0x86, 0x84, 0x7f, 7, 1, 0x61]));
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const all = Buffer.concat(chunks);
  for (let at = 0; at + 9 <= all.length; at += 9 + all.readUIntBE(at, 3)) {
    if (all[at + 3] !== 7) continue;
    const code = all.readUInt32BE(at + 13);
    if (code !== 9) throw new Error(`GOAWAY with code ${code}, not COMPRESSION_ERROR`);
    return;
  }
  throw new Error('the connection ended without GOAWAY');
}

/**
 * The tool has no client certificate: here it speaks plaintext, and the mesh's TLS begins behind. What it asks for is no port
 * of the workload, and gets a short answer with 403.
 */
async function meshRelay(ctx: SuiteContext, pair: Pair, network: string): Promise<{ host: string; port: number }> {
  const caller = pair.certificates.get('caller');
  if (!caller) throw new Error('the mesh gave no certificate');
  const options = clientTlsOptions(assembleIdentity(caller));
  const host = `${network}.8`;
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const up = tls.connect({ ...options, host: pair.back.address, port: MESH_PORT });
    up.setNoDelay(true);
    for (const [from, to] of [
      [socket, up],
      [up, socket],
    ]) {
      from.on('error', () => {});
      from.on('close', () => to.destroySoon());
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  ctx.cleanup(() => void server.close());
  return { host, port: (server.address() as net.AddressInfo).port };
}

async function targets(ctx: SuiteContext): Promise<Target[]> {
  const network = `127.60.${process.pid % 250}`;
  const appHost = `${network}.9`;
  const appPort = await application(ctx, appHost);
  const pair = await startPair({
    network,
    mtls: 'permissive',
    strangers: ['caller'],
    ports: [{ port: 8080, appHost, appPort, protocol: 'http2' }],
  });
  ctx.cleanup(() => pair.stop());
  const edge = await startGatewayMesh('explicit', { prepare: (mesh) => mesh.write('h2c.yaml', H2C) });
  ctx.cleanup(() => edge.close());
  return [
    { name: 'application side, h2c', host: pair.front.address, port: 8080 },
    { name: 'workload side, h2c', host: pair.back.address, port: 8080 },
    { name: 'mesh port', ...(await meshRelay(ctx, pair, network)) },
    { name: 'edge, TLS', host: edge.address, port: edge.https, tls: true },
    { name: 'edge, h2c', host: edge.address, port: H2C_PORT },
  ];
}

export const suite: Suite = {
  name: 'h2spec',
  about: 'HTTP/2 conformance of every kind of listener, as servers',
  inShortForm: true,
  async install() {
    h2spec = goProgram('github.com/summerwind/h2spec/cmd/h2spec', VERSION, 'h2spec');
  },
  async run(ctx) {
    const tally = new Tally();
    for (const target of await targets(ctx)) {
      // The strict run has all cases of the usual one.
      for (const strict of ctx.short ? [true] : [false, true]) {
        const before = tally.passed;
        await run(ctx, tally, target, strict);
        await tally.check(`${target.name}: hpack/2.3.3 a literal with an invalid name index`, () =>
          literalWithInvalidIndex(target),
        );
        const all = (strict ? CASES.strict : CASES.usual) + 1;
        tally.notes.push(`${target.name}${strict ? ', strict' : ''}: ${tally.passed - before} of ${all}`);
      }
    }
    return tally;
  },
};
