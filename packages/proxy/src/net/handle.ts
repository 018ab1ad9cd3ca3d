/**
 * Node's stream handles without its streams on top: reads land in one buffer that all connections share, and writes go to
 * the kernel in the call. Both use what the runtime keeps for itself (the fields behind the `onread` option, and the
 * handle's own write); where a runtime does not have them in the known shape, `readsDirectly` says false and `directWriter`
 * gives nothing, and the caller uses events and `socket.write` as everywhere else. `WEFT_PLAIN_SOCKETS=1` does the same.
 */
import { Socket } from 'node:net';
import { readBuffer } from '@weft/wire';

interface WriteRequest {
  handle: Handle | undefined;
  buffer: Uint8Array | undefined;
  oncomplete: (this: WriteRequest, status: number) => void;
  owner: DirectWriter | undefined;
}
interface Handle {
  writeBuffer(request: WriteRequest, bytes: Uint8Array): number;
  useUserBuffer(bytes: Uint8Array): void;
}
interface StreamBinding {
  WriteWrap: new () => WriteRequest;
  streamBaseState: Int32Array;
  kLastWriteWasAsync: number;
}
type Internals = Record<symbol, unknown> & { _handle?: Handle | null; encrypted?: boolean };

interface Keys {
  buffer: symbol;
  callback: symbol;
  generator: symbol;
}

function findKeys(): Keys | undefined {
  const probe = new Socket({ onread: { buffer: new Uint8Array(1), callback: () => true } } as object);
  const of = (name: string): symbol | undefined =>
    Object.getOwnPropertySymbols(probe).find((s) => s.description === name);
  const buffer = of('kBuffer');
  const callback = of('kBufferCb');
  const generator = of('kBufferGen');
  probe.destroy();
  return buffer && callback && generator ? { buffer, callback, generator } : undefined;
}

function findBinding(): { stream: StreamBinding; tcp: new () => Handle } | undefined {
  const { binding } = process as unknown as { binding?: (name: string) => unknown };
  try {
    const stream = binding?.('stream_wrap') as StreamBinding | undefined;
    const { TCP } = (binding?.('tcp_wrap') ?? {}) as { TCP?: new () => Handle };
    const fits =
      typeof stream?.WriteWrap === 'function' &&
      stream.streamBaseState instanceof Int32Array &&
      typeof stream.kLastWriteWasAsync === 'number' &&
      typeof TCP === 'function' &&
      typeof (TCP.prototype as Handle).writeBuffer === 'function';
    return fits ? { stream: stream as StreamBinding, tcp: TCP as new () => Handle } : undefined;
  } catch {
    return undefined;
  }
}

const plain = process.env.WEFT_PLAIN_SOCKETS === '1';
const keys = plain ? undefined : findKeys();
const found = plain ? undefined : findBinding();
const state = found?.stream.streamBaseState ?? new Int32Array(8);
const asyncAt = found?.stream.kLastWriteWasAsync ?? 0;

/**
 * Bytes read between two collections of the young garbage. A read itself is lent and allocates a view alone, but copies of
 * what has to wait, and what is written, live outside of the heap, where the engine sees them late: left alone it let tens
 * of megabytes gather and then stopped for a whole collection, again and again (measured when every read had memory of its
 * own). A young one takes some 0.3 ms. Without `--expose-gc` (proxy-flags.json) nothing is asked for.
 */
const COLLECT_BYTES = 4 * 1024 * 1024;
const collect = (globalThis as { gc?: (options: { type: 'minor' }) => void }).gc;
let sinceCollect = 0;

function took(size: number): void {
  sinceCollect += size;
  if (sinceCollect <= COLLECT_BYTES) return;
  sinceCollect = 0;
  collect?.({ type: 'minor' });
}

/** For tests: what was lent is destroyed as soon as it is given back, so that whoever kept it is found out. */
const poison = process.env.WEFT_POISON_READS === '1';

/**
 * From now on what `socket` receives goes to `onBytes`, lent (wire's lent.ts), and no longer to 'data'; end, errors
 * and pausing stay as they are. False: nothing was changed. The socket must be connected and have nothing unread.
 */
export function readsDirectly(socket: Socket, onBytes: (chunk: Buffer) => void): boolean {
  const inside = socket as unknown as Internals;
  const handle = inside._handle;
  if (!keys || !handle || typeof handle.useUserBuffer !== 'function') return false;
  if (socket.readableLength > 0 || inside[keys.buffer] !== null) return false;
  inside[keys.buffer] = readBuffer;
  inside[keys.generator] = null;
  inside[keys.callback] = (size: number): boolean => {
    took(size);
    onBytes(readBuffer.subarray(0, size));
    if (poison) readBuffer.fill(0xdb, 0, size);
    return true;
  };
  handle.useUserBuffer(readBuffer);
  return true;
}

function written(this: WriteRequest, status: number): void {
  const { owner } = this;
  this.owner = undefined;
  this.buffer = undefined;
  owner?.completed(status);
}

let spare: WriteRequest | undefined;

/** Writes of one TCP socket. Bytes that the kernel does not take at once are held by the runtime, in order. */
export class DirectWriter {
  /** Bytes given that are not in the kernel yet. */
  pending = 0;
  #handle: Handle;
  #sizes: number[] = [];
  #onDone: (failed: number) => void;

  /** `onDone`: bytes that had to wait have left (0), or the socket failed (a negative error number). */
  constructor(handle: Handle, onDone: (failed: number) => void) {
    this.#handle = handle;
    this.#onDone = onDone;
  }

  /** 0, or a negative error number. Takes the bytes. */
  write(bytes: Uint8Array): number {
    const request = spare ?? new (found as NonNullable<typeof found>).stream.WriteWrap();
    spare = undefined;
    const error = this.#handle.writeBuffer(request, bytes);
    if (error !== 0) return error;
    if (state[asyncAt] === 0) {
      spare = request;
      return 0;
    }
    request.handle = this.#handle;
    request.buffer = bytes;
    request.oncomplete = written;
    request.owner = this;
    this.pending += bytes.length;
    this.#sizes.push(bytes.length);
    return 0;
  }

  completed(status: number): void {
    this.pending -= this.#sizes.shift() ?? 0;
    this.#onDone(status);
  }
}

/** Undefined: write by the socket itself (TLS, which allows one write at a time, and unknown runtimes). */
export function directWriter(socket: Socket, onDone: (failed: number) => void): DirectWriter | undefined {
  const inside = socket as unknown as Internals;
  const handle = inside._handle;
  if (!found || !handle || inside.encrypted || socket.connecting || !(handle instanceof found.tcp)) return undefined;
  return new DirectWriter(handle, onDone);
}
