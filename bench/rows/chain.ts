/** `chain-N`: 1 KB answers through N connections, as fast as they come. */
import { saturate } from '../load/wrk.ts';
import { cpuFigure, p50Figure, p99BesideEnvoy, type Row, timesPeer } from './row.ts';

const TARGET = timesPeer({ haproxy: 1, envoy: 0.5 });

function chain(connections: number): Row {
  return {
    name: `chain-${connections}`,
    what: `1 KB answers through ${connections} connection${connections > 1 ? 's' : ''}, as fast as they come (wrk)`,
    kind: 'http',
    peers: ['haproxy', 'nginx', 'envoy', 'envoy-connect', 'direct'],
    figures: [
      connections > 1 ? { ...cpuFigure, target: TARGET } : cpuFigure,
      { key: 'rate', unit: 'requests/s', digits: 0 },
      p50Figure,
      p99BesideEnvoy,
    ],
    async measure({ stage, chain, seconds }) {
      const m = await saturate(stage, chain, { connections, seconds });
      const cpu = chain.pids.length > 0 ? m.cpuUsPerRequest : undefined;
      return { cpu, rate: m.perSecond, p50: m.p50Ms, p99: m.p99Ms };
    },
  };
}

export const chainRows: readonly Row[] = [1, 16, 64].map(chain);
