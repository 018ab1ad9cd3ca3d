/**
 * A link of so many ms each way and so many bytes a second, as a relay between two TCP ports. argv: JSON of
 * {listenHost, listenPort, host, port, delayMs, bytesPerSecond}. Prints `ready`.
 */
import net from 'node:net';

const { listenHost, listenPort, host, port, delayMs, bytesPerSecond } = JSON.parse(process.argv[2]);
/** What may be on the link and in its buffer before the sender is held up. */
const most = (bytesPerSecond * delayMs) / 1000 + 512 * 1024;

/** One direction. Each chunk leaves when those before it have left, and arrives `delayMs` later. */
function carry(from, to) {
  const queue = [];
  let queued = 0;
  let freeAt = 0;
  let armed = false;
  const full = () => queued + to.writableLength >= most;
  const arm = (ms) => {
    if (armed) return;
    armed = true;
    setTimeout(arrive, ms);
  };
  const arrive = () => {
    armed = false;
    const now = performance.now();
    while (queue.length > 0 && queue[0].at <= now) {
      const { chunk } = queue.shift();
      if (chunk === undefined) to.end();
      else {
        queued -= chunk.length;
        to.write(chunk);
      }
    }
    if (!full()) from.resume();
    if (queue.length > 0) arm(Math.max(1, queue[0].at - now));
  };
  const put = (chunk) => {
    freeAt = Math.max(performance.now(), freeAt) + (chunk === undefined ? 0 : (chunk.length * 1000) / bytesPerSecond);
    queue.push({ at: freeAt + delayMs, chunk });
    arm(delayMs);
  };
  to.on('drain', () => from.resume());
  from.on('data', (chunk) => {
    queued += chunk.length;
    put(chunk);
    if (full()) from.pause();
  });
  from.on('end', () => put(undefined));
  from.on('close', () => {
    if (!from.readableEnded) to.destroy();
  });
}

net
  .createServer({ allowHalfOpen: true, noDelay: true }, (a) => {
    const b = net.connect({ host, port, allowHalfOpen: true, noDelay: true });
    a.on('error', () => b.destroy());
    b.on('error', () => a.destroy());
    carry(a, b);
    carry(b, a);
  })
  .listen(listenPort, listenHost, () => process.stdout.write('ready\n'));
