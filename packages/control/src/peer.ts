/** Who calls: the verified certificate of the connection, found once for each connection. */
import type { ServerHttp2Session } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { Code, ConnectError, createContextKey, type HandlerContext } from '@connectrpc/connect';
import { checkPeer, type TrustBundle } from '@weft/identity';

export interface Peer {
  /** Empty where no valid certificate was shown. */
  spiffeId: string;
  /** Wall milliseconds; the connection must not outlive it. */
  notAfterMs: number;
  /** Why it is not verified. */
  reason: string;
}

export const peerKey = createContextKey<Peer>({ spiffeId: '', notAfterMs: 0, reason: 'no certificate' });

export function judgePeer(session: ServerHttp2Session, bundle: TrustBundle): Peer {
  const socket = session.socket as TLSSocket;
  try {
    const result = checkPeer(socket, { bundle });
    if ('error' in result) return { spiffeId: '', notAfterMs: 0, reason: result.error };
    const certificate = socket.getPeerX509Certificate();
    return { spiffeId: result.spiffeId, notAfterMs: certificate?.validToDate.getTime() ?? 0, reason: '' };
  } catch (error) {
    return { spiffeId: '', notAfterMs: 0, reason: String(error) };
  }
}

/** The caller's SPIFFE id; throws Unauthenticated where there is none. */
export function peerOf(context: Pick<HandlerContext, 'values'>): string {
  const peer = context.values.get(peerKey);
  if (peer.spiffeId === '')
    throw new ConnectError(`a verified certificate is needed: ${peer.reason}`, Code.Unauthenticated);
  return peer.spiffeId;
}
