/** What arrives on a mesh link: request streams that name a port by header, and CONNECT tunnels that name it by authority. */
import { canonicalIp } from '@weft/base';
import { authenticate, canonicalAuthority, type Snapshot } from '@weft/engine';
import { type Inbound, Protocol, serverFirst } from '@weft/plan';
import type { Head, Stream, StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field } from '../http/headers.ts';
import type { LinkPeer } from '../link/server.ts';
import { isProxyPort, PORT_HEADER, SOURCE_HEADER } from '../link/settings.ts';
import type { InFlightList } from '../net/in-flight.ts';
import { HoldSink } from '../net/pipe.ts';
import { StreamPipe } from '../net/stream-pipe.ts';
import { answer } from '../outbound/listener.ts';
import { inboundTcp } from '../tcp/inbound.ts';
import type { TcpSession } from '../tcp/session.ts';
import { inboundExchange } from './exchange.ts';
import type { InboundListener } from './listener.ts';

export function linkStream(
  core: Core,
  inside: InboundListener,
  sessions: InFlightList<TcpSession>,
  peer: LinkPeer,
  stream: Stream,
  head: Head,
  end: boolean,
): StreamHandler {
  const { snapshot } = core;
  if (!snapshot) return answer(stream, 503, 'no plan yet');
  const tunnel = field(head, ':method') === 'CONNECT' && field(head, ':protocol') === undefined;
  const port = linkPort(core, snapshot, peer, head, tunnel);
  const at = port > 0 && !isProxyPort(port) ? core.inboundPorts.at(snapshot, port) : undefined;
  if (!at?.declared) {
    core.observer.count('inbound_port_refused');
    return answer(stream, 403, 'not a port of this workload');
  }
  if (!tunnel) return inboundExchange(core, snapshot, stream, head, end, peer.via, at);
  const { inbound } = at;
  if (!authenticate(inbound, { mtls: true })) {
    core.observer.count('inbound_mtls_refused');
    return answer(stream, 403, 'mTLS is disabled on this port');
  }
  const pipe = new StreamPipe(stream, peer.remoteAddress, peer.remotePort);
  if (mayHoldRequests(peer, inbound)) {
    // Its bytes must come before it can be judged: as requests, with all their attributes.
    stream.sendHead([':status', '200'], false);
    inside.carry(pipe, port, peer);
    if (end) pipe.sink.ended();
    return pipe;
  }
  const hold = new HoldSink();
  pipe.sink = hold;
  if (end) hold.ended();
  inboundTcp({
    core,
    snapshot,
    inbound,
    port,
    peer,
    source: peer.source(peer.weft ? field(head, SOURCE_HEADER) : undefined),
    remoteAddress: peer.remoteAddress,
    remotePort: peer.remotePort,
    sni: '',
    sessions,
    accept: () => {
      stream.sendHead([':status', '200'], false);
      return { pipe, hold };
    },
    refuse: (denied) => {
      if (hold.lost !== undefined) return;
      stream.handler = answer(stream, denied ? 403 : 503, denied ? 'RBAC: access denied' : 'connection failure');
    },
  });
  return pipe;
}

/**
 * Whether HTTP is looked for inside a tunnel. A Weft proxy sends requests as streams: what it tunnels it has found to be
 * something else. Were that not true, nothing is gained: tunnels are judged by the rules for TCP, the stricter ones.
 */
function mayHoldRequests(peer: LinkPeer, inbound: Inbound): boolean {
  if (peer.weft) return false;
  switch (inbound.protocol) {
    case Protocol.TCP:
    case Protocol.TLS:
      return false;
    case Protocol.UNSPECIFIED:
      return !serverFirst(inbound.port);
    default:
      return true;
  }
}

/** The port that a stream of a link asks for; 0: none of this workload's. */
export function linkPort(core: Core, snapshot: Snapshot, peer: LinkPeer, head: Head, tunnel: boolean): number {
  return tunnel ? tunnelPort(core, snapshot, field(head, ':authority') ?? '') : headerPort(peer, head);
}

function headerPort(peer: LinkPeer, head: Head): number {
  const text = peer.weft ? field(head, PORT_HEADER) : undefined;
  if (text === undefined || text.length > 5 || text.charCodeAt(0) === 48) return 0;
  let port = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return 0;
    port = port * 10 + digit;
  }
  return port;
}

/** The authority must be this workload's address, or a service that it backs. */
function tunnelPort(core: Core, snapshot: Snapshot, authority: string): number {
  const parsed = canonicalAuthority(authority);
  if (!parsed || parsed.port === 0) return 0;
  const host = canonicalIp(parsed.host.replace(/^\[|\]$/g, ''));
  const { address, address6 } = core.options;
  if (host === address || host === address6 || host === snapshot.self?.address) return parsed.port;
  if (!snapshot.self?.services.includes(host)) return 0;
  // A service's own port leads to the workload port that backs it.
  for (const inbound of snapshot.inbound.values()) {
    if (inbound.serviceHost === host && inbound.servicePort === parsed.port) return inbound.port;
  }
  return parsed.port;
}
