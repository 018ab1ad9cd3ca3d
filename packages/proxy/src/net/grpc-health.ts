/** Messages of grpc.health.v1.Health/Check, as they stand in a body. */
import type { Head } from '@weft/wire';
import { grpcMessage, grpcStatusOf } from './grpc-unary.ts';

export const HEALTH_PATH = '/grpc.health.v1.Health/Check';

/** HealthCheckResponse.status SERVING, field 1. */
const SERVING = Buffer.from([0x08, 0x01]);

/** HealthCheckRequest: the service's name is field 1. */
export function healthRequest(service: string): Uint8Array {
  const name = Buffer.from(service, 'utf8');
  const length: number[] = [];
  let rest = name.length;
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
  length.push(rest);
  const message = name.length === 0 ? new Uint8Array(0) : Buffer.concat([Buffer.from([0x0a, ...length]), name]);
  return grpcMessage(message);
}

/** '' where the service says that it serves. */
export function healthFailure(status: number, head: Head, trailers: Head, body: Buffer): string {
  if (status !== 200) return `status ${status}`;
  const code = grpcStatusOf(head, trailers);
  if (code !== '0') return `grpc-status ${code ?? 'missing'}`;
  // An unknown field behind it changes nothing.
  const serves = body.length >= 7 && body[0] === 0 && body.readUInt32BE(1) <= body.length - 5;
  return serves && body.subarray(5, 7).equals(SERVING) ? '' : 'not serving';
}
