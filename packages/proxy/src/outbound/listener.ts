/**
 * 15001: what the workload sends. Transparent: the original destination of a redirected connection. Explicit: an HTTP
 * proxy (absolute-form and CONNECT) that asks for the workload's secret; inside CONNECT the same detection runs.
 */

import { timingSafeEqual } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { hostPort } from '@weft/base';
import { findService, findServiceByAuthority, type ServicePortView } from '@weft/engine';
import { Protocol, serverFirst } from '@weft/plan';
import { type Head, ignoreAll, type Stream, type StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field, removeField } from '../http/headers.ts';
import { Served, serveHttp } from '../http/serve.ts';
import { isProxyPort } from '../link/settings.ts';
import { codecOf, type Detected, Detector } from '../net/detect.ts';
import { readClientHello } from '../net/hello.ts';
import { InFlightList } from '../net/in-flight.ts';
import { HoldSink, type Pipe } from '../net/pipe.ts';
import { SocketPipe } from '../net/socket-output.ts';
import { StreamPipe } from '../net/stream-pipe.ts';
import { OutboundTcp, type TcpTarget } from '../tcp/outbound.ts';
import type { TcpSession } from '../tcp/session.ts';
import { externalTarget, OutboundExchange, type OutboundVia } from './exchange.ts';

export interface OutboundOptions {
  /** Where it listens, for finding loops. */
  port: number;
  explicit: boolean;
  secret: string | undefined;
  /** Transparent mode: where a redirected socket wanted to go. */
  originalDestination(socket: Socket): { host: string; port: number } | undefined;
}

export class OutboundListener {
  readonly server: Server;
  /** The same at the IPv6 loopback address, where the workload has IPv6. */
  readonly server6: Server;
  readonly served = new Served();
  readonly sessions = new InFlightList<TcpSession>();
  #core: Core;
  #options: OutboundOptions;
  #secret: Buffer | undefined;

  constructor(core: Core, options: OutboundOptions) {
    this.#core = core;
    this.#options = options;
    this.#secret = options.secret ? Buffer.from(options.secret) : undefined;
    const accept = (socket: Socket): void => {
      socket.on('error', () => {});
      if (!core.admit(socket)) return;
      try {
        if (options.explicit) this.#explicit(socket);
        else this.#transparent(socket);
      } catch (error) {
        core.logger.error({ error: String(error) }, 'outbound connection failed');
        socket.destroy();
      }
    };
    this.server = createServer({ allowHalfOpen: true, noDelay: true }, accept);
    this.server6 = createServer({ allowHalfOpen: true, noDelay: true }, accept);
  }

  #transparent(socket: Socket): void {
    const target = this.#options.originalDestination(socket);
    const own = this.server.address();
    const port = typeof own === 'object' && own ? own.port : this.#options.port;
    if (!target || (target.port === port && isOwn(target.host, this.#core))) {
      // Nobody redirected it, or it would come back to this listener for ever.
      this.#core.observer.count('outbound_loop_refused');
      socket.resetAndDestroy();
      return;
    }
    this.carry(new SocketPipe(socket), target);
  }

  /** Finds the service behind a destination and speaks its protocol. */
  carry(pipe: Pipe, target: { host: string; port: number }): void {
    const core = this.#core;
    const snapshot = core.snapshot;
    const view = snapshot && findByTarget(core, target);
    if (!view) {
      if (!snapshot || snapshot.self?.registryOnly || isOwnProxyPort(core, target)) {
        core.observer.count('outbound_blackhole');
        pipe.abort();
        return;
      }
      this.#tcp(pipe, undefined, { host: target.host, port: target.port });
      return;
    }
    switch (view.protocol) {
      case Protocol.TCP:
      case Protocol.TLS:
        if (view.tls.length === 0) {
          this.#tcp(pipe, undefined, { view, ...target });
          return;
        }
        new Detector(pipe, core, undefined, (kind, hold) => this.#byName(pipe, hold, kind, view, target));
        return;
      case Protocol.UNSPECIFIED:
        if (serverFirst(target.port)) {
          this.#tcp(pipe, undefined, { view, ...target });
          return;
        }
    }
    const declared = view.protocol !== Protocol.UNSPECIFIED;
    const outcome = declared ? undefined : core.outcomes.outbound(view.service.host, view.port.port);
    new Detector(pipe, core, outcome, (kind, hold) => {
      const codec = codecOf(kind, view.protocol, hold);
      if (codec) this.#http(pipe, hold, target, codec);
      else this.#byName(pipe, hold, kind, view, target);
    });
  }

  /** An opaque connection: where the port has routes for server names and it begins with TLS, by them. */
  #byName(
    pipe: Pipe,
    hold: HoldSink,
    kind: Detected,
    view: ServicePortView,
    target: { host: string; port: number },
  ): void {
    if (kind !== 'tls' || view.tls.length === 0) {
      this.#tcp(pipe, hold, { view, ...target });
      return;
    }
    readClientHello(pipe, hold, this.#core, (hello, held) =>
      this.#tcp(pipe, held, { view, ...target, sni: hello?.sni ?? '' }),
    );
  }

  #http(pipe: Pipe, hold: HoldSink, target: { host: string; port: number }, kind: 'http1' | 'http2'): void {
    const core = this.#core;
    const via: OutboundVia = {
      remote: hostPort(pipe.remoteAddress, pipe.remotePort),
      remoteIp: pipe.remoteAddress,
      httpVersion: kind === 'http1' ? 'HTTP/1.1' : 'HTTP/2',
    };
    serveHttp(core, this.served, kind, pipe, hold, (stream, head, end) => {
      const snapshot = core.snapshot!;
      const view = findByTarget(core, target);
      return new OutboundExchange(core, snapshot, stream, head, end, via).begin(view, view ? undefined : target);
    });
  }

