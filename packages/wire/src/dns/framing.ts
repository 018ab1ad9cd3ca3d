/** DNS over TCP: every message has its length in two bytes before it (RFC 1035 section 4.2.2). */
export class DnsTcpFramer {
  private kept: Uint8Array = new Uint8Array(0);

  /** Adds received bytes and returns the complete messages. At most one unfinished message (64 KiB) is held. */
  push(chunk: Uint8Array): Uint8Array[] {
    const bytes = this.kept.length === 0 ? chunk : Buffer.concat([this.kept, chunk]);
    const messages: Uint8Array[] = [];
    let at = 0;
    while (bytes.length - at >= 2) {
      const size = bytes[at] * 256 + bytes[at + 1];
      if (bytes.length - at - 2 < size) break;
      messages.push(bytes.subarray(at + 2, at + 2 + size));
      at += 2 + size;
    }
    // A copy: what is held must not keep a large read alive.
    this.kept = bytes.slice(at);
    return messages;
  }

  /** A message with its length before it. At most 65535 bytes, which `encodeResponse` keeps. */
  static frame(message: Uint8Array): Buffer {
    const out = Buffer.allocUnsafe(2 + message.length);
    out.writeUInt16BE(message.length, 0);
    out.set(message, 2);
    return out;
  }
}
