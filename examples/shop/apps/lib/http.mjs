// What the shop's Node services share: a JSON server, a JSON client, and copying of request headers.
// Ordinary HTTP only: names of services come from the environment or DNS, a proxy from HTTP_PROXY.
import http from 'node:http';

// The one thing the services do for tracing and tests: headers that came in go out with what they cause.
const COPIED = [
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'x-b3-sampled',
  'x-b3-flags',
  'x-request-id',
  'x-canary-test',
  'x-chaos-test',
];
const copy = process.env.PROPAGATE_HEADERS !== '0';

export function inherited(request) {
  const out = {};
  if (copy) for (const name of COPIED) if (request.headers[name] !== undefined) out[name] = request.headers[name];
  return out;
}

export function serviceAddress(name, defaultPort) {
  const key = name.toUpperCase().replaceAll('-', '_');
  return {
    host: process.env[`${key}_SERVICE_HOST`] ?? name,
    port: Number(process.env[`${key}_SERVICE_PORT`] ?? defaultPort),
  };
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

/** One JSON call. Rejects on a broken connection; any status resolves. */
export function call(name, method, path, headers = {}, body = undefined, defaultPort = 8080) {
  const to = serviceAddress(name, defaultPort);
  const text = body === undefined ? undefined : JSON.stringify(body);
  const options = {
    agent,
    method,
    host: to.host,
    port: to.port,
    path,
    headers: { ...headers, host: `${to.host}:${to.port}` },
  };
  if (text !== undefined)
    Object.assign(options.headers, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  const proxy = process.env.http_proxy ?? process.env.HTTP_PROXY;
  if (proxy) {
    const url = new URL(proxy);
    options.path = `http://${to.host}:${to.port}${path}`;
    options.host = url.hostname;
    options.port = Number(url.port || 80);
    if (url.username) {
      const login = Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString(
        'base64',
      );
      options.headers['proxy-authorization'] = `Basic ${login}`;
    }
  }
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const raw = Buffer.concat(parts).toString();
        let json;
        try {
          json = JSON.parse(raw);
        } catch {
          json = { text: raw };
        }
        resolve({ status: response.statusCode, headers: response.headers, json });
      });
    });
    request.on('error', reject);
    request.end(text);
  });
}

/** Serves `route(request, url, body) -> {status?, json, headers?}` on $HOST:$PORT until SIGTERM. */
export function serve(name, route, defaultPort = 8080) {
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      let answer;
      try {
        const raw = Buffer.concat(parts).toString();
        answer = await route(request, new URL(request.url, 'http://shop'), raw === '' ? undefined : JSON.parse(raw));
      } catch (error) {
        answer = { status: 502, json: { service: name, error: String(error.message ?? error) } };
      }
      const text = JSON.stringify(answer.json);
      response.writeHead(answer.status ?? 200, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        ...answer.headers,
      });
      response.end(text);
    });
  });
  server.keepAliveTimeout = 75_000;
  const port = Number(process.env.PORT ?? defaultPort);
  server.listen(port, process.env.HOST, () => console.log(`${name} listens on ${process.env.HOST ?? '*'}:${port}`));
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
  return server;
}
