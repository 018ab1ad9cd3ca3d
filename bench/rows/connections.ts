/** `connections`: every request comes on a connection of its own. */
import { saturate } from '../load/wrk.ts';
import type { Row } from './row.ts';

const AT_A_TIME = 16;

export const connections: Row = {
  name: 'connections',
  what: `a new connection for every request of 1 KB, ${AT_A_TIME} at a time, as fast as they come (wrk)`,
  kind: 'http',
  peers: ['haproxy', 'nginx', 'envoy', 'envoy-connect', 'direct'],
  figures: [
    { key: 'cpu', unit: 'µs CPU/connection', digits: 1 },
    { key: 'rate', unit: 'connections/s', digits: 0 },
  ],
  async measure({ stage, chain, seconds }) {
    const m = await saturate(stage, chain, { connections: AT_A_TIME, seconds, close: true });
    return { cpu: chain.pids.length > 0 ? m.cpuUsPerRequest : undefined, rate: m.perSecond };
  },
};
