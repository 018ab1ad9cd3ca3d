/** The mesh header by which a client proxy says what its certificate does not: workload, version, app. */
import { parseSpiffeId } from '@weft/identity';
import type { Self } from '@weft/plan';
import { type PeerInfo, unknownPeer } from '../observe/types.ts';

const FIELD_LIMIT = 253;
const KEYS = ['w', 'v', 'a', 's', 'r', 'c', 'i'] as const;

/** Made once per plan: `w=cart-v1;v=v1;…`, values percent-encoded. */
export function encodeSource(self: Self): string {
  const values = [
    self.workload,
    self.version,
    self.app,
    self.canonicalService,
    self.canonicalRevision,
    self.cluster,
    self.instance,
  ];
  return KEYS.map((k, i) => `${k}=${encodeURIComponent(values[i].slice(0, FIELD_LIMIT))}`).join(';');
}

export function selfPeer(self: Self): PeerInfo {
  return {
    workload: self.workload,
    namespace: self.namespace,
    principal: `spiffe://${self.trustDomain}/ns/${self.namespace}/sa/${self.serviceAccount}`,
    version: self.version,
    app: self.app,
    canonicalService: self.canonicalService,
    canonicalRevision: self.canonicalRevision,
    cluster: self.cluster,
    instance: self.instance,
  };
}

/** The peer as far as it is known: namespace and principal from its certificate, the rest from its own word. */
export function decodeSource(header: string | undefined, spiffeId: string): PeerInfo {
  const peer = unknownPeer();
  peer.principal = spiffeId;
  peer.namespace = parseSpiffeId(spiffeId)?.namespace ?? '';
  if (header === undefined || header.length > 4096) return peer;
  for (const part of header.split(';')) {
    const value = decoded(part.slice(2));
    if (part[1] !== '=') continue;
    switch (part[0]) {
      case 'w':
        peer.workload = value;
        break;
      case 'v':
        peer.version = value;
        break;
      case 'a':
        peer.app = value;
        break;
      case 's':
        peer.canonicalService = value;
        break;
      case 'r':
        peer.canonicalRevision = value;
        break;
      case 'c':
        peer.cluster = value;
        break;
      case 'i':
        peer.instance = value;
        break;
    }
  }
  return peer;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text).slice(0, FIELD_LIMIT);
  } catch {
    return '';
  }
}
