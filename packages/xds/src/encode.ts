/**
 * DeltaDiscoveryResponse as bytes, framed for gRPC. What a step changes is written out once and goes to every stream that
 * takes it as the same memory; a stream's own are some forty bytes of nonce and label.
 */
import type { Diff } from './diff.ts';
import { PREFIX_BYTES } from './grpc-frames.ts';

/** A response that is due. */
export interface DeltaResponse {
  readonly typeUrl: string;
  readonly systemVersionInfo: string;
  readonly nonce: string;
  /** Together they are what changes; each may be shared with other streams. */
  readonly changes: readonly Diff[];
}

/** Larger ones are remembered only as long as somebody writes them: each class of clients has a whole first plan. */
const MAX_KEPT_BYTES = 64 * 1024;
/** Parts up to this many bytes are copied into one: a write costs more than the copy. */
const MAX_JOINED_BYTES = 16 * 1024;

const VERSION_INFO = 1;
const RESOURCES = 2;
const TYPE_URL = 4;
const NONCE = 5;
const REMOVED_RESOURCES = 6;
/** Of Resource, and of the Any in it. */
const VERSION = 1;
const RESOURCE = 2;
const NAME = 3;
const ANY_TYPE_URL = 1;
const ANY_VALUE = 2;

type Bytes = Buffer<ArrayBuffer>;
/** Undefined: asked for once. Most steps of one client alone are, and are not worth the memory. */
const kept = new WeakMap<Diff, Bytes | WeakRef<Bytes> | undefined>();

/** One message with its gRPC prefix, in few pieces. */
export function encodeResponse(response: DeltaResponse): Buffer[] {
  const { typeUrl, systemVersionInfo, nonce } = response;
  const changes = response.changes.map((change) => encodeDiff(typeUrl, change));
  const ownBytes = textBytes(systemVersionInfo) + textBytes(typeUrl) + textBytes(nonce);
  const small = changes.reduce((sum, c) => sum + (c.length <= MAX_JOINED_BYTES ? c.length : 0), 0);
  const first = Buffer.allocUnsafe(PREFIX_BYTES + ownBytes + small);
  first[0] = 0;
  const bytes = changes.reduce((sum, c) => sum + c.length, ownBytes);
  first.writeUInt32BE(bytes, 1);
  let at = text(first, PREFIX_BYTES, VERSION_INFO, systemVersionInfo);
  at = text(first, at, TYPE_URL, typeUrl);
  at = text(first, at, NONCE, nonce);
  const out = [first];
  for (const change of changes) {
    if (change.length > MAX_JOINED_BYTES) out.push(change);
    else at += change.copy(first, at);
  }
  return out;
}

function encodeDiff(typeUrl: string, diff: Diff): Bytes {
  const before = kept.get(diff);
  const known = before instanceof WeakRef ? before.deref() : before;
  if (known) return known;
  const bytes = written(typeUrl, diff);
  if (kept.has(diff)) kept.set(diff, bytes.length <= MAX_KEPT_BYTES ? bytes : new WeakRef(bytes));
  else kept.set(diff, undefined);
  return bytes;
}

function written(typeUrl: string, { updated, removed }: Diff): Bytes {
  const typeBytes = textBytes(typeUrl);
  let length = 0;
  for (const { name, resource } of updated) {
    const inner = resourceBytes(typeBytes, name, resource.version, resource.bytes.length);
    length += 1 + varintBytes(inner) + inner;
  }
  for (const name of removed) length += textBytes(name, true);
  const out = Buffer.allocUnsafeSlow(length) as Bytes;
  let at = 0;
  for (const { name, resource } of updated) {
    at = head(out, at, RESOURCES, resourceBytes(typeBytes, name, resource.version, resource.bytes.length));
    at = text(out, at, VERSION, resource.version);
    at = head(out, at, RESOURCE, typeBytes + fieldBytes(resource.bytes.length));
    at = text(out, at, ANY_TYPE_URL, typeUrl);
    at = head(out, at, ANY_VALUE, resource.bytes.length);
    out.set(resource.bytes, at);
    at += resource.bytes.length;
    at = text(out, at, NAME, name);
  }
  for (const name of removed) at = text(out, at, REMOVED_RESOURCES, name, true);
  return out;
}

function resourceBytes(typeBytes: number, name: string, version: string, valueBytes: number): number {
  const any = typeBytes + fieldBytes(valueBytes);
  return textBytes(version) + fieldBytes(any) + textBytes(name);
}

/** A field of bytes with its tag and length; all field numbers here are below 16. */
function fieldBytes(length: number): number {
  return 1 + varintBytes(length) + length;
}

/** An empty text is left out, except where it is an element of a list. */
function textBytes(value: string, element = false): number {
  return value === '' && !element ? 0 : fieldBytes(Buffer.byteLength(value));
}

function varintBytes(value: number): number {
  let n = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) n++;
  return n;
}

function head(out: Buffer, start: number, field: number, length: number): number {
  let at = start;
  out[at++] = (field << 3) | 2;
  let rest = length;
  for (; rest > 127; rest = Math.floor(rest / 128)) out[at++] = (rest % 128) | 128;
  out[at++] = rest;
  return at;
}

function text(out: Buffer, at: number, field: number, value: string, element = false): number {
  if (value === '' && !element) return at;
  const start = head(out, at, field, Buffer.byteLength(value));
  return start + out.write(value, start);
}
