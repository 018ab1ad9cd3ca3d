/** `websocket`: many that say little. */
import { loadAfterOpening } from '../load/go.ts';
import { largerMemory } from '../measure.ts';
import { p50Figure, p99BesideEnvoy, type Row } from './row.ts';

const SOCKETS = 10_000;
const QUICK_SOCKETS = 1000;

export const websocket: Row = {
  name: 'websocket',
  what: `${SOCKETS} WebSockets (quick: ${QUICK_SOCKETS}), a message of 64 bytes and its echo on each every 10 s`,
  kind: 'websocket',
  peers: ['haproxy', 'envoy', 'envoy-connect', 'direct'],
  fresh: true,
  figures: [
    { key: 'cpu', unit: 'µs CPU/message and echo', digits: 1 },
    p50Figure,
    p99BesideEnvoy,
    { key: 'rss', unit: 'MB RSS, larger proxy', digits: 1 },
    { key: 'pss', unit: 'MB PSS, larger proxy', digits: 1 },
  ],
  async measure({ stage, chain, seconds, quick }) {
    const flags = {
      connections: quick ? QUICK_SOCKETS : SOCKETS,
      period: '10s',
      length: `${quick ? seconds : Math.max(20, seconds)}s`,
    };
    let rss: number | undefined;
    let pss: number | undefined;
    const r = await loadAfterOpening(stage, chain, 'websocket', flags, () => {
      if (chain.pids.length > 0) ({ rss, pss } = largerMemory(chain.pids));
    });
    return { cpu: chain.pids.length > 0 ? r.cpuUs / r.requests : undefined, p50: r.p50Ms, p99: r.p99Ms, rss, pss };
  },
};
