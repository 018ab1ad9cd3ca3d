/** Ports for servers that are told theirs. */
import net from 'node:net';

/** Below those that a system gives to connections that go out: one of these could be taken between now and its use. */
const FIRST = 20_000;
const END = 32_000;
let next = FIRST + (process.pid % 100) * 100;

function isFree(host: string, port: number): Promise<boolean> {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}

/** The first of `count` ports in a row where nobody listens at `host`; none is given twice. */
export async function freePorts(host: string, count = 1): Promise<number> {
  for (let tried = 0; tried < END - FIRST; tried += count) {
    if (next + count > END) next = FIRST;
    const from = next;
    next += count;
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(host, from + i)));
    if (free.every(Boolean)) return from;
  }
  throw new Error(`no ${count} free ports in a row on ${host}`);
}
