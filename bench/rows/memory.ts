/** Memory of the proxies: idle, with idle connections, after many requests; and whether they live within 128 MB. */
import net from 'node:net';
import { processMemory } from '@weft/host';
import { positive } from '../environment.ts';
import { load } from '../load/go.ts';
import { saturate } from '../load/wrk.ts';
import { largerMemory } from '../measure.ts';
import type { Chain, Stage } from '../stage.ts';
import { atMost, type Row, type Run } from './row.ts';

const IDLE_CONNECTIONS = 1000;
const REQUESTS = positive('BENCH_REQUESTS', 2_000_000);
const CONNECTIONS = 64;
/** Points of the growth; a slope needs some in its half. */
const PARTS = 8;
const MIN_POINTS = 2;
const LONGEST_PART_SECONDS = 20;
const SETTLE_MS = 700;

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** Only Weft's processes have a heap to collect. */
async function collected(chain: Chain): Promise<void> {
  if (chain.peer === 'weft') for (const pid of chain.pids) process.kill(pid, 'SIGUSR2');
  await settle();
}

/**
 * What each of many idle connections costs the proxy that holds them, in KB: every one carried a request before. It is what
 * four thousand more add to the first: code that is still compiled and room that the heap has left would hide it.
 */
async function perIdleConnection({ stage, chain }: Run): Promise<number> {
  await saturate(stage, chain, { connections: CONNECTIONS, seconds: 5 });
  const sockets: net.Socket[] = [];
  const residentWith = async (connections: number): Promise<number> => {
    while (sockets.length < connections) sockets.push(await idleConnection(chain, sockets.length));
    await collected(chain);
    return processMemory(chain.pids[0]!).rssBytes;
  };
  try {
    const first = await residentWith(IDLE_CONNECTIONS);
    return ((await residentWith(5 * IDLE_CONNECTIONS)) - first) / (4 * IDLE_CONNECTIONS) / 1024;
  } finally {
    for (const socket of sockets) socket.destroy();
    await settle();
  }
}

function idleConnection(chain: Chain, n: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: chain.host, port: chain.port });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`${chain.peer} closed an idle connection`)));
    let got = 0;
    socket.on('data', (chunk) => {
      got += chunk.length;
      if (got > 1024) resolve(socket); // Head and body of 1 KB.
    });
    socket.write(`GET /item/${n} HTTP/1.1\r\nHost: app\r\n\r\n`);
  });
}

interface Point {
  requests: number;
  rss: number;
  pss: number;
  /** Both after a collection. */
  collectedRss: number;
}

/** Loads until `total` requests were answered; a point after each part of them, two at least. */
async function growth(stage: Stage, chain: Chain, total: number): Promise<Point[]> {
  const points: Point[] = [];
  let seconds = 1;
  for (let requests = 0; requests < total || points.length < MIN_POINTS; ) {
    const { perSecond } = await saturate(stage, chain, { connections: CONNECTIONS, seconds });
    requests += perSecond * seconds;
    // By the newest rate: the first part also compiles.
    seconds = Math.min(LONGEST_PART_SECONDS, Math.max(1, Math.round(total / PARTS / perSecond)));
    const { rss, pss } = largerMemory(chain.pids);
    await collected(chain);
    points.push({ requests, rss, pss, collectedRss: largerMemory(chain.pids).rss });
  }
  return points;
}

/** Least squares over the last half, in MB per 100,000 requests. */
function slopeOf(points: readonly Point[]): number {
  const half = points.slice(Math.floor(points.length / 2));
  const mean = (of: (p: Point) => number): number => half.reduce((sum, p) => sum + of(p), 0) / half.length;
  const x = mean((p) => p.requests);
  const y = mean((p) => p.collectedRss);
  const covariance = half.reduce((sum, p) => sum + (p.requests - x) * (p.collectedRss - y), 0);
  return (covariance / half.reduce((sum, p) => sum + (p.requests - x) ** 2, 0)) * 100_000;
}

const PEERS = ['haproxy', 'envoy'];

const grown: Row = {
  name: 'memory',
  what: `memory of the proxy that has more: idle, per idle HTTP/1.1 connection of ${5 * IDLE_CONNECTIONS}, after ${REQUESTS.toLocaleString('en')} requests of 1 KB (quick: 2 seconds)`,
  kind: 'http',
  peers: PEERS,
  fresh: true,
  figures: [
    { key: 'idleRss', unit: 'MB RSS idle', digits: 1 },
    { key: 'idlePss', unit: 'MB PSS idle', digits: 1 },
    { key: 'perConnection', unit: 'KB per idle connection', digits: 1, target: atMost(20, 'at most 20 KB') },
    { key: 'rss', unit: 'MB RSS after the requests', digits: 1, target: atMost(80, 'at most 80 MB') },
    { key: 'pss', unit: 'MB PSS after the requests', digits: 1 },
    { key: 'slope', unit: 'MB per 100,000 requests, last half', digits: 3, target: atMost(1, 'below 1 MB') },
  ],
  async measure(run) {
    const { stage, chain, quick } = run;
    await settle();
    const idle = largerMemory(chain.pids);
    const points = await growth(stage, chain, quick ? 1 : REQUESTS);
    const last = points.at(-1)!;
    // At the end: what thousands of connections took is not all given back, by whichever proxy.
    const perConnection = await perIdleConnection(run);
    // While code still compiles, a slope says nothing.
    const slope = quick ? undefined : slopeOf(points);
    return { idleRss: idle.rss, idlePss: idle.pss, perConnection, rss: last.rss, pss: last.pss, slope };
  },
};

const LIMIT_BYTES = 128 * 1024 * 1024;

const bounded: Row = {
  name: 'cgroup-128',
  what: '2000 requests per second of 1 KB through 16 connections, each proxy in a memory cgroup of 128 MB',
  kind: 'http',
  peers: PEERS,
  fresh: true,
  proxyMemoryBytes: LIMIT_BYTES,
  figures: [
    { key: 'kills', unit: 'processes killed', digits: 0, target: atMost(0, 'none') },
    { key: 'rss', unit: 'MB RSS', digits: 1 },
  ],
  async measure({ stage, chain, seconds, quick }) {
    const before = stage.kills;
    const length = `${quick ? seconds : Math.max(30, seconds)}s`;
    await load(stage, chain, 'rate', { rate: 2000, connections: 16, length });
    return { kills: stage.kills - before, rss: largerMemory(chain.pids).rss };
  },
};

export const memoryRows: readonly Row[] = [grown, bounded];
