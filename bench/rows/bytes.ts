/** Large bodies and bytes of plain TCP: what a CPU second of the proxies moves. */
import { load } from '../load/go.ts';
import { saturate } from '../load/wrk.ts';
import { type Figure, type Row, type Target, timesPeer } from './row.ts';

const MB = 1e6;
const perCpuSecond: Figure = { key: 'cpu', unit: 'MB per CPU second', digits: 0 };
const perSecond: Figure = { key: 'rate', unit: 'MB/s', digits: 0 };
const CONNECTIONS = 16;

function bodies(name: string, path: string, what: string, target?: Target): Row {
  return {
    name,
    what: `${what} answers through ${CONNECTIONS} connections, as fast as they come (wrk)`,
    kind: 'http',
    peers: ['haproxy', 'nginx', 'envoy', 'envoy-connect', 'direct'],
    figures: [target ? { ...perCpuSecond, target } : perCpuSecond, perSecond],
    async measure({ stage, chain, seconds }) {
      const m = await saturate(stage, chain, { connections: CONNECTIONS, seconds, path });
      const cpu = chain.pids.length > 0 ? m.bytesPerCpuSecond / MB : undefined;
      return { cpu, rate: m.bytesPerSecond / MB };
    },
  };
}

const STREAMS = 4;

const tcp: Row = {
  name: 'tcp-bulk',
  what: `${STREAMS} streams of plain TCP, from the application to the client, as fast as they go`,
  kind: 'tcp',
  peers: ['haproxy', 'envoy-connect', 'direct'],
  figures: [perCpuSecond, perSecond],
  async measure({ stage, chain, seconds }) {
    const r = await load(stage, chain, 'bulk', { connections: STREAMS, length: `${seconds}s` });
    const cpu = chain.pids.length > 0 ? r.bytes / (r.cpuUs / 1e6) / MB : undefined;
    return { cpu, rate: r.bytes / r.seconds / MB };
  },
};

export const bytesRows: readonly Row[] = [
  bodies('body-64k', '/item/64k/', '64 KB'),
  bodies('body-1m', '/item/1m/', '1 MiB', timesPeer({ envoy: 0.6 }, true)),
  tcp,
];
