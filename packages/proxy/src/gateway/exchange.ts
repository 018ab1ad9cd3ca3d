/** A request from outside: made harmless, authorized, and then routed as a sidecar routes. */
import {
  type AuthorizationResult,
  authorize,
  edgeHead,
  edgeTrailers,
  findVirtualHost,
  type GatewayServerView,
  type Snapshot,
  visitorAddress,
} from '@weft/engine';
import { Protocol } from '@weft/plan';
import type { Head, Stream, StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { GrpcWebStream, isGrpcWeb } from '../http/grpc-web.ts';
import { setPseudo, stripMeshHeaders } from '../http/headers.ts';
import type { CheckedFacts } from '../http/vetting.ts';
import type { LinkPeer } from '../link/server.ts';
import { noteAuthorization } from '../observe/authorization-notes.ts';
import { OutboundExchange, type OutboundVia } from '../outbound/exchange.ts';

/** The connection that a visitor's request came by. */
export interface GatewayVia extends OutboundVia {
  /** It came by TLS. */
  readonly secure: boolean;
  /** Where the gateway listens. */
  readonly port: number;
  /** What is said of the visitor's certificate (see certificateElement); '': it showed none. */
  readonly certificate: string;
  /** Server name of the ClientHello. */
  readonly sni: string | undefined;
  /** It came by a mesh link: who calls is known, and its proxy has put the head in order. */
  readonly peer: LinkPeer | undefined;
}

/** Begins the exchange of a request; what comes back hears of its body. `server` undefined: the plan has none any more. */
export function gatewayExchange(
  core: Core,
  snapshot: Snapshot,
  stream: Stream,
  head: Head,
  end: boolean,
  via: GatewayVia,
  server: GatewayServerView | undefined,
): StreamHandler {
  if (server?.server.protocol !== Protocol.GRPC_WEB || !isGrpcWeb(head)) {
    return new GatewayExchange(core, snapshot, stream, head, end, via).serve(server);
  }
  const web = new GrpcWebStream(stream, head);
  const exchange = new GatewayExchange(core, snapshot, web, head, end, via);
  web.handler = exchange;
  exchange.serve(server);
  return web;
}

class GatewayExchange extends OutboundExchange {
  #visitor: GatewayVia;
  #originalIp = '';
  /** The head as policies saw it: routes rewrite it afterwards. */
  #judgedHead: Head | undefined;

  constructor(core: Core, snapshot: Snapshot, down: Stream, head: Head, end: boolean, via: GatewayVia) {
    super(core, snapshot, down, head, end, via);
    this.#visitor = via;
    this.sni = via.sni ?? '';
  }

  /** `server` undefined: the plan has none at this port any more. */
  serve(server: GatewayServerView | undefined): this {
    if (this.#visitor.peer) return this.#serveMesh(server);
    const { core, head, snapshot } = this;
    const via = this.#visitor;
    const trusted = snapshot.self?.numTrustedProxies ?? 0;
    const originalIp = visitorAddress(head, via.remoteIp, trusted);
    const clean = edgeHead(head, via.remoteIp, via.secure, trusted, snapshot.self?.forwardClientCert, via.certificate);
    if (!this.take('reject')) return this;
    if (!clean) {
      core.observer.count('edge_underscore_header');
      this.details = 'unexpected_underscore';
      this.reply(400, '');
      return this;
    }
    this.#dropUsualPort(via.secure ? ':443' : ':80');
    this.#originalIp = originalIp;
    return this.#authenticate(server);
  }

  protected override cleanTrailers(fields: Head): void {
    super.cleanTrailers(fields);
    if (!this.#visitor.peer) edgeTrailers(fields);
  }

  /** From a workload of the mesh, e.g. on its way out: nothing here is a stranger's. */
  #serveMesh(server: GatewayServerView | undefined): this {
    stripMeshHeaders(this.head);
    this.#originalIp = this.#visitor.remoteIp;
    if (!this.take(this.snapshot.pathPolicies ? 'reject' : 'keep')) return this;
    return this.#authenticate(server);
  }

  #authenticate(server: GatewayServerView | undefined): this {
    if (this.snapshot.authorization.tokens.length === 0) this.#authorized(server);
    else this.authenticateToken(this.#visitor.port, () => this.#authorized(server));
    return this;
  }

  #authorized(server: GatewayServerView | undefined): void {
    const { head, snapshot } = this;
    const verdict = this.judge(snapshot);
    if (verdict.ask) {
      this.askAuthorizer(verdict, () => this.#authorized(server));
      return;
    }
    this.judgedBy = snapshot.authorization;
    this.verdict = verdict;
    if (!verdict.allow || verdict.audit || verdict.shadow) {
      const { peer, port } = this.#visitor;
      const { method, path } = this.facts;
      const remote = this.#originalIp;
      noteAuthorization(this.core, verdict, { principal: peer?.principal, remote, port, method, path });
    }
    if (!verdict.allow) {
      this.details = verdict.details;
      this.reply(403, 'RBAC: access denied');
      return;
    }
    this.#judgedHead = head.slice();
    const { method, protocol, authority } = this.facts;
    // A gateway is nobody's forward proxy.
    const tunnel = method === 'CONNECT' && protocol === '';
    const host = server && !tunnel ? findVirtualHost(server, authority) : undefined;
    if (host) this.route(host);
    else this.noRoute();
  }

  protected override get ofVisitor(): boolean {
    return !this.#visitor.peer;
  }

  /** What rules there are is no visitor's business, whomever the gateway's own identity is. */
  protected override get tellsDecisions(): boolean {
    return false;
  }

  protected override judge(snapshot: Snapshot): AuthorizationResult {
    const via = this.#visitor;
    return authorize(snapshot, {
      principal: via.peer?.principal,
      remoteIp: via.remoteIp,
      originalIp: this.#originalIp,
      destPort: via.port,
      localIp: this.core.options.address,
      sni: via.sni,
      token: this.token,
      approved: this.approved,
      head: this.#judgedHead ?? this.head,
    });
  }

  protected override checkedOf(): CheckedFacts {
    const { core, facts, head } = this;
    const via = this.#visitor;
    return {
      http: true,
      ...{ head, method: facts.method, path: facts.path, authority: facts.authority, requestId: facts.requestId },
      ...{ httpVersion: this.httpVersion, remoteIp: this.#originalIp, remotePort: 0 },
      principal: via.peer?.principal ?? '',
      ...{ localIp: core.options.address, localPort: via.port, ownPrincipal: core.spiffeId },
      ...{ sni: via.sni ?? '', wallMs: core.wallMs() },
    };
  }

  /** `shop.example.com:443` by https is `shop.example.com` (RFC 9110 4.2.3); rules and applications see one of them. */
  #dropUsualPort(port: string): void {
    const { authority } = this.facts;
    if (!authority.endsWith(port)) return;
    this.facts.authority = authority.slice(0, -port.length);
    setPseudo(this.head, ':authority', this.facts.authority);
  }
}
