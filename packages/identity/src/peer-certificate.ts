/**
 * Peer certificates without what Node keeps of them. `getPeerX509Certificate()` of the pinned Node takes each certificate above
 * the leaf out of the TLS session's chain and never frees it, and a server that asks for certificates calls it itself after
 * every handshake: some 4.5 KB a handshake that no garbage collector sees, and a chain that lacks its intermediates
 * afterwards. `getPeerCertificate()` does neither.
 */
import { X509Certificate } from 'node:crypto';
import { Socket } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';

/** What is used here of Node's own side of a TLSSocket. */
interface TlsHandle {
  getPeerX509Certificate(): unknown;
  getPeerCertificate(leafOnly: boolean): { raw?: Buffer } | undefined;
  isSessionReused(): boolean;
}

/** The leaf that the peer showed, if it showed one. Its `issuerCertificate` is not known. */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  const raw = socket.getPeerCertificate().raw as Buffer | undefined;
  return raw && new X509Certificate(raw);
}

/**
 * Replaces both getters for this process. After a handshake Node's server asks only whether there is a certificate. In one
 * that is whole and was found in order there is: OpenSSL reports an error otherwise. A resumed session may lack it.
 */
function replaceGetters(): void {
  // Without roots of its own: Node would read its whole list for this one.
  const socket = new TLSSocket(new Socket(), { secureContext: createSecureContext({ ca: [] }) });
  const handle = (socket as unknown as { _handle: TlsHandle })._handle;
  const prototype = Object.getPrototypeOf(handle) as TlsHandle;
  socket.destroy();
  prototype.getPeerX509Certificate = function (this: TlsHandle) {
    return !this.isSessionReused() || this.getPeerCertificate(true)?.raw !== undefined;
  };
  TLSSocket.prototype.getPeerX509Certificate = function (this: TLSSocket) {
    return peerCertificate(this);
  };
}

replaceGetters();
