import type { Head, WireLimits } from '../stream.ts';
import { VALUE_BYTES } from './chars.ts';
import { applyConnection, type Framing, isChunked, readFields, special } from './fields.ts';
import { knownPlaces } from './known-lines.ts';
import { Refusal } from './refusal.ts';
import { statusText } from './strings.ts';

export interface ResponseHead {
  head: Head;
  status: number;
  http10: boolean;
  keepAlive: boolean;
  /** As the fields say; HEAD, 1xx, 204, 304 and CONNECT are for the caller, who knows the request. */
  framing: Framing;
  length: number;
}

const knownHeads = knownPlaces();

/** Reads a response head `bytes[start..end]` (without its empty line). Throws Refusal (502). */
export function parseResponseHead(bytes: Buffer, start: number, end: number, limits: WireLimits): ResponseHead {
  const http10 = bytes[start + 7] === 48;
  const status = (bytes[start + 9] - 48) * 100 + (bytes[start + 10] - 48) * 10 + (bytes[start + 11] - 48);
  let at = start + 12;
  const shape =
    end - start >= 12 &&
    isVersionOfResponse(bytes, start) &&
    digitAt(bytes, start + 9) &&
    digitAt(bytes, start + 10) &&
    digitAt(bytes, start + 11) &&
    status >= 100;
  // The space before an empty reason is often left out; nothing follows from the reason, so both are read.
  if (!shape || (at < end && bytes[at] !== 32 && bytes[at] !== 13)) {
    throw new Refusal(502, 'bad_status_line', 'malformed status line');
  }
  while (at < end && VALUE_BYTES[bytes[at]] === 1) at++;
  if (at < end && (bytes[at] !== 13 || bytes[at + 1] !== 10)) {
    throw new Refusal(502, 'bad_status_line', 'malformed status line');
  }
  const head: Head = [':status', statusText(status)];
  readFields(bytes, at + 2, end, limits, head, limits.headerCount, limits.headerBytes, knownHeads);
  if (special.host !== undefined) head.push('host', special.host);
  const options = applyConnection(head, 2);
  const chunked = isChunked(http10);
  return {
    head,
    status,
    http10,
    keepAlive: !options.close && (!http10 || options.keepAlive),
    framing: chunked ? 'chunked' : special.length > 0 ? 'length' : special.length === 0 ? 'none' : 'close',
    length: special.length,
  };
}

/** `HTTP/1.0 ` or `HTTP/1.1 `. */
function isVersionOfResponse(bytes: Buffer, at: number): boolean {
  return (
    bytes[at] === 72 &&
    bytes[at + 1] === 84 &&
    bytes[at + 2] === 84 &&
    bytes[at + 3] === 80 &&
    bytes[at + 4] === 47 &&
    bytes[at + 5] === 49 &&
    bytes[at + 6] === 46 &&
    (bytes[at + 7] === 49 || bytes[at + 7] === 48) &&
    bytes[at + 8] === 32
  );
}

function digitAt(bytes: Buffer, at: number): boolean {
  return bytes[at] >= 48 && bytes[at] <= 57;
}
