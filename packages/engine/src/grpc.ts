/** gRPC status codes and their relation to HTTP's. */
import { GRPC_STATUS_NAMES } from '@weft/base';

const httpOf = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

/** The status a gRPC client is to see for an answer the proxy makes itself (gRPC's http-grpc-status-mapping). */
export function httpToGrpcStatus(status: number): number {
  switch (status) {
    case 200:
      return 0;
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** What outlier detection and metrics take a gRPC status for. Unknown codes: 500. */
export function grpcToHttpStatus(code: number): number {
  return httpOf[code] ?? 500;
}

/** `UNAVAILABLE` for 14; the number itself for codes gRPC does not define. */
export function grpcStatusName(code: number): string {
  return GRPC_STATUS_NAMES[code] ?? String(code);
}

/** 14 for `UNAVAILABLE` (any case, `-` or `_`); undefined for what is no status. */
export function grpcStatusCode(name: string): number | undefined {
  const i = GRPC_STATUS_NAMES.indexOf(name.toUpperCase().replaceAll('-', '_'));
  return i < 0 ? undefined : i;
}

const UNIT_MS = new Map([
  ['H', 3_600_000],
  ['M', 60_000],
  ['S', 1000],
  ['m', 1],
  ['u', 0.001],
  ['n', 0.000_001],
]);

/** The time that a call may take, of a `grpc-timeout` field: 1 to 8 digits and a unit. -1 for what is none. */
export function grpcTimeoutMs(value: string): number {
  const digits = value.length - 1;
  const unit = UNIT_MS.get(value[digits]);
  if (unit === undefined || digits < 1 || digits > 8) return -1;
  let n = 0;
  for (let i = 0; i < digits; i++) {
    const c = value.charCodeAt(i) - 0x30;
    if (c < 0 || c > 9) return -1;
    n = n * 10 + c;
  }
  return n * unit;
}

/** Whether a request speaks gRPC: `application/grpc`, with `+proto` or parameters after it, but not gRPC-Web. */
export function isGrpcContentType(value: string | undefined): boolean {
  if (value === undefined || !value.startsWith('application/grpc')) return false;
  const next = value.charCodeAt(16);
  return value.length === 16 || next === 0x2b || next === 0x3b || next === 0x20;
}
