/** `grpc`: unary calls. */
import { load } from '../load/go.ts';
import { cpuFigure, p50Figure, p99BesideEnvoy, type Row } from './row.ts';

const CONNECTIONS = 4;
const STREAMS = 8;

export const grpc: Row = {
  name: 'grpc',
  what: `unary gRPC calls of 1 KB each way, ${CONNECTIONS} connections with ${STREAMS} calls at a time, as fast as they come`,
  kind: 'grpc',
  peers: ['haproxy', 'envoy', 'envoy-connect', 'direct'],
  figures: [cpuFigure, { key: 'rate', unit: 'requests/s', digits: 0 }, p50Figure, p99BesideEnvoy],
  async measure({ stage, chain, seconds }) {
    const r = await load(stage, chain, 'grpc', { connections: CONNECTIONS, streams: STREAMS, length: `${seconds}s` });
    const cpu = chain.pids.length > 0 ? r.cpuUs / r.requests : undefined;
    return { cpu, rate: r.requests / r.seconds, p50: r.p50Ms, p99: r.p99Ms };
  },
};
