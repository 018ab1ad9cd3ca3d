/** The ports of a gateway: opened and closed as the plan says, and what comes to them by mesh links. */
import type { Snapshot } from '@weft/engine';
import type { Head, Stream, StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field } from '../http/headers.ts';
import { linkPort } from '../inbound/links.ts';
import type { LinkPeer } from '../link/server.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { StreamPipe } from '../net/stream-pipe.ts';
import type { Ticking } from '../net/timers.ts';
import { answer } from '../outbound/listener.ts';
import type { TcpSession } from '../tcp/session.ts';
import type { GatewayVia } from './exchange.ts';
import { GatewayPort } from './port.ts';

export class Gateway implements Ticking {
  readonly #core: Core;
  readonly #host: string;
  readonly #ports = new Map<number, GatewayPort>();
  /** Ports that left the plan, until their last connection is closed. */
  readonly #leaving = new Set<GatewayPort>();
  readonly #sessions: InFlightList<TcpSession>;
  #started = false;

  /** `sessions`: of the proxy's opaque connections, which a drain waits for. */
  constructor(core: Core, host: string, sessions: InFlightList<TcpSession>) {
    this.#core = core;
    this.#host = host;
    this.#sessions = sessions;
  }

  get connections(): number {
    let n = 0;
    for (const p of [...this.#ports.values(), ...this.#leaving]) n += p.connections;
    return n;
  }

  get exchanges(): number {
    let n = 0;
    for (const p of [...this.#ports.values(), ...this.#leaving]) n += p.served.exchanges;
    return n;
  }

  /** Opens the ports of the plan in force. Rejects with `proxy.listen` where one cannot be opened. */
  async listen(): Promise<void> {
    if (this.#core.snapshot) this.#follow(this.#core.snapshot);
    for (const port of this.#ports.values()) if (!port.meshOnly) await port.listen(this.#host);
    this.#started = true;
    this.#core.ticker.add(this);
  }

  /** Brings ports and certificates to a new plan. */
  apply(snapshot: Snapshot): void {
    if (!this.#started) return;
    this.#follow(snapshot);
    this.#openAll();
  }

  /** What a proxy of the mesh sends to a port of this gateway: who calls is known. */
  linkStream(peer: LinkPeer, stream: Stream, head: Head, end: boolean): StreamHandler {
    const core = this.#core;
    const { snapshot } = core;
    if (!snapshot) return answer(stream, 503, 'no plan yet');
    const tunnel = field(head, ':method') === 'CONNECT' && field(head, ':protocol') === undefined;
    const port = this.#ports.get(linkPort(core, snapshot, peer, head, tunnel));
    // A request needs a port for plaintext HTTP: with TLS its own client is to speak that.
    const fit = tunnel ? port?.view !== undefined : port?.view?.plain !== undefined && !port.view.plain.opaque;
    if (!port || !fit) {
      core.observer.count('inbound_port_refused');
      return answer(stream, 403, 'not a port of this gateway');
    }
    if (!tunnel) {
      const { remoteAddress: remoteIp, via } = peer;
      const from: GatewayVia = {
        ...via,
        remoteIp,
        secure: false,
        certificate: '',
        port: port.port,
        sni: undefined,
        peer,
      };
      return port.request(from, stream, head, end);
    }
    const pipe = new StreamPipe(stream, peer.remoteAddress, peer.remotePort);
    stream.sendHead([':status', '200'], false);
    port.carry(pipe, peer);
    if (end) pipe.sink.ended();
    return pipe;
  }

  #follow(snapshot: Snapshot): void {
    for (const [number, port] of this.#ports) {
      if (snapshot.gateways.has(number)) continue;
      this.#ports.delete(number);
      this.#leaving.add(port);
      port.leave();
    }
    for (const number of snapshot.gateways.keys()) {
      if (this.#ports.has(number)) continue;
      this.#ports.set(number, new GatewayPort(this.#core, number, this.#sessions));
    }
    for (const port of this.#ports.values()) port.apply(snapshot);
  }

  /** Once a second: opens what a newer plan added, or could not be opened before. */
  tick(): void {
    for (const port of this.#leaving) if (port.connections === 0) this.#leaving.delete(port);
    this.#openAll();
  }

  #openAll(): void {
    for (const port of this.#ports.values()) {
      if (port.state !== 'closed' || port.meshOnly) continue;
      port.listen(this.#host).catch((error: Error) => {
        this.#core.observer.count('gateway_listen_failed');
        this.#core.logger.error({ port: port.port, error: error.message }, 'a port of the gateway cannot be opened');
      });
    }
  }

  /** The connections there are finish what runs and end; new ones are served. */
  goaway(): void {
    for (const port of [...this.#ports.values(), ...this.#leaving]) port.served.drain();
  }

  drain(): void {
    this.#started = false;
    this.#core.ticker.delete(this);
    for (const port of [...this.#ports.values(), ...this.#leaving]) port.drain();
  }

  close(): void {
    this.drain();
    for (const port of [...this.#ports.values(), ...this.#leaving]) port.close();
  }
}
