import type { Logger } from '@weft/base';
import type { Registry } from '@weft/telemetry';
import type { ProbeSpec } from '../bootstrap.ts';
import { dumpCertificates, dumpClusters, dumpEndpoints, dumpListeners, dumpPlan, dumpRoutes } from './dump.ts';
import { type Bind, type Handler, type SmallServer, send, sendJson, startSmallServer } from './http.ts';
import { sendMetrics } from './metrics.ts';
import { runProbe, scrapeApplication } from './probes.ts';
import type { AdminState } from './state.ts';

export interface AdminOptions {
  /** Each server runs where its bind is given: 15000, 15090, 15021, 15020 by habit. */
  bind: { admin?: Bind; metrics?: Bind; health?: Bind; probes?: Bind };
  state: AdminState;
  metrics: Registry;
  logger: Logger;
  /** The application's own metrics to merge on 15020 (the pod annotations prometheus.io/port and /path). */
  appMetrics?: { port: number; path: string };
}

export interface Admin {
  /** The ports in use, for binds that asked for port 0. */
  readonly ports: { admin?: number; metrics?: number; health?: number; probes?: number };
  close(): Promise<void>;
}

/** The path that Istio's probe rewriting uses: /app-health/<name>/<readyz|livez|startupz>. */
const probePath = /^\/app-health\/([^/]+)\/([a-z]+)$/;
const probeNames = new Map([
  ['readyz', ['readyz', 'readiness', 'readinessProbe']],
  ['livez', ['livez', 'liveness', 'livenessProbe']],
  ['startupz', ['startupz', 'startup', 'startupProbe']],
]);

/** Starts the servers that people and monitoring look at. None of them can change anything. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const { bind, state, metrics, logger } = options;
  const started: SmallServer[] = [];
  const ports: Admin['ports'] = {};
  const start = async (which: keyof Admin['ports'], handler: Handler, loopbackOnly = false): Promise<void> => {
    const where = bind[which];
    if (!where) return;
    const count = (name: string): void => metrics.count(name);
    const server = await startSmallServer({ bind: where, name: which, logger, handler, loopbackOnly, count });
    started.push(server);
    ports[which] = server.port;
  };
  const close = async (): Promise<void> => {
    await Promise.all(started.map((server) => server.close()));
  };
  try {
    await start('admin', adminHandler(state, metrics), true);
    await start('metrics', (path, response) =>
      path === '/stats/prometheus' ? sendMetrics(response, metrics) : send(response, 404, 'see /stats/prometheus\n'),
    );
    await start('health', (path, response) => {
      if (path === '/healthz/ready') return sendReady(state, response);
      if (path === '/healthz/idle') return sendIdle(state, response);
      send(response, 404, 'see /healthz/ready, and /healthz/idle before a stop\n');
    });
    await start('probes', mergedHandler(options));
    registerGauges(state, metrics);
  } catch (error) {
    await close();
    throw error;
  }
  return { ports, close };
}

function sendReady(state: AdminState, response: Parameters<Handler>[1]): void {
  if (state.ready && !state.draining) send(response, 200, 'ready\n');
  else send(response, 503, state.draining ? 'draining\n' : 'waiting for the first plan\n');
}

/** Whether the workload may be stopped: nobody waits for an answer of it. */
function sendIdle(state: AdminState, response: Parameters<Handler>[1]): void {
  const { inbound } = state.counts();
  send(response, inbound === 0 ? 200 : 503, `${inbound} running\n`);
}

function adminHandler(state: AdminState, metrics: Registry): Handler {
  const pages = new Map<string, () => unknown>([
    ['/plan', () => dumpPlan(state)],
    ['/config_dump', () => dumpPlan(state)],
    ['/listeners', () => dumpListeners(state)],
    ['/routes', () => dumpRoutes(state)],
    ['/clusters', () => dumpClusters(state)],
    ['/endpoints', () => dumpEndpoints(state)],
    ['/certs', () => dumpCertificates(state)],
    ['/limits', () => Object.fromEntries(metrics.events())],
    ['/counts', () => state.counts()],
    ['/plaintext', () => ({ callers: state.plaintext?.() ?? [] })],
    ['/detected', () => [...state.detected()]],
  ]);
  let probing = false;
  return async (path, response, request) => {
    if (path === '/stats/prometheus') return sendMetrics(response, metrics);
    if (path === '/ready') return sendReady(state, response);
    if (path === '/mtls') {
      const query = new URL(request.url ?? '/', 'http://admin').searchParams;
      const [, host = '', port = ''] = /^(.{1,253}):(\d{1,5})$/.exec(query.get('service') ?? '') ?? [];
      if (!state.probe || host === '') return send(response, 400, 'say ?service=HOST:PORT\n');
      // The application shares this port: it must not be a way to make the proxy busy.
      if (probing) {
        metrics.count('admin_probe_busy');
        return send(response, 503, 'another probe runs: ask again\n');
      }
      probing = true;
      const probed = await state.probe(host, Number(port)).finally(() => {
        probing = false;
      });
      if (!probed) return send(response, 404, `the plan has no service ${host}:${port}\n`);
      return sendJson(response, probed);
    }
    const page = pages.get(path);
    if (page) return sendJson(response, page());
    const list = [...pages.keys(), '/mtls', '/ready', '/stats/prometheus'].sort().join('\n');
    send(response, path === '/' ? 200 : 404, `${list}\n`);
  };
}

