/** `rate-N`: N requests per second, neither more nor less, latency from the moment each was due. */
import { load } from '../load/go.ts';
import { median } from '../measure.ts';
import { atMost, cpuFigure, type Figure, p50Figure, p99BesideEnvoy, type Row, type Sample } from './row.ts';

const CONNECTIONS = 16;

function rate(perSecond: number): Row {
  const perHop: Figure[] = [
    { key: 'hop50', unit: 'ms p50 added per hop', digits: 3, target: atMost(0.3, 'at most 0.3 ms') },
    { key: 'hop99', unit: 'ms p99 added per hop', digits: 3, target: atMost(1, 'at most 1 ms') },
  ];
  return {
    name: `rate-${perSecond}`,
    what: `${perSecond} requests per second of 1 KB through ${CONNECTIONS} connections; latency from the moment a request is due`,
    kind: 'http',
    peers: ['haproxy', 'nginx', 'envoy', 'envoy-connect', 'direct'],
    figures: [cpuFigure, p50Figure, p99BesideEnvoy, ...(perSecond === 1000 ? perHop : [])],
    async measure({ stage, chain, seconds }) {
      const r = await load(stage, chain, 'rate', { rate: perSecond, connections: CONNECTIONS, length: `${seconds}s` });
      const cpu = chain.pids.length > 0 ? r.cpuUs / r.requests : undefined;
      return { cpu, p50: r.p50Ms, p99: r.p99Ms };
    },
    derive: addedPerHop,
  };
}

/** What both proxies add to the application's own latency, by two. Without the direct column there is nothing to take off. */
function addedPerHop(samples: ReadonlyMap<string, readonly Sample[]>): Map<string, Sample[]> {
  const base = samples.get('direct') ?? [];
  const of = (key: string): number => median(base.flatMap((s) => s[key] ?? []));
  const added = (s: Sample, key: string): number | undefined => {
    const value = s[key];
    return base.length > 0 && value !== undefined ? (value - of(key)) / 2 : undefined;
  };
  return new Map(
    [...samples].map(([peer, all]) => [
      peer,
      peer === 'direct' ? [...all] : all.map((s) => ({ ...s, hop50: added(s, 'p50'), hop99: added(s, 'p99') })),
    ]),
  );
}

export const rateRows: readonly Row[] = [1000, 2000, 10_000].map(rate);
