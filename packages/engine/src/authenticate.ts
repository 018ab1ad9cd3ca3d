import { type Inbound, MtlsMode } from '@weft/plan';
import type { Snapshot } from './views.ts';

/**
 * Whether PeerAuthentication lets a connection in: STRICT wants mTLS, DISABLE wants plaintext, PERMISSIVE (also the
 * default) takes both. `mtls`: the peer proved an identity on this connection.
 */
export function authenticate(inbound: Inbound | undefined, peer: { readonly mtls: boolean }): boolean {
  switch (inbound?.mtls) {
    case MtlsMode.STRICT:
      return peer.mtls;
    case MtlsMode.DISABLE:
      return !peer.mtls;
    default:
      return true;
  }
}

/** What the plan says of a workload port; for ports that are not declared, its entry for port 0, if any. */
export function findInbound(snapshot: Snapshot, port: number): Inbound | undefined {
  return snapshot.inbound.get(port) ?? snapshot.inbound.get(0);
}

/**
 * As authenticate, by port. A port that the plan does not know at all is closed to plaintext as soon as any port of the
 * workload is: an undeclared port must not be the way around STRICT.
 */
export function authenticatePort(snapshot: Snapshot, port: number, peer: { readonly mtls: boolean }): boolean {
  const inbound = findInbound(snapshot, port);
  if (inbound || peer.mtls) return authenticate(inbound, peer);
  for (const other of snapshot.inbound.values()) if (other.mtls === MtlsMode.STRICT) return false;
  return true;
}