function mergedHandler({ state, metrics, appMetrics, logger }: AdminOptions): Handler {
  const { address, address6 } = state.bootstrap;
  /** An application may listen at its IPv6 address alone. */
  const second = (host: string): string | undefined => (host === address ? address6 : undefined);
  const probes = new Map<string, ProbeSpec>(Object.entries(state.bootstrap.probes ?? {}));
  return async (path, response) => {
    if (path === '/healthz/ready') return sendReady(state, response);
    if (path === '/stats/prometheus') {
      const { host } = applicationAddress(state, appMetrics?.port ?? 0);
      const scrape = (at: string) => scrapeApplication(at, appMetrics!.port, appMetrics!.path);
      const app = appMetrics ? ((await scrape(host)) ?? (second(host) && (await scrape(second(host)!)))) : undefined;
      if (appMetrics && app === undefined) metrics.count('app_scrape_failed');
      return sendMetrics(response, metrics, app);
    }
    const match = probePath.exec(path);
    const names = match ? probeNames.get(match[2]) : undefined;
    if (!match || !names || match[1] !== state.bootstrap.instance) return send(response, 404, 'no such probe\n');
    const name = names.find((n) => probes.has(n));
    if (!name) return send(response, 404, `this workload has no ${names[1]} probe\n`);
    const spec = probes.get(name)!;
    const { host, port } = applicationAddress(state, (spec.httpGet ?? spec.tcpSocket)?.port ?? 0);
    // Where the application listens elsewhere than it says (explicit capture), the plan knows; the probe follows it.
    const moved: ProbeSpec = {
      ...spec,
      httpGet: spec.httpGet && { ...spec.httpGet, port },
      tcpSocket: spec.tcpSocket && { port },
    };
    let result = await runProbe(moved, host);
    const other = second(host);
    if (!result.ok && other) result = await runProbe(moved, other);
    if (!result.ok) logger.debug({ probe: name, detail: result.detail }, 'probe failed');
    send(response, result.ok ? 200 : 503, `${result.detail}\n`);
  };
}

/** Where the application really listens for one of its ports. */
function applicationAddress(state: AdminState, port: number): { host: string; port: number } {
  const part = state.parts.get(`inbound/${port}`);
  if (part?.kind.case === 'inbound' && part.kind.value.dialAddress !== '') {
    return { host: part.kind.value.dialAddress, port: part.kind.value.dialPort || port };
  }
  return { host: state.bootstrap.address, port };
}

function registerGauges(state: AdminState, metrics: Registry): void {
  metrics.gauge('weft_proxy_ready', 'Whether the first plan is applied and all listeners are bound.', () =>
    state.ready ? 1 : 0,
  );
  metrics.gauge('weft_proxy_epoch', 'Epoch of the plan in force.', () => Number(state.epoch));
  metrics.gauge(
    'weft_proxy_downstream_connections',
    'Connections from applications and peers.',
    () => state.counts().downstream,
  );
  metrics.gauge('weft_proxy_links', 'Mesh links to other proxies.', () => state.counts().links);
  metrics.gauge('weft_proxy_link_streams', 'Streams open on mesh links.', () => state.counts().linkStreams);
  metrics.gauge(
    'weft_proxy_upstream_connections',
    'Connections to applications and unmeshed servers.',
    () => state.counts().upstream,
  );
  metrics.gauge('weft_proxy_certificate_expiry_seconds', 'End of the certificate, seconds since 1970; 0: none.', () =>
    state.certificate ? Math.floor(state.certificate.notAfterMs / 1000) : 0,
  );
  metrics.gauge(
    'weft_proxy_overload_level',
    '1: new requests are refused for want of memory; 2: connections too.',
    () => state.overload?.().level ?? 0,
  );
  metrics.gauge(
    'weft_proxy_memory_pressure_ratio',
    'Memory used, of what the cgroups or the configuration allow; 0: no limit.',
    () => state.overload?.().reading.memory ?? 0,
  );
  metrics.gauge(
    'weft_proxy_heap_pressure_ratio',
    'Heap used, of what V8 allows.',
    () => state.overload?.().reading.heap ?? 0,
  );
  metrics.gauge('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss());
  metrics.gauge('process_cpu_seconds_total', 'CPU time, user and system.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
}
