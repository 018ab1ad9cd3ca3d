/**
 * What a stranger finds on the mesh port: sslscan sees TLS 1.3 and its suites alone; handshakes by the thousands, whole
 * ones, half ones and refused ones, neither fill the proxy's memory nor keep another client from being served.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { assembleIdentity, clientTlsOptions } from '@weft/identity';
import { debian } from '../install.ts';
import { startPair } from '../pair.ts';
import { ask } from '../probe.ts';
import { type Suite, Tally } from '../suite.ts';

const PORT = 80;
const MESH_PORT = 15008;
const TOOLS = { sslscan: 'sslscan' };
const AT_ONCE = 16;
/** Memory that may be added by each 10,000 handshakes. */
const MOST_BYTES = 1024 * 1024;

export const suite: Suite = {
  name: 'tls',
  about: 'sslscan on the mesh port, and floods of handshakes: no weak protocol, no leak, others are served',
  inShortForm: true,
  async install() {
    debian(TOOLS);
  },
  async run(ctx) {
    const tally = new Tally();
    const network = `127.${130 + (process.pid % 60)}.${(process.pid >> 6) & 255}`;
    const app = http.createServer((_request, response) => response.end('ok')).listen(PORT, `${network}.3`);
    ctx.cleanup(() => void app.close());
    await once(app, 'listening');
    const ports = [{ port: PORT, appHost: `${network}.3`, appPort: PORT }];
    const pair = await startPair({ network, ports, records: false, strangers: ['visitor'] });
    ctx.cleanup(() => pair.stop());
    const { address: host, pid } = pair.back;
    const served = async (what: string): Promise<void> => {
      await ask(pair.front.address, PORT).catch((error: Error) => {
        throw new Error(`another client was not served ${what}: ${error.message}`);
      });
    };

    await tally.check('sslscan finds TLS 1.3 alone', async () => {
      const { stdout } = await promisify(execFile)('sslscan', ['--no-colour', '--xml=-', `${host}:${MESH_PORT}`]);
      const enabled = [...stdout.matchAll(/<protocol type="(\w+)" version="([\d.]+)" enabled="1"/g)];
      const found = enabled.map((m) => `${m[1]} ${m[2]}`);
      if (found.join() !== 'tls 1.3') throw new Error(`enabled: ${found.join(', ') || 'nothing'}`);
      const suites = [...stdout.matchAll(/<cipher status="\w+" sslversion="([^"]+)"[^>]* cipher="([^"]+)"/g)];
      if (suites.length === 0) throw new Error('sslscan saw no suite');
      const weak = suites.filter((m) => m[1] !== 'TLSv1.3' || !/^TLS_(AES|CHACHA20)_/.test(m[2]));
      if (weak.length > 0) throw new Error(`also ${weak.map((m) => `${m[1]} ${m[2]}`).join(', ')}`);
      if (/<heartbleed [^>]*vulnerable="1"/.test(stdout)) throw new Error('heartbleed');
    });

    const visitor = assembleIdentity(pair.certificates.get('visitor')!);
    const good = clientTlsOptions(visitor);
    const handshakes = ctx.short ? 3000 : 100_000;
    await tally.check(
      `${handshakes} handshakes that are let in`,
      async () => {
        const memory: number[] = [];
        for (let part = 0; part < 20; part++) {
          await inParallel(handshakes / 20, () => greet(host, good)).catch(async (error: Error) => {
            const { counters } = await pair.back.peek();
            throw new Error(
              `${error.message} in part ${part + 1} of 20; the proxy counted ${JSON.stringify([...counters])}`,
            );
          });
          await pair.back.collect();
          memory.push(residentBytes(pid));
          if (!ctx.short) ctx.log(`${((part + 1) * handshakes) / 20}: ${(memory[part] / 2 ** 20).toFixed(1)} MiB`);
        }
        await served('after the handshakes');
        if (ctx.short) return; // Too few to tell a leak from a heap that is still growing to its size.
        const slope = slopeOf(memory.slice(10)) / (handshakes / 20);
        const per = slope * 10_000;
        tally.notes.push(`memory of the last half: ${(per / 1024).toFixed(0)} KiB for each 10,000 handshakes`);
        if (per >= MOST_BYTES) throw new Error(`memory grows by ${(per / 1024).toFixed(0)} KiB for each 10,000`);
      },
      5_400_000,
    );

    await tally.check('handshakes that are refused or never end', async () => {
      const refusals = ctx.short ? 150 : 3000;
      const hello = Buffer.from('16030102000100', 'hex');
      const halves = Array.from({ length: 200 }, () => {
        const socket = net.connect(MESH_PORT, host, () => socket.write(hello));
        socket.on('error', () => {});
        return socket;
      });
      const nobody = { ca: [...visitor.bundle.pool], checkServerIdentity: () => undefined, ALPNProtocols: ['h2'] };
      try {
        await inParallel(refusals, async (i) => {
          if (
            await greet(host, nobody).then(
              () => true,
              () => false,
            )
          )
            throw new Error('a client without a certificate was let in');
          if (i % 50 === 0) await served('beside the flood');
        });
        await served('beside the flood');
      } finally {
        for (const socket of halves) socket.destroy();
      }
      const { counters } = await pair.back.peek();
      if ((counters.get('inbound_tls_refused') ?? 0) < refusals) throw new Error('refusals were not counted');
      await pair.settled();
    });
    return tally;
  },
};

/** One handshake, until the server speaks: before that a TLS 1.3 client does not know whether it was let in. */
function greet(host: string, options: tls.ConnectionOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port: MESH_PORT, ...options });
    socket.once('data', () => {
      resolve();
      socket.destroy();
    });
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('closed before the server spoke')));
  });
}

async function inParallel(count: number, one: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** Least squares: growth from one sample to the next. */
function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  let over = 0;
  let under = 0;
  for (const [i, value] of values.entries()) {
    over += (i - middle) * (value - mean);
    under += (i - middle) ** 2;
  }
  return over / under;
}
