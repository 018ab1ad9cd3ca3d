/**
 * `weft demo --compare`: the same applications under the same load, first without the mesh, at the frontend, and then with
 * it, at its gateway.
 */
import { existsSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { LoopbackRange } from '@weft/capture';
import { groupCpuMs, type MeshHost, processMemory } from '@weft/host';
import { serviceSpecs } from '@weft/model';
import { entrances, entranceUrl } from '../entrances.ts';
import { bringUp, findFiles, loadModel, processSpecs } from '../mesh.ts';
import { table } from '../table.ts';
import { PlainProcesses } from './plain.ts';
import { type LoadReport, startLoad } from './run-load.ts';

/** Load before the measured one: connections are made, and code is compiled as it runs. */
const WARM_MS = 5000;

export interface CompareOptions {
  mesh: string;
  capture: 'auto' | 'transparent' | 'explicit';
  rps: number;
  /** Of each measured load. */
  durationMs: number;
  /** The folder of the mesh's files. */
  folder: string;
  say(line: string): void;
  /** Rejects when the user wants the end; somebody has to handle it besides. */
  interrupted: Promise<never>;
}

/** What one part of a service cost while the load ran. */
export interface Cost {
  /** CPU time in ms per second of load. */
  cpuMsPerSecond: number;
  rssBytes: number;
  pssBytes: number;
}

export interface Side {
  requests: number;
  failures: number;
  failed: Record<string, number>;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
}

export interface Comparison {
  rps: number;
  seconds: number;
  capture: 'transparent' | 'explicit';
  without: Side;
  with: Side;
  services: { name: string; without?: Cost; application?: Cost; proxy?: Cost }[];
}

/** One part whose cost is told: a process and all its own. */
interface Part {
  service: string;
  part: 'application' | 'proxy';
  pid: number;
}

/** Runs both. Whatever happens, nothing that was started stays. */
export async function compare(o: CompareOptions): Promise<Comparison> {
  if (process.platform !== 'linux')
    throw new WeftError('compare', '--compare reads CPU and memory from /proc: it needs Linux');
  o.say('the shop without a mesh');
  const without = await runPlain(o);
  o.say('the shop as a mesh');
  const { capture, ...meshed } = await runMesh(o);
  const names = [...new Set([...without.costs, ...meshed.costs].map((c) => c.service))];
  const cost = (all: readonly PartCost[], service: string, part: Part['part']): Cost | undefined =>
    all.find((c) => c.service === service && c.part === part)?.cost;
  return {
    rps: o.rps,
    seconds: o.durationMs / 1000,
    capture,
    without: without.side,
    with: meshed.side,
    services: names.map((name) => ({
      name,
      without: cost(without.costs, name, 'application'),
      application: cost(meshed.costs, name, 'application'),
      proxy: cost(meshed.costs, name, 'proxy'),
    })),
  };
}

interface PartCost {
  service: string;
  part: Part['part'];
  cost: Cost;
}
interface Measured {
  side: Side;
  costs: PartCost[];
}

async function runPlain(o: CompareOptions): Promise<Measured> {
  const model = loadModel(findFiles([o.folder]), () => {});
  const plain = new PlainProcesses(
    await LoopbackRange.hold(`${o.mesh} without a mesh`),
    processSpecs(model),
    serviceSpecs(model),
    () => {},
  );
  try {
    await Promise.race([plain.start(), o.interrupted]);
    const parts = plain.status().map(({ name, pid }): Part => ({ service: name, part: 'application', pid }));
    const frontend = plain.status().find((s) => s.name === 'frontend');
    if (!frontend) throw new WeftError('compare', 'the shop has no frontend');
    return await measure(o, `http://${frontend.address}:8080`, parts);
  } finally {
    await plain.stop();
  }
}

async function runMesh(o: CompareOptions): Promise<Measured & { capture: 'transparent' | 'explicit' }> {
  const { host, model, capture } = await bringUp({
    mesh: o.mesh,
    files: [o.folder],
    capture: o.capture,
    say: (name, line) => {
      if (name === 'weft') o.say(line);
    },
  });
  try {
    const late = await Promise.race([host.start().then(() => host.whenReady()), o.interrupted]);
    if (late.length > 0) throw new WeftError('compare', `not ready: ${late.join(', ')}`);
    const entrance = entrances(model, host.status())[0];
    if (!entrance) throw new WeftError('compare', 'the shop has no gateway');
    return { capture, ...(await measure(o, entranceUrl(entrance), partsOf(host))) };
  } finally {
    await host.stop();
  }
}

function partsOf(host: MeshHost): Part[] {
  const parts = host
    .status()
    .flatMap(({ workload, pid, proxyPid }): Part[] => [
      ...(pid === undefined ? [] : [{ service: workload, part: 'application' as const, pid }]),
      ...(proxyPid === undefined ? [] : [{ service: workload, part: 'proxy' as const, pid: proxyPid }]),
    ]);
  const control = host.controlPid;
  return control === undefined ? parts : [...parts, { service: 'control-plane', part: 'proxy', pid: control }];
}

async function measure(o: CompareOptions, url: string, parts: readonly Part[]): Promise<Measured> {
  const run = async (ms: number): Promise<LoadReport> => {
    const load = startLoad(url, o.rps);
    let timer: NodeJS.Timeout | undefined;
    try {
      await Promise.race([load.began, o.interrupted]);
      await Promise.race([new Promise((resolve) => (timer = setTimeout(resolve, ms))), o.interrupted]);
    } finally {
      clearTimeout(timer);
      await load.stop();
    }
    return load.last;
  };
  await run(WARM_MS);
  const pids = parts.map((p) => p.pid);
  const before = groupCpuMs(pids);
  const started = performance.now();
  const report = await run(o.durationMs);
  const seconds = (performance.now() - started) / 1000;
  const after = groupCpuMs(pids);
  const { requests, failures, failed, p50Ms, p90Ms, p99Ms } = report;
  return {
    side: { requests, failures, failed, p50Ms, p90Ms, p99Ms },
    // A job that has ended since costs nothing any more.
    costs: parts
      .filter((p) => existsSync(`/proc/${p.pid}`))
      .map(({ service, part, pid }) => ({
        service,
        part,
        cost: { cpuMsPerSecond: (after.get(pid)! - before.get(pid)!) / seconds, ...processMemory(pid) },
      })),
  };
}

const MB = 1e6;
const signed = (n: number, digits: number): string => `${n >= 0 ? '+' : ''}${n.toFixed(digits)}`;

/** Both tables, as text. */
export function renderComparison(c: Comparison): string {
  const latency = (['p50Ms', 'p90Ms', 'p99Ms'] as const).map((key) => [
    `${key.slice(0, 3)} ms`,
    c.without[key].toFixed(2),
    c.with[key].toFixed(2),
    signed(c.with[key] - c.without[key], 2),
  ]);
  const counts = (['requests', 'failures'] as const).map((key) => [
    key,
    String(c.without[key]),
    String(c.with[key]),
    signed(c.with[key] - c.without[key], 0),
  ]);
  const cpu = (cost: Cost | undefined): string | undefined => cost?.cpuMsPerSecond.toFixed(1);
  const memory = (cost: Cost | undefined): string | undefined => cost && (cost.pssBytes / MB).toFixed(0);
  const rows = [...c.services, total(c)].map((s) => [
    s.name,
    cpu(s.without),
    cpu(s.application),
    cpu(s.proxy),
    memory(s.without),
    memory(s.application),
    memory(s.proxy),
  ]);
  return `${c.rps} requests per second from outside for ${c.seconds} s each, capture ${c.capture}

${table(['LATENCY', 'WITHOUT', 'WITH MESH', 'DIFFERENCE'], [...latency, ...counts])}

CPU in ms per second, memory as PSS in MB:

${table(['SERVICE', 'CPU WITHOUT', 'CPU WITH', 'CPU PROXY', 'MEM WITHOUT', 'MEM WITH', 'MEM PROXY'], rows)}`;
}

function total(c: Comparison): Comparison['services'][number] {
  const sum = (key: 'without' | 'application' | 'proxy'): Cost =>
    c.services.reduce(
      (all, s) => ({
        cpuMsPerSecond: all.cpuMsPerSecond + (s[key]?.cpuMsPerSecond ?? 0),
        rssBytes: all.rssBytes + (s[key]?.rssBytes ?? 0),
        pssBytes: all.pssBytes + (s[key]?.pssBytes ?? 0),
      }),
      { cpuMsPerSecond: 0, rssBytes: 0, pssBytes: 0 },
    );
  return { name: 'total', without: sum('without'), application: sum('application'), proxy: sum('proxy') };
}
