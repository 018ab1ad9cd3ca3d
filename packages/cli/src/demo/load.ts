/**
 * The demo's load generator: a process outside the mesh that enters by the gateway, at a fixed rate (open loop), with no
 * retries. Prints one JSON line when it begins, one a second and one at the end: {"requests", "failures", "byStatus", "failed", "p50Ms", …}.
 *
 * argv: BASE_URL REQUESTS_PER_SECOND
 */
import http from 'node:http';

const base = new URL(process.argv[2] ?? 'http://127.0.0.1:8080');
const perSecond = Number(process.argv[3] ?? 50);

/** What a visitor does, with how often; checkout crosses six edges. */
const MIX: { weight: number; path: string; headers?: Record<string, string> }[] = [
  { weight: 55, path: '/' },
  { weight: 28, path: '/checkout' },
  { weight: 10, path: '/recommend?sku=tea' },
  { weight: 5, path: '/admin/payment' },
  { weight: 2, path: '/checkout', headers: { 'x-canary-test': 'true' } },
];
const total = MIX.reduce((sum, m) => sum + m.weight, 0);
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

let requests = 0;
let failures = 0;
let inFlight = 0;
let latencies: number[] = [];
const byStatus = new Map<string, number>();
const failedPaths = new Map<string, number>();

function finish(path: string, started: number, status: string, ok: boolean): void {
  inFlight -= 1;
  requests += 1;
  byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
  if (!ok) {
    failures += 1;
    failedPaths.set(`${path} ${status}`, (failedPaths.get(`${path} ${status}`) ?? 0) + 1);
  }
  latencies.push(performance.now() - started);
  if (latencies.length > 20_000) latencies = latencies.slice(10_000);
}

function send(): void {
  let draw = Math.random() * total;
  const visit = MIX.find((m) => (draw -= m.weight) < 0) ?? (MIX[0] as (typeof MIX)[0]);
  const started = performance.now();
  inFlight += 1;
  let done = false;
  const once = (status: string, ok: boolean): void => {
    if (!done) finish(visit.path, started, status, ok);
    done = true;
  };
  const request = http.request(
    { agent, host: base.hostname, port: base.port, path: visit.path, headers: { ...visit.headers, host: base.host } },
    (response) => {
      response.on('error', () => once('broken', false));
      response.on('end', () => once(String(response.statusCode), response.statusCode === 200));
      response.resume();
    },
  );
  request.setTimeout(15_000, () => request.destroy(new Error('timeout')));
  request.on('error', (error: NodeJS.ErrnoException) => once(error.code ?? error.message, false));
  request.end();
}

function report(): void {
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (q: number): number => Math.round((sorted[Math.floor(sorted.length * q)] ?? 0) * 100) / 100;
  const line = {
    requests,
    failures,
    inFlight,
    byStatus: Object.fromEntries(byStatus),
    failed: Object.fromEntries(failedPaths),
    perSecond,
    p50Ms: at(0.5),
    p90Ms: at(0.9),
    p99Ms: at(0.99),
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

let owed = 0;
let last = performance.now();
const pump = setInterval(() => {
  const now = performance.now();
  owed += ((now - last) / 1000) * perSecond;
  last = now;
  for (; owed >= 1; owed -= 1) send();
}, 10);
const reporter = setInterval(report, 1000);

function stop(): void {
  clearInterval(pump);
  clearInterval(reporter);
  const deadline = performance.now() + 5000;
  const wait = setInterval(() => {
    if (inFlight > 0 && performance.now() < deadline) return;
    clearInterval(wait);
    report();
    process.exit(0);
  }, 20);
}
process.on('SIGTERM', stop);
process.on('SIGINT', () => {}); // Ctrl-C reaches the whole group: the demo decides when the load ends
process.on('disconnect', () => process.exit(0));
report();
