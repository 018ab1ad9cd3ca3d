/** Small work on flat heads, without allocating where nothing changes. */
import { isGrpcContentType } from '@weft/engine';
import type { Head } from '@weft/wire';

/** Value of the first field of that name. */
export function field(head: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < head.length; i += 2) if (head[i] === name) return head[i + 1];
  return undefined;
}

export const CLIENT_CERT = 'x-forwarded-client-cert';

/** Values of all fields of that name, joined by commas (RFC 9110 5.3); '' without. */
export function joinedField(head: readonly string[], name: string): string {
  let all = '';
  for (let i = 0; i + 1 < head.length; i += 2) {
    if (head[i] === name) all = all === '' ? head[i + 1] : `${all},${head[i + 1]}`;
  }
  return all;
}

/**
 * Takes mesh headers off, in place: ours, XFCC, and Envoy's peer metadata, also spelled with `_`, which applications
 * may read as `-` (CGI). They mean something only where a proxy put them.
 */
export function stripMeshHeaders(head: Head): void {
  let to = 0;
  for (let i = 0; i + 1 < head.length; i += 2) {
    const name = head[i];
    if (name.charCodeAt(0) === 120 && isMeshHeader(name)) continue;
    if (to !== i) {
      head[to] = name;
      head[to + 1] = head[i + 1];
    }
    to += 2;
  }
  cut(head, to);
}

/** Of a name that begins with `x`. */
function isMeshHeader(name: string): boolean {
  switch (name.charCodeAt(2)) {
    case 101: // e
      return dashed(name).startsWith('x-envoy-peer-metadata');
    case 102: // f
      return name.length === CLIENT_CERT.length && dashed(name) === CLIENT_CERT;
    case 119: // w
      return dashed(name).startsWith('x-weft-');
    default:
      return false;
  }
}

function dashed(name: string): string {
  return name.includes('_') ? name.replaceAll('_', '-') : name;
}

/** Shortens a head. Not by a store of its length, which is a call of the runtime: mostly little is to go. */
export function cut(head: Head, length: number): void {
  while (head.length > length) head.pop();
}

/** Takes all fields of a name off, in place. */
export function removeField(head: Head, name: string): void {
  let to = 0;
  for (let i = 0; i + 1 < head.length; i += 2) {
    if (head[i] === name) continue;
    head[to] = head[i];
    head[to + 1] = head[i + 1];
    to += 2;
  }
  cut(head, to);
}

/** Changes the first field of a name that is there. */
export function setField(head: Head, name: string, value: string): void {
  for (let i = 0; i < head.length; i += 2) {
    if (head[i] === name) {
      head[i + 1] = value;
      return;
    }
  }
}

export function setPseudo(head: Head, name: string, value: string): void {
  for (let i = 0; i < head.length && head[i].charCodeAt(0) === 58; i += 2) {
    if (head[i] === name) {
      head[i + 1] = value;
      return;
    }
  }
}

/** What the data path reads of a request head, in one pass. */
export interface RequestFacts {
  /** Of an upgrade: GET, which the client sent and which policies name, though the head says CONNECT (RFC 8441). */
  method: string;
  authority: string;
  path: string;
  protocol: string;
  grpc: boolean;
  requestId: string;
  userAgent: string;
  /** x-forwarded-for; a gateway's own entry is the last one. */
  forwardedFor: string;
  /** `grpc-timeout` as it came; '' without. */
  grpcTimeout: string;
}

export function requestFacts(head: readonly string[]): RequestFacts {
  const f: RequestFacts = {
    method: '',
    authority: '',
    path: '',
    protocol: '',
    grpc: false,
    requestId: '',
    userAgent: '',
    forwardedFor: '',
    grpcTimeout: '',
  };
  for (let i = 0; i + 1 < head.length; i += 2) {
    switch (head[i]) {
      case ':method':
        f.method = head[i + 1];
        break;
      case ':authority':
        f.authority = head[i + 1];
        break;
      case ':path':
        f.path = head[i + 1];
        break;
      case ':protocol':
        f.protocol = head[i + 1];
        f.method = 'GET';
        break;
      case 'content-type':
        f.grpc = isGrpcContentType(head[i + 1]);
        break;
      case 'x-request-id':
        f.requestId = head[i + 1];
        break;
      case 'x-forwarded-for':
        f.forwardedFor = head[i + 1];
        break;
      case 'user-agent':
        f.userAgent = head[i + 1];
        break;
      case 'grpc-timeout':
        f.grpcTimeout = head[i + 1];
    }
  }
  return f;
}
