/** Proxies in this process, one a workload, whose draws are told to them: what `explain` says is compared with what they do. */
import { Agent, createServer as createHttpServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Random, silentLogger } from '@weft/base';
import { assembleIdentity, createAuthority, createKeyAndCsr } from '@weft/identity';
import { type LabMesh, meshOf, type Way } from '@weft/lab';
import { type Instance, type Model, spiffeId } from '@weft/model';
import { DataPlane, loopbackConnector } from '@weft/proxy';
import { type GeneratedRequest, HTTP_PORT, NAMESPACE, PROCESSES, TCP_PORT } from './naive/generate.ts';
import type { SuiteContext } from './suite.ts';

const MESH_PORT = 15008;
const APP_HTTP = 18_080;
const APP_TCP = 19_000;
const ANSWER_MS = 20_000;

/** Gives the numbers of a way, in order; counts what is asked beyond them. */
class Script implements Random {
  #numbers: readonly number[] = [];
  #at = 0;

  load(numbers: readonly number[]): void {
    this.#numbers = numbers;
    this.#at = 0;
  }

  next(): number {
    const n = this.#numbers[this.#at++];
    return n ?? 0.5;
  }

  /** Draws too few (negative) or too many. */
  get difference(): number {
    return this.#at - this.#numbers.length;
  }
}

export interface Observed {
  readonly status: number | 'application' | 'connected' | 'closed';
  /** Who answered; '' where no application did. */
  readonly instance: string;
  readonly location: string;
  /** Too many or too few draws. */
  readonly draws: number;
}

export class ExplainMesh {
  readonly #instances: Instance[] = [];
  readonly #planes = new Map<string, DataPlane>();
  readonly #script = new Script();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #network: string;
  #epoch = 0n;

  private constructor(network: string) {
    this.#network = network;
  }

