/** TCP keep-alive of connections that the proxy opens (DestinationRule `connectionPool.tcp.tcpKeepalive`). */
import { setKeepalive } from '@weft/capture';
import type { Connector } from './dial.ts';

export interface Keepalive {
  readonly probes: number;
  readonly timeMs: number;
  readonly intervalMs: number;
}

/** `settings` is asked at each connection; undefined: the system's default, which is none. */
export function withKeepalive(plain: Connector, settings: () => Keepalive | undefined): Connector {
  return (host, port) => {
    const socket = plain(host, port);
    const wanted = settings();
    if (wanted) socket.once('connect', () => void setKeepalive(socket, wanted));
    return socket;
  };
}
