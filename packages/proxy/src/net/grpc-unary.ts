/** Calls of the proxy's own to gRPC services: one message each way, not compressed. */
import type { Head } from '@weft/wire';
import { field } from '../http/headers.ts';

/** `timeoutMs`: what the service is told of how long is waited; undefined: nothing. */
export function grpcCallHead(authority: string, path: string, timeoutMs?: number): Head {
  const head = [
    ...[':method', 'POST', ':scheme', 'http', ':authority', authority],
    ...[':path', path, 'content-type', 'application/grpc', 'te', 'trailers'],
  ];
  // At most 8 digits: what is longer is said in seconds.
  if (timeoutMs !== undefined)
    head.push('grpc-timeout', timeoutMs < 1e8 ? `${timeoutMs}m` : `${Math.floor(timeoutMs / 1000)}S`);
  return head;
}

/** A message as it stands in a body: not compressed, its length, itself. */
export function grpcMessage(message: Uint8Array): Uint8Array {
  const out = Buffer.alloc(5 + message.length);
  out.writeUInt32BE(message.length, 1);
  out.set(message, 5);
  return out;
}

/** An answer without a body says it in its head. Undefined: it was not said. */
export function grpcStatusOf(head: Head, trailers: Head): string | undefined {
  return field(trailers, 'grpc-status') ?? field(head, 'grpc-status');
}
