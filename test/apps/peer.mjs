// A test application: says who it is, misbehaves on request, and makes calls of its own and counts what came back.
import http from 'node:http';

const name = process.env.NAME ?? 'peer';
const version = process.env.VERSION ?? 'v1';
const state = { fail: 0, reset: false, sleepMs: 0, served: 0, posts: 0, seen: {} };
const agent = new http.Agent({ keepAlive: true, maxSockets: 512 });

function once({ method = 'GET', url, headers = {}, body, family }) {
  const to = new URL(url);
  const options = {
    agent,
    method,
    family, // 4 or 6: which addresses of the name are used
    host: to.hostname.replace(/^\[|\]$/g, ''),
    port: to.port || 80,
    path: to.pathname + to.search,
    headers: { ...headers, host: to.host },
  };
  if (body !== undefined) options.headers['content-length'] = Buffer.byteLength(body);
  const proxy = process.env.http_proxy;
  if (proxy) {
    const via = new URL(proxy);
    Object.assign(options, { host: via.hostname, port: via.port, path: url });
    options.headers['proxy-authorization'] =
      `Basic ${Buffer.from(`${via.username}:${via.password}`).toString('base64')}`;
  }
  return new Promise((resolve) => {
    const started = performance.now();
    const done = (key, text, headers) => resolve({ key, text, headers, ms: performance.now() - started });
    const request = http.request(options, (response) => {
      const parts = [];
      response.on('data', (p) => parts.push(p));
      response.on('error', () => done('broken', ''));
      response.on('end', () => done(String(response.statusCode), Buffer.concat(parts).toString(), response.headers));
    });
    request.setTimeout(20_000, () => request.destroy(new Error('timeout')));
    request.on('error', (e) => done(e.code ?? e.message, ''));
    request.end(body);
  });
}

/** Runs `count` calls, `concurrency` at a time or `rate` a second (until /set {stop: true}); counts by status and by the version that answered. */
async function run({ count = 1, concurrency = 16, rate, ...call }) {
  const result = {
    statuses: {},
    versions: {},
    names: {},
    nested: {},
    maxMs: 0,
    minMs: Infinity,
    sample: undefined,
    delayed: 0,
    delayedFailed: 0,
  };
  const note = (r) => {
    result.statuses[r.key] = (result.statuses[r.key] ?? 0) + 1;
    result.maxMs = Math.max(result.maxMs, r.ms);
    result.minMs = Math.min(result.minMs, r.ms);
    if (r.ms > 2500) {
      result.delayed += 1;
      if (r.key !== '200') result.delayedFailed += 1;
    }
    try {
      const json = JSON.parse(r.text);
      // What was asked to make calls of its own says how they went.
      for (const [key, n] of Object.entries(json.statuses ?? {})) result.nested[key] = (result.nested[key] ?? 0) + n;
      if (json.version) result.versions[json.version] = (result.versions[json.version] ?? 0) + 1;
      if (json.name) result.names[json.instance ?? json.name] = (result.names[json.instance ?? json.name] ?? 0) + 1;
    } catch {}
    if (result.sample === undefined || r.key !== '200')
      result.sample = { key: r.key, text: r.text.slice(0, 2000), headers: r.headers };
  };
  if (rate) {
    const started = performance.now();
    const pending = [];
    let sent = 0;
    state.stop = false;
    while (sent < count && !state.stop) {
      const due = Math.min(count, Math.floor(((performance.now() - started) / 1000) * rate) + 1);
      for (; sent < due; sent += 1) pending.push(once(call).then(note));
      await new Promise((r) => setTimeout(r, 5));
    }
    await Promise.all(pending);
    result.sent = sent;
    result.elapsedMs = performance.now() - started;
  } else {
    let left = count;
    const worker = async () => {
      while (left-- > 0) note(await once(call));
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, count) }, worker));
  }
  return result;
}

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (p) => parts.push(p));
  request.on('end', async () => {
    const url = new URL(request.url, 'http://x');
    const body = Buffer.concat(parts).toString();
    const send = (status, value) => {
      const text = JSON.stringify(value);
      response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
      response.end(text);
    };
    if (url.pathname === '/healthz') return send(200, { ok: true });
    if (url.pathname === '/set') {
      Object.assign(state, JSON.parse(body));
      return send(200, state);
    }
    if (url.pathname === '/state') return send(200, state);
    if (url.pathname === '/run') {
      const call = JSON.parse(body);
      // As an application that takes part in traces: what came in goes on, and it says so.
      if (call.inherit) {
        const { traceparent, 'x-request-id': id } = request.headers;
        call.headers = { ...call.headers, traceparent, 'x-request-id': id };
        console.log(`${new Date().toISOString()} ${name} calls on, request=${id}`);
      }
      return send(200, await run(call));
    }
    // A POST counts as processed also where its answer is never sent: that is what may not happen twice.
    if (request.method === 'POST') state.posts += 1;
    if (state.reset) return request.socket.resetAndDestroy();
    state.served += 1;
    const wait = Number(url.searchParams.get('sleep') ?? state.sleepMs);
    if (wait > 0) await new Promise((r) => setTimeout(r, wait));
    const status = Number(url.searchParams.get('status') ?? (state.fail || 200));
    send(status, {
      name,
      version,
      instance: process.env.INSTANCE ?? `${name}-${process.pid}`,
      path: request.url,
      method: request.method,
      headers: request.headers,
      body: body.slice(0, 1000),
    });
  });
});
server.keepAliveTimeout = 75_000;
const host = process.env.ONLY_FAMILY === '6' ? '::' : process.env.ONLY_FAMILY === '4' ? '0.0.0.0' : process.env.HOST;
const port = Number(process.env.PORT ?? 8080);
server.listen({ port, host, ipv6Only: host === '::' }, () => console.log(`${name} ${version} listens`));
process.on('SIGTERM', () => {
  // As applications do that know nothing of a graceful end.
  if (state.abrupt) process.exit(0);
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
