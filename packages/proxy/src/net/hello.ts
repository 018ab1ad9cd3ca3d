/** Reads a connection's ClientHello, which may come in several segments, without taking it away. */
import type { Socket } from 'node:net';
import { type ClientHello, parseClientHello } from '@weft/wire';
import type { DetectDeps } from './detect.ts';
import { HoldSink, type Pipe } from './pipe.ts';

const HELLO_BYTES = 32 * 1024;

/**
 * Calls `done` once with the ClientHello that begins with what `held` has, and everything that came meanwhile; the hello is
 * undefined where it is none, or ends within it. A client that does not finish it in time is cut off.
 */
export function readClientHello(
  pipe: Pipe,
  held: HoldSink,
  deps: DetectDeps,
  done: (hello: ClientHello | undefined, hold: HoldSink) => void,
): void {
  const first = parseClientHello(Buffer.concat(held.chunks));
  if (first !== 'more') {
    done(typeof first === 'object' ? first : undefined, held);
    return;
  }
  const hold = new HoldSink();
  hold.chunks = held.chunks;
  let decided = false;
  const deadline = deps.timers.add(deps.limits.detectTimeoutMs, {
    onTimer: () => {
      if (decided || hold.lost !== undefined) return;
      decided = true;
      deps.counters.count('detect_timeout');
      pipe.abort();
    },
  });
  const add = hold.bytes.bind(hold);
  hold.bytes = (chunk) => {
    add(chunk);
    if (decided) return;
    const all = Buffer.concat(hold.chunks);
    hold.chunks = [all];
    const hello = parseClientHello(all);
    if (hello === 'more' && all.length < HELLO_BYTES) return;
    decided = true;
    deadline.cancel();
    done(typeof hello === 'object' ? hello : undefined, hold);
  };
  const ended = hold.ended.bind(hold);
  hold.ended = () => {
    ended();
    if (decided) return;
    decided = true;
    deadline.cancel();
    done(undefined, hold);
  };
  pipe.sink = hold;
}

/** Gives the raw socket back as it came, for a TLS server's `emit('connection', socket)`. */
export function putBack(socket: Socket, hold: HoldSink): void {
  for (let i = hold.chunks.length - 1; i >= 0; i--) socket.unshift(hold.chunks[i]);
}
