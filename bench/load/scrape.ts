/** A proxy's metrics with 10,000 label sets, scraped by another process: how long the loop stands still meanwhile. */
import { fork } from 'node:child_process';
import http from 'node:http';
import { IstioMetrics, Registry } from '@weft/telemetry';
import proxyFlags from '../../packages/cli/proxy-flags.json' with { type: 'json' };
import { sendMetrics } from '../../packages/proxy/src/admin/metrics.ts';

export interface Scrape {
  /** Of the turns of the loop, in processor time of its thread: other work of the machine is not the scrape's. */
  longestMs: number;
  p99Ms: number;
  totalMs: number;
  bytes: number;
}

const LABEL_SETS = 10_000;

/** Scrapes a process of its own once. */
export function scrape(): Promise<Scrape> {
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, [], { execArgv: proxyFlags });
    child.once('exit', (code) => reject(new Error(`the scraped process ended with ${code}`)));
    child.once('message', (port) => {
      const started = performance.now();
      http.get({ host: '127.0.0.1', port: port as number }, (response) => {
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
        });
        response.on('end', () => {
          const totalMs = performance.now() - started;
          child.once('message', (turns) => {
            child.removeAllListeners('exit');
            child.kill();
            resolve({ ...(turns as { longestMs: number; p99Ms: number }), totalMs, bytes });
          });
          child.send('turns');
        });
      });
    });
  });
}

function serve(): void {
  const registry = new Registry();
  const metrics = new IstioMetrics(registry);
  const workload = (name: string) => ({
    workload: name,
    namespace: 'bench',
    principal: `spiffe://cluster.local/ns/bench/sa/${name}`,
    version: 'v1',
    app: name,
    canonicalService: name,
    canonicalRevision: 'v1',
    cluster: 'Kubernetes',
    instance: `${name}-0`,
  });
  for (let i = 0; registry.labelSets < LABEL_SETS; i++) {
    const series = metrics.peer({
      reporter: 'source',
      source: workload('front'),
      destination: workload(`app-${i}`),
      service: `app-${i}.bench.svc.cluster.local`,
      serviceName: `app-${i}`,
      serviceNamespace: 'bench',
      security: 'unknown',
    });
    for (let code = 200; code < 210; code++) series.request('http', code, -1, '', 1, 1, 1);
  }
  const turns: number[] = [];
  let last = 0;
  const watch = (): void => {
    const { user, system } = process.threadCpuUsage();
    const now = (user + system) / 1000;
    if (last > 0) turns.push(now - last);
    last = now;
    setImmediate(watch);
  };
  const server = http.createServer((_request, response) => {
    turns.length = 0;
    last = 0;
    watch();
    void sendMetrics(response, registry);
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port));
  process.on('message', () => {
    turns.sort((a, b) => a - b);
    process.send?.({ longestMs: turns.at(-1), p99Ms: turns[Math.floor(turns.length * 0.99)] });
  });
  process.on('disconnect', () => process.exit(0));
}

if (process.argv[1] === import.meta.filename && process.send !== undefined) serve();
