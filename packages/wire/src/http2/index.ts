export type { Http2Options } from './connection.ts';
export { Http2Connection } from './connection.ts';
export { http2Counter } from './floods.ts';
export { errorOfReset, h2Error, resetOfError } from './frames.ts';
export { decoded, HpackDecoder } from './hpack-decoder.ts';
export { HpackEncoder } from './hpack-encoder.ts';
