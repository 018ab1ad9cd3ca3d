import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { type AddressInfo, createServer, isIP, type Server, type Socket } from 'node:net';
import { type Clock, type Logger, systemClock, WeftError } from '@weft/base';
import type { DnsAnswer } from '@weft/wire';
import { type DnsCodec, type DnsQuestion, formatError, rcode } from './codec.ts';
import { Forwarder, type Upstream } from './forward.ts';

export interface DnsServerOptions<Q extends DnsQuestion = DnsQuestion> {
  /** Usually 127.0.0.1 and ::1; an IPv6 address that the machine does not have is left out. Port 0: any, the same for all. */
  bind: { hosts: readonly string[]; port: number };
  codec: DnsCodec<Q>;
  /** Addresses of a name of the mesh (lower case, no dot at the end); undefined: not ours. An empty list: ours, nobody there. */
  resolve: (name: string) => { addresses: readonly string[] } | undefined;
  /** Where all else is asked; empty: SERVFAIL at once. */
  upstreams: readonly Upstream[];
  /** Names under it that are unknown do not exist. Default `cluster.local`. */
  domain?: string;
  count: (name: string) => void;
  logger: Logger;
  clock?: Clock;
  limits?: Partial<DnsLimits>;
}

export interface DnsLimits {
  /** A query longer than this is not read. */
  queryBytes: number;
  tcpConnections: number;
  tcpIdleMs: number;
  /** Questions of one TCP connection that are answered at the same time; past it, reading pauses. */
  tcpPipelined: number;
  forwardTimeoutMs: number;
  forwardTries: number;
  forwardInFlight: number;
}

export const defaultDnsLimits: Readonly<DnsLimits> = Object.freeze({
  queryBytes: 4096,
  tcpConnections: 128,
  tcpIdleMs: 10_000,
  tcpPipelined: 16,
  forwardTimeoutMs: 2000,
  forwardTries: 2,
  forwardInFlight: 1024,
});

/** Seconds that an answer about the mesh may be kept; as CoreDNS answers for Kubernetes. */
const ttl = 5;
const typeA = 1;
const typeAaaa = 28;

export interface DnsServer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves DNS on UDP and TCP. Rejects with WeftError `dns-listen-failed` where no given host can be bound.
 * In transparent capture it must bind loopback addresses, never 0.0.0.0: redirected queries would be answered from
 * the wrong address.
 */
export async function startDnsServer<Q extends DnsQuestion>(options: DnsServerOptions<Q>): Promise<DnsServer> {
  const limits: DnsLimits = { ...defaultDnsLimits, ...options.limits };
  const { count, logger } = options;
  const clock = options.clock ?? systemClock;
  const forwarder = new Forwarder({
    upstreams: options.upstreams,
    clock,
    timeoutMs: limits.forwardTimeoutMs,
    tries: limits.forwardTries,
    maxInFlight: limits.forwardInFlight,
    count,
  });
  const answerTo = answerer(options, limits, forwarder);
  const udp: UdpSocket[] = [];
  const tcp: Server[] = [];
  const open = new Set<Socket>();
  let port = options.bind.port;
  const close = async (): Promise<void> => {
    forwarder.close();
    for (const socket of open) socket.destroy();
    await Promise.all([
      ...udp.map((s) => new Promise<void>((resolve) => s.close(() => resolve()))),
      ...tcp.map((s) => new Promise<void>((resolve) => s.close(() => resolve()))),
    ]);
  };
  const onTcp = (socket: Socket): void => {
    if (open.size >= limits.tcpConnections) {
      count('dns_tcp_refused');
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    serveTcp(socket, answerTo, limits, count, clock);
  };
  let failed: unknown;
  for (const host of options.bind.hosts) {
    try {
      const server = createServer({ allowHalfOpen: true }, onTcp);
      await listening(server, () => server.listen({ host, port, ipv6Only: true }));
      tcp.push(server);
      port = (server.address() as AddressInfo).port;
      const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', ipv6Only: host.includes(':') });
      await listening(socket, () => socket.bind({ address: host, port }));
      udp.push(socket);
      socket.on('message', (message, peer) => {
        answerTo(message, false).then((answer) => {
          if (answer) socket.send(answer, peer.port, peer.address, () => {});
        });
      });
      socket.on('error', (error) => logger.warn({ error: String(error) }, 'dns: UDP socket error'));
      server.on('error', (error) => logger.warn({ error: String(error) }, 'dns: TCP server error'));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (host.includes(':') && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue;
      failed = error;
      break;
    }
  }
  if (failed || udp.length === 0) {
    await close();
    const where = `${options.bind.hosts.join(', ')} port ${options.bind.port}`;
    throw new WeftError('dns-listen-failed', `dns: cannot listen on ${where}: ${failed ?? 'no such address'}`, {
      cause: failed,
    });
  }
  return { port, close };
}

function listening(emitter: Server | UdpSocket, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => reject(error);
    emitter.once('error', onError);
    emitter.once('listening', () => {
      emitter.off('error', onError);
      resolve();
    });
    start();
  });
}

