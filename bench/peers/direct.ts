/** No proxies: the load meets the application itself. What is added to this is what a mesh costs. */
import type { Chain, Kind, Peer, Stage } from '../stage.ts';

export const direct: Peer = {
  name: 'direct',
  needs: {},
  kinds: ['http', 'grpc', 'tcp', 'websocket'],
  version: () => 'no proxy',
  async start(stage: Stage, kind: Kind): Promise<Chain> {
    const place = { host: stage.addresses.app, port: stage.appPorts[kind] };
    return {
      peer: 'direct',
      kind,
      pids: [],
      ...place,
      mesh: place,
      stop: async () => {},
    };
  },
};
