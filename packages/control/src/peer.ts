/** Who calls: the verified certificate of the connection, found once for each connection. */
import type { ServerHttp2Session } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { Code, ConnectError, createContextKey, type HandlerContext } from '@connectrpc/connect';
import { checkPeer, signersOf, type TrustBundle } from '@weft/identity';

export interface Peer {
  /** Empty where no valid certificate was shown. */
  spiffeId: string;
  /** Wall milliseconds; the connection must not outlive it. */
  notAfterMs: number;
  notBeforeMs: number;
  /** Hexadecimal. */
  serial: string;
  /** What made its certificate (`signersOf`). */
  signers: readonly string[];
  /** Why it is not verified. */
  reason: string;
}

const nobody = (reason: string): Peer => ({
  spiffeId: '',
  notAfterMs: 0,
  notBeforeMs: 0,
  serial: '',
  signers: [],
  reason,
});

export const peerKey = createContextKey<Peer>(nobody('no certificate'));

export function judgePeer(session: ServerHttp2Session, bundle: TrustBundle): Peer {
  const socket = session.socket as TLSSocket;
  try {
    const result = checkPeer(socket, { bundle });
    if ('error' in result) return nobody(result.error);
    const { spiffeId, certificate } = result;
    const notAfterMs = certificate.validToDate.getTime();
    const notBeforeMs = certificate.validFromDate.getTime();
    const serial = certificate.serialNumber.toLowerCase();
    return { spiffeId, notAfterMs, notBeforeMs, serial, signers: signersOf(socket, bundle), reason: '' };
  } catch (error) {
    return nobody(String(error));
  }
}

export const NEEDED = 'a verified certificate is needed';

/** The caller's SPIFFE id; throws Unauthenticated where there is none. */
export function peerOf(context: Pick<HandlerContext, 'values'>): string {
  const peer = context.values.get(peerKey);
  if (peer.spiffeId === '') throw new ConnectError(`${NEEDED}: ${peer.reason}`, Code.Unauthenticated);
  return peer.spiffeId;
}