  #tcp(pipe: Pipe, hold: HoldSink | undefined, target: TcpTarget): void {
    const snapshot = this.#core.snapshot!;
    let held = hold;
    if (!held) {
      held = new HoldSink();
      pipe.sink = held;
    }
    new OutboundTcp(this.#core, snapshot, pipe, held, target, this.sessions).start();
  }

  #explicit(socket: Socket): void {
    const pipe = new SocketPipe(socket, this.#core.ticker);
    const via: OutboundVia = {
      remote: hostPort(pipe.remoteAddress, pipe.remotePort),
      remoteIp: pipe.remoteAddress,
      httpVersion: 'HTTP/1.1',
    };
    serveHttp(this.#core, this.served, 'http1', pipe, undefined, (stream, head, end) => {
      if (!this.#authorized(field(head, 'proxy-authorization'))) {
        this.#core.observer.count('outbound_proxy_auth_refused');
        return answer(stream, 407, 'proxy authentication required', ['proxy-authenticate', 'Basic realm="weft"']);
      }
      removeField(head, 'proxy-authorization');
      const authority = field(head, ':authority') ?? '';
      if (field(head, ':method') === 'CONNECT' && field(head, ':protocol') === undefined) {
        const target = externalTarget(authority, 0);
        if (!target || target.port === 0) return answer(stream, 400, 'CONNECT needs host:port');
        if (isOwnProxyPort(this.#core, target)) return answer(stream, 403, 'a port of the proxy itself');
        const inner = new StreamPipe(stream, pipe.remoteAddress, pipe.remotePort);
        stream.sendHead([':status', '200'], false);
        this.carry(inner, target);
        return inner;
      }
      const snapshot = this.#core.snapshot;
      if (!snapshot) return answer(stream, 503, 'no plan yet');
      const view = findServiceByAuthority(snapshot, authority, 80);
      const external = view || snapshot.self?.registryOnly ? undefined : externalTarget(authority, 80);
      if (external && isOwnProxyPort(this.#core, external)) return answer(stream, 403, 'a port of the proxy itself');
      return new OutboundExchange(this.#core, snapshot, stream, head, end, via).begin(view, external);
    });
  }

  #authorized(value: string | undefined): boolean {
    if (!this.#secret) return true;
    if (!value || !/^basic /i.test(value)) return false;
    const text = Buffer.from(value.slice(6), 'base64').toString('latin1');
    const given = Buffer.from(text.slice(text.indexOf(':') + 1), 'latin1');
    return given.length === this.#secret.length && timingSafeEqual(given, this.#secret);
  }
}

function findByTarget(core: Core, target: { host: string; port: number }) {
  const snapshot = core.snapshot!;
  return (
    findService(snapshot, target.host, target.port) ??
    // Explicit CONNECT names the service.
    (core.options.explicit ? findServiceByAuthority(snapshot, target.host, target.port) : undefined)
  );
}

function isOwn(host: string, core: Core): boolean {
  const { address, address6 } = core.options;
  return host === address || host === address6 || host.startsWith('127.') || host === '::1';
}
function isOwnProxyPort(core: Core, target: { host: string; port: number }): boolean {
  return isProxyPort(target.port) && isOwn(target.host, core);
}

/** A plain answer of the listener itself. */
export function answer(stream: Stream, status: number, text: string, extra: Head = []): StreamHandler {
  const body = Buffer.from(text);
  stream.handler = ignoreAll;
  stream.sendHead(
    [':status', String(status), 'content-type', 'text/plain', 'content-length', String(body.length), ...extra],
    false,
  );
  stream.sendData(body, true);
  return ignoreAll;
}
