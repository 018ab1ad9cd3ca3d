import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { type Clock, systemClock } from '@weft/base';
import { answers } from './codec.ts';

export interface Upstream {
  host: string;
  port: number;
}

export interface ForwarderOptions {
  upstreams: readonly Upstream[];
  clock?: Clock;
  /** One try. Default 2000. */
  timeoutMs?: number;
  /** Tries, each at the next upstream. Default 2. */
  tries?: number;
  /** Questions under way. Default 1024. */
  maxInFlight?: number;
  count: (name: string) => void;
}

/** Asks the machine's own resolvers. Every try has a new random id and a new port (RFC 5452), and hears one server only. */
export class Forwarder {
  readonly #upstreams: readonly Upstream[];
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #tries: number;
  readonly #max: number;
  readonly #count: (name: string) => void;
  #running = new Set<() => void>();
  #next = 0;
  #closed = false;

  constructor(options: ForwarderOptions) {
    this.#upstreams = options.upstreams;
    this.#clock = options.clock ?? systemClock;
    this.#timeoutMs = options.timeoutMs ?? 2000;
    this.#tries = options.tries ?? 2;
    this.#max = options.maxInFlight ?? 1024;
    this.#count = options.count;
  }

  /** The answer with the asker's id, or undefined: none came, none can be asked, or too many are being asked. */
  async ask(query: Uint8Array, overTcp: boolean): Promise<Uint8Array | undefined> {
    if (this.#upstreams.length === 0 || this.#closed) return undefined;
    if (this.#running.size >= this.#max) {
      this.#count('dns_forward_overflow');
      return undefined;
    }
    for (let i = 0; i < this.#tries && !this.#closed; i++) {
      const upstream = this.#upstreams[this.#next++ % this.#upstreams.length];
      // A copy: Buffer's slice() would share the asker's bytes, whose id is still needed.
      const question = Uint8Array.from(query);
      const id = randomInt(65_536);
      question[0] = id >> 8;
      question[1] = id & 255;
      const answer = await (overTcp ? this.#tcp(upstream, question) : this.#udp(upstream, question));
      if (answer) {
        answer[0] = query[0];
        answer[1] = query[1];
        return answer;
      }
    }
    if (!this.#closed) this.#count('dns_forward_failed');
    return undefined;
  }

  /** Ends all that is under way. */
  close(): void {
    this.#closed = true;
    for (const end of [...this.#running]) end();
  }

  /** Runs one try with its deadline; `start` gets `finish` and returns how to close what it opened. */
  #try(start: (finish: (answer?: Uint8Array) => void) => () => void): Promise<Uint8Array | undefined> {
    return new Promise((resolve) => {
      let close: (() => void) | undefined;
      let done = false;
      const finish = (answer?: Uint8Array): void => {
        if (done) return;
        done = true;
        timer.cancel();
        this.#running.delete(abort);
        close?.();
        resolve(answer);
      };
      const abort = (): void => finish();
      const timer = this.#clock.after(this.#timeoutMs, abort);
      this.#running.add(abort);
      close = start(finish);
      if (done) close();
    });
  }

  #udp(upstream: Upstream, question: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#try((finish) => {
      const socket = createSocket(upstream.host.includes(':') ? 'udp6' : 'udp4');
      let open = true;
      socket.on('error', () => finish());
      socket.on('message', (message) => {
        // Not an answer to this: somebody guesses. Go on listening until the deadline.
        if (answers(question, message)) finish(Uint8Array.from(message));
        else this.#count('dns_forward_mismatch');
      });
      // A connected socket takes datagrams of this server only.
      socket.connect(upstream.port, upstream.host, () => {
        if (open) socket.send(question, (error) => error && finish());
      });
      return () => {
        if (!open) return;
        open = false;
        try {
          socket.close();
        } catch {
          // Closed by its own error already.
        }
      };
    });
  }

  #tcp(upstream: Upstream, question: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#try((finish) => {
      const socket = connect({ host: upstream.host, port: upstream.port });
      let received = Buffer.alloc(0);
      socket.on('error', () => finish());
      socket.on('close', () => finish());
      socket.on('connect', () => socket.write(Buffer.from([question.length >> 8, question.length & 255, ...question])));
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        if (received.length < 2) return;
        const length = received.readUInt16BE(0);
        if (received.length < length + 2) return;
        const message = Uint8Array.from(received.subarray(2, length + 2));
        finish(answers(question, message) ? message : undefined);
      });
      return () => socket.destroy();
    });
  }
}

/** Resolvers named by the text of a resolv.conf (at most three, as libc takes), less those in `except` (ourselves). */
export function upstreamsOf(resolvConf: string, except: readonly string[] = []): Upstream[] {
  const out: Upstream[] = [];
  for (const line of resolvConf.split('\n')) {
    const [keyword, host] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && host && !except.includes(host) && out.length < 3) out.push({ host, port: 53 });
  }
  return out;
}