  static async start(ctx: SuiteContext): Promise<ExplainMesh> {
    const mesh = new ExplainMesh(`127.${32 + ((process.pid >> 8) % 32)}.${process.pid & 255}`);
    const authority = await createAuthority({ dir: ctx.dir, trustDomain: 'cluster.local' });
    let n = 0;
    ctx.cleanup(() => mesh.#agent.destroy());
    for (const { name: workload, app, version, replicas } of PROCESSES) {
      for (let i = 0; i < replicas; i++) {
        const address = `${mesh.#network}.${++n}`;
        const name = `${workload}-${i}`;
        mesh.#instances.push({
          name,
          workload,
          namespace: NAMESPACE,
          serviceAccount: app,
          labels: { app, version },
          address,
          ports: [
            { number: HTTP_PORT, name: 'http', dialPort: APP_HTTP },
            { number: TCP_PORT, name: 'tcp-x', dialPort: APP_TCP },
          ],
          injected: true,
          ready: true,
          draining: false,
          dialAddress: address,
        });
        const { keyPem, csrPem } = await createKeyAndCsr();
        const id = spiffeId('cluster.local', NAMESPACE, app);
        const signed = await authority.sign(csrPem, { spiffeId: id, ttlMs: 86_400_000 });
        await mesh.#run(ctx, name, address, { keyPem, ...signed });
      }
    }
    return mesh;
  }

  async #run(
    ctx: SuiteContext,
    name: string,
    address: string,
    pem: Parameters<typeof assembleIdentity>[0],
  ): Promise<void> {
    const caller = name.startsWith('cart');
    const plane = new DataPlane({
      address,
      capture: 'transparent',
      bind: { outbound: { host: address, port: 15001 }, mesh: { host: address, port: MESH_PORT } },
      observer: { request() {}, tcpOpen() {}, tcpClose() {}, running: () => undefined, plaintext() {}, count() {} },
      logger: silentLogger,
      ...(caller && { random: this.#script }),
      connector: loopbackConnector(address),
      originalDestination: (socket) => ({ host: this.#vip('pay'), port: socket.localPort ?? 0 }),
    });
    plane.setIdentity(assembleIdentity(pem));
    this.#planes.set(name, plane);
    const listen = (server: Server, port: number): Promise<void> =>
      new Promise((resolve, reject) => {
        const open = new Set<Socket>();
        server.on('connection', (s: Socket) => {
          open.add(s);
          s.on('error', () => {}).on('close', () => open.delete(s));
        });
        ctx.cleanup(() => {
          server.close();
          for (const s of open) s.destroy();
        });
        server.once('error', reject);
        server.listen({ host: address, port, backlog: 512 }, resolve);
      });
    // Where the kernel would redirect: out of the caller, into the others.
    for (const port of [HTTP_PORT, TCP_PORT]) {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        if (caller) plane.outbound.server.emit('connection', socket);
        else if (plane.core.admit(socket)) plane.inbound.accept(socket, port);
      });
      await listen(server, port);
    }
    const http = createHttpServer((q, a) => {
      q.resume();
      a.setHeader('x-instance', name);
      a.end('ok');
    });
    await listen(http, APP_HTTP);
    await listen(
      createServer((socket) => socket.end(name)),
      APP_TCP,
    );
  }

  /** Brings every proxy to a configuration, with all states as at the start. */
  async apply(model: Model): Promise<LabMesh> {
    const vips = new Map(
      ['cart', 'pay', 'alt', 'shadow'].map((s) => [`${s}.${NAMESPACE}.svc.cluster.local`, [this.#vip(s)]]),
    );
    const lab = meshOf(model, {
      mesh: 'explain',
      trustDomain: 'cluster.local',
      domain: 'cluster.local',
      capture: 'transparent',
      instances: this.#instances,
      vips,
    });
    this.#epoch++;
    for (const [name, plane] of this.#planes) plane.apply(lab.side(name)!.snapshot, this.#epoch);
    return lab;
  }

  async listen(): Promise<void> {
    for (const plane of this.#planes.values()) await plane.listen();
  }

  #vip(service: string): string {
    return `10.99.7.${['cart', 'pay', 'alt', 'shadow'].indexOf(service) + 1}`;
  }

  /** Sends the request down one way of its explanation. */
  async send(request: GeneratedRequest, way: Way): Promise<Observed> {
    this.#script.load(way.draws);
    const seen = request.tcp ? await this.#connect() : await this.#request(request);
    return { ...seen, draws: this.#script.difference };
  }

  #connect(): Promise<Omit<Observed, 'draws'>> {
    return new Promise((resolve, reject) => {
      let text = '';
      const socket = connect({
        host: this.#instances[0].address,
        port: TCP_PORT,
        localAddress: this.#instances[0].address,
      });
      socket.setTimeout(ANSWER_MS, () => reject(new Error('no end of the connection in time')));
      socket.on('data', (chunk) => (text += chunk.toString()));
      socket.on('error', () => {});
      socket.on('close', () => resolve({ status: text === '' ? 'closed' : 'connected', instance: text, location: '' }));
    });
  }

  #request(r: GeneratedRequest): Promise<Omit<Observed, 'draws'>> {
    return new Promise((resolve, reject) => {
      const host = this.#instances[0].address;
      const headers = { host: r.authority, ...Object.fromEntries(r.headers), 'content-length': '0' };
      const { method, path } = r;
      const answered = (a: IncomingMessage): void => {
        a.resume();
        a.on('error', reject);
        a.on('end', () => {
          const instance = String(a.headers['x-instance'] ?? '');
          const status = instance === '' ? (a.statusCode as number) : 'application';
          resolve({ status, instance, location: a.headers.location ?? '' });
        });
      };
      const to = { host, port: HTTP_PORT, localAddress: host };
      const q = httpRequest({ ...to, method, path, headers, agent: this.#agent }, answered);
      q.setTimeout(ANSWER_MS, () => q.destroy(new Error('no answer in time')));
      q.on('error', reject);
      q.end();
    });
  }

  stop(): void {
    for (const plane of this.#planes.values()) plane.close();
  }
}
