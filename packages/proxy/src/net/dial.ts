/** Opens TCP connections for the data path, with a limit in time and one answer. */
import { type LookupFunction, connect as netConnect, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Pipe } from './pipe.ts';
import { SocketPipe } from './socket-output.ts';
import type { Deadline, Ticker, TimerOwner, TimerWheel } from './timers.ts';

/**
 * Makes a socket that is connecting; a TLS socket is there when its handshake is done. Replaced where sockets need a mark
 * or another namespace.
 */
export type Connector = (host: string, port: number) => Socket;

export const plainConnector: Connector = (host, port) => netConnect({ host, port, allowHalfOpen: true, noDelay: true });

/** For workloads that share the loopback network: who is called sees the workload's own address, not 127.0.0.1. */
export function loopbackConnector(address: string): Connector {
  return (host, port) =>
    host.startsWith('127.') && address.startsWith('127.')
      ? netConnect({ host, port, localAddress: address, allowHalfOpen: true, noDelay: true })
      : plainConnector(host, port);
}

/**
 * For a workload with two addresses: its application may listen at one of them alone, so the IPv6 one is tried where the
 * IPv4 one refuses. Other hosts are dialled as they are.
 */
export function dualStackConnector(address: string, address6: string): Connector {
  const both = [
    { address, family: 4 },
    { address: address6, family: 6 },
  ];
  const lookup: LookupFunction = (_name, _options, found) => found(null, both);
  return (host, port) =>
    host === address
      ? netConnect({ host: 'own', port, lookup, autoSelectFamily: true, allowHalfOpen: true, noDelay: true })
      : plainConnector(host, port);
}

export interface DialResult {
  connected(pipe: Pipe): void;
  failed(reason: 'connect' | 'timeout', detail: string): void;
}

/** A way to one place, whatever carries the bytes: answers once, never in this call. */
export type Dialer = (timeoutMs: number, result: DialResult) => void;

class Dial implements TimerOwner {
  #socket: Socket;
  #result: DialResult;
  #deadline: Deadline;
  #linger: Ticker | undefined;
  #done = false;
  #detail = 'connection failure';

  constructor(socket: Socket, result: DialResult, timeoutMs: number, timers: TimerWheel, linger: Ticker | undefined) {
    this.#socket = socket;
    this.#result = result;
    this.#linger = linger;
    this.#deadline = timers.add(timeoutMs, this);
    socket.once((socket as TLSSocket).encrypted ? 'secureConnect' : 'connect', this.#connected);
    socket.on('error', this.#error);
    socket.once('close', this.#closed);
  }
  cancel(): void {
    if (this.#done) return;
    this.#finish();
    this.#socket.destroy();
  }
  onTimer(): void {
    if (this.#done) return;
    this.#finish();
    this.#socket.destroy();
    this.#result.failed('timeout', 'connection timeout');
  }
  #finish(): void {
    this.#done = true;
    this.#deadline.cancel();
    this.#socket.off('connect', this.#connected);
    this.#socket.off('secureConnect', this.#connected);
    this.#socket.off('close', this.#closed);
  }
  #connected = (): void => {
    if (this.#done) return;
    this.#finish();
    const pipe = new SocketPipe(this.#socket, this.#linger);
    this.#socket.off('error', this.#error);
    this.#result.connected(pipe);
  };
  #error = (error: Error & { code?: string }): void => {
    this.#detail = error.code ?? error.message;
  };
  #closed = (): void => {
    if (this.#done) return;
    this.#finish();
    this.#result.failed('connect', this.#detail);
  };
}

export interface DialHandle {
  cancel(): void;
}

/** `linger`: given for HTTP connections (see SocketPipe). The result is told later, never in this call. */
export function dialTcp(
  connector: Connector,
  host: string,
  port: number,
  timeoutMs: number,
  timers: TimerWheel,
  result: DialResult,
  linger?: Ticker,
): DialHandle {
  let socket: Socket;
  try {
    socket = connector(host, port);
  } catch (error) {
    setImmediate(() => result.failed('connect', (error as Error).message));
    return { cancel() {} };
  }
  return new Dial(socket, result, timeoutMs, timers, linger);
}
