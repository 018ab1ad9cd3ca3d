import type { WireLimits } from '../stream.ts';
import type { Http2Connection } from './connection.ts';
import { defaultFrameBytes, defaultWindow, frame, h2Error, maxWindow, setting } from './frames.ts';
import type { Sender } from './sender.ts';

/** Sends our SETTINGS and opens the connection's window. */
export function announceSettings(
  sender: Sender,
  limits: WireLimits,
  isServer: boolean,
  connectProtocol: boolean,
  extra: ReadonlyMap<number, number> | undefined,
): void {
  const entries: [number, number][] = [
    [setting.headerTableSize, limits.hpackTableBytes],
    [setting.initialWindowSize, limits.initialWindowBytes],
    [setting.maxFrameSize, limits.maxFrameBytes],
    [setting.maxHeaderListSize, limits.headerBytes],
  ];
  if (isServer) entries.push([setting.maxConcurrentStreams, limits.maxConcurrentStreams]);
  else entries.push([setting.enablePush, 0]);
  if (isServer && connectProtocol) entries.push([setting.enableConnectProtocol, 1]);
  if (extra !== undefined) entries.push(...extra);
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], i) => {
    payload.writeUInt16BE(id, i * 6);
    payload.writeUInt32BE(value, i * 6 + 2);
  });
  sender.writer.frame(frame.settings, 0, 0, payload);
  if (limits.connectionWindowBytes > defaultWindow) {
    sender.windowUpdate(0, limits.connectionWindowBytes - defaultWindow);
  }
  sender.schedule();
}

/** The error code for a setting with a value it may not have; 0 when it is fine. */
export function settingError(id: number, value: number, isServer: boolean, previous: number | undefined): number {
  switch (id) {
    case setting.enablePush:
      return value > 1 || (!isServer && value !== 0) ? h2Error.protocol : 0;
    case setting.initialWindowSize:
      return value > maxWindow ? h2Error.flowControl : 0;
    case setting.maxFrameSize:
      return value < defaultFrameBytes || value > 0xffffff ? h2Error.protocol : 0;
    case setting.enableConnectProtocol:
      // RFC 8441 3: once announced it may not be taken back.
      return value > 1 || (value === 0 && previous === 1) ? h2Error.protocol : 0;
    default:
      return 0;
  }
}

/** Puts a setting of the peer's into force. False: a stream's window overflows by it (RFC 9113 6.9.2). */
export function applySetting(c: Http2Connection, id: number, value: number): boolean {
  if (id === setting.headerTableSize) {
    c.sender.encoder.resize(value);
  } else if (id === setting.maxConcurrentStreams) {
    c.peerMaxStreams = value;
  } else if (id === setting.maxHeaderListSize) {
    c.sender.maxHeaderList = Math.min(value, maxWindow);
  } else if (id === setting.maxFrameSize) {
    // Larger frames gain nothing and make the turns among streams longer.
    c.sender.maxFrame = Math.min(value, defaultFrameBytes);
  } else if (id === setting.initialWindowSize) {
    const change = value - c.sender.initialWindow;
    c.sender.initialWindow = value;
    for (const stream of c.streams.all()) {
      stream.sendWindow += change;
      if (stream.sendWindow > maxWindow) return false;
      c.sender.enqueue(stream);
    }
  }
  return true;
}
