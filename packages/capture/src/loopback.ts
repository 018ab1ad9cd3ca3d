/** The explicit mode's addresses: 127.a.0.0/16 for each mesh, where `a` is nobody else's as long as the mesh runs. */
import net from 'node:net';
import { WeftError } from '@weft/base';
import { stableHash } from './addresses.ts';

/** Who listens here holds the range: the kernel gives it to one alone, and takes it back however the holder ends. */
const HOLD = { address: '255.254', port: 15_000 };
const RANGES = 254;

export class LoopbackRange {
  readonly #octet: number;
  readonly #held: net.Server | undefined;
  #given = 0;

  private constructor(octet: number, held: net.Server | undefined) {
    this.#octet = octet;
    this.#held = held;
  }

  /**
   * The range that `name` leads to, so that the same mesh gets the same addresses again, or the next that is free. `taken`:
   * blocks of addresses (`127.3.0.0/16`) of other machines.
   */
  static async hold(name: string, taken: readonly string[] = []): Promise<LoopbackRange> {
    const start = stableHash(`loopback ${name}`) % RANGES;
    for (let i = 0; i < RANGES; i++) {
      // 127.0.0.0/16 is left to everybody else.
      const octet = 1 + ((start + i) % RANGES);
      if (taken.includes(`127.${octet}.0.0/16`)) continue;
      const held = await listen(`127.${octet}.${HOLD.address}`);
      if (held !== 'taken') return new LoopbackRange(octet, held);
    }
    throw new WeftError('no-loopback', `every 127.x.0.0/16 is held by a mesh already: end some of them ("weft down")`);
  }

  /** An address that was not given yet. */
  next(): string {
    const n = ++this.#given;
    // Skips .0 and .255 in the last octet: some software takes them for network and broadcast.
    return `127.${this.#octet}.${Math.floor(n / 254) & 255}.${1 + (n % 254)}`;
  }

  release(): void {
    this.#held?.close();
  }
}

/** Undefined: this system has no such address by itself (macOS), so there is nothing to hold. */
function listen(host: string): Promise<net.Server | 'taken' | undefined> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE' ? 'taken' : undefined));
    server.listen({ host, port: HOLD.port, exclusive: true }, () => resolve(server.unref()));
  });
}