type Answerer = (message: Uint8Array, overTcp: boolean) => Promise<Uint8Array | undefined>;

/** Never rejects; undefined: say nothing. */
function answerer<Q extends DnsQuestion>(
  { codec, resolve, domain = 'cluster.local', upstreams, count, logger }: DnsServerOptions<Q>,
  limits: DnsLimits,
  forwarder: Forwarder,
): Answerer {
  const suffix = `.${domain}`;
  return async (message, overTcp) => {
    try {
      if (message.length > limits.queryBytes) {
        count('dns_query_too_long');
        return undefined;
      }
      const query = codec.parseQuery(message);
      if (typeof query !== 'object') {
        count('dns_malformed');
        return formatError(message);
      }
      const name = query.name.toLowerCase().replace(/\.$/, '');
      const found = resolve(name);
      if (found) return encode(codec, query, found.addresses, overTcp);
      if (name === domain || name.endsWith(suffix) || name.endsWith('.svc')) {
        return codec.encodeResponse(query, { rcode: rcode.noSuchName, answers: [] }, overTcp ? 'tcp' : 'udp');
      }
      const answer = await forwarder.ask(message, overTcp);
      if (answer) return answer;
      if (upstreams.length === 0) count('dns_no_upstream');
      return codec.encodeResponse(query, { rcode: rcode.serverFailure, answers: [] }, overTcp ? 'tcp' : 'udp');
    } catch (error) {
      logger.error({ error: String(error) }, 'dns: cannot answer');
      return undefined;
    }
  };
}

function encode<Q extends DnsQuestion>(
  codec: DnsCodec<Q>,
  query: Q,
  addresses: readonly string[],
  overTcp: boolean,
): Uint8Array {
  const answers: DnsAnswer[] = [];
  const family = query.type === typeA ? 4 : query.type === typeAaaa ? 6 : -1;
  // A name of ours with no address of the type asked for exists all the same: NOERROR without answers.
  for (const address of addresses) {
    if (isIP(address) !== family) continue;
    answers.push({ name: query.name, type: family === 4 ? typeA : typeAaaa, ttl, data: address });
  }
  return codec.encodeResponse(query, { rcode: rcode.ok, answers }, overTcp ? 'tcp' : 'udp');
}

function serveTcp(
  socket: Socket,
  answerTo: Answerer,
  limits: DnsLimits,
  count: (name: string) => void,
  clock: Clock,
): void {
  let received = Buffer.alloc(0);
  let running = 0;
  let ended = false;
  let timer = clock.after(limits.tcpIdleMs, idle);
  function idle(): void {
    count('dns_tcp_idle');
    socket.destroy();
  }
  const next = (): void => {
    while (received.length >= 2 && running < limits.tcpPipelined) {
      const length = received.readUInt16BE(0);
      if (length > limits.queryBytes) {
        count('dns_query_too_long');
        socket.destroy();
        return;
      }
      if (received.length < length + 2) break;
      const message = Uint8Array.from(received.subarray(2, length + 2));
      received = received.subarray(length + 2);
      running++;
      answerTo(message, true).then((answer) => {
        running--;
        if (socket.destroyed) return;
        if (answer) socket.write(Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 255]), answer]));
        next();
      });
    }
    if (running >= limits.tcpPipelined) socket.pause();
    else socket.resume();
    if (ended && running === 0) socket.end();
  };
  socket.on('error', () => {});
  socket.on('close', () => timer.cancel());
  socket.on('end', () => {
    ended = true;
    next();
  });
  socket.on('data', (chunk) => {
    timer.cancel();
    timer = clock.after(limits.tcpIdleMs, idle);
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    next();
  });
}
