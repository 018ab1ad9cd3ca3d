// A test application for protocols: ROLE=server speaks them all, ROLE=client runs one case on request and says what it saw.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import dns from 'node:dns';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import tls from 'node:tls';

const host = process.env.HOST;
const require = createRequire(`${process.env.DEPS}/package.json`);
const grpc = () => require('@grpc/grpc-js');
const bytes = (text) => Buffer.from(text, 'latin1');
const ENDLESS = Buffer.alloc(64 * 1024, 'weft');
const accept = (key) => createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
const identity = { requestSerialize: (b) => b, requestDeserialize: (b) => b };
const unary = {
  Echo: {
    ...identity,
    ...{ path: '/test.Echo/Echo', requestStream: false, responseStream: false },
    ...{ responseSerialize: (b) => b, responseDeserialize: (b) => b },
  },
};

// ---- server

function serve() {
  const web = http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://x');
    response.on('error', () => {});
    if (url.pathname === '/sse') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (let i = 0; i < 4; i++) {
        response.write(`data: ${i}\n\n`);
        await new Promise((r) => setTimeout(r, 150));
      }
      response.end();
    } else if (url.pathname === '/download') {
      let left = Number(url.searchParams.get('bytes'));
      response.writeHead(200, { 'content-length': left });
      while (left > 0) {
        const chunk = ENDLESS.subarray(0, Math.min(left, ENDLESS.length));
        left -= chunk.length;
        if (!response.write(chunk)) await once(response, 'drain');
      }
      response.end();
    } else if (url.pathname === '/upload') {
      let n = 0;
      for await (const chunk of request) n += chunk.length;
      response.end(String(n));
    } else if (url.pathname === '/trailers') {
      let body = '';
      for await (const chunk of request) body += chunk;
      response.writeHead(200, { trailer: 'x-answer' });
      response.write(body);
      response.addTrailers({ 'x-answer': `sum=${request.trailers['x-sum']}` });
      response.end();
    } else response.end(JSON.stringify({ headers: request.headers, http: request.httpVersion }));
  });
  web.on('upgrade', (request, socket) => {
    const key = request.headers['sec-websocket-key'];
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept(key)}\r\nx-seen-key: ${key}\r\n\r\n`,
    );
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  web.listen(8080, host);
  const tcp = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    socket.write('HELLO\n');
    socket.on('data', (d) => socket.write(d));
    socket.on('end', () => socket.end('BYE\n'));
  });
  tcp.listen(7000, host);
  const { Server, ServerCredentials, Metadata } = grpc();
  const server = new Server();
  server.addService(unary, {
    Echo: (call, answer) => {
      const trailers = new Metadata();
      trailers.set('x-trailer', 'there');
      if (call.request.toString() === 'fail') answer({ code: 9, details: 'as asked', metadata: trailers });
      else answer(null, call.request, trailers);
    },
  });
  server.bindAsync(`${host ?? '0.0.0.0'}:9000`, ServerCredentials.createInsecure(), () => {});
}

// ---- client

/** A connection to `to:port` by the mesh's way. */
async function dial(port, to = 'server') {
  const proxy = process.env.http_proxy;
  if (!proxy) {
    const socket = net.connect({ host: to, port, allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }
  const url = new URL(proxy);
  const socket = net.connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: true });
  const login = Buffer.from(`${url.username}:${url.password}`).toString('base64');
  socket.write(`CONNECT ${to}:${port} HTTP/1.1\r\nhost: ${to}:${port}\r\nproxy-authorization: Basic ${login}\r\n\r\n`);
  const { head, rest } = await readHead(socket);
  assert.match(head, /^HTTP\/1\.1 200/);
  if (rest.length) socket.unshift(rest);
  return socket;
}

/** Reads up to the empty line; leaves the socket paused. */
async function readHead(socket) {
  let all = Buffer.alloc(0);
  for (;;) {
    const end = all.indexOf('\r\n\r\n');
    if (end >= 0) return { head: all.subarray(0, end + 2).toString('latin1'), rest: all.subarray(end + 4) };
    const chunk = await read(socket);
    if (chunk === undefined) throw new Error(`closed inside a head: ${all}`);
    all = Buffer.concat([all, chunk]);
  }
}

/** The next bytes; undefined at the end. */
async function read(socket) {
  for (;;) {
    const chunk = socket.read();
    if (chunk !== null) return chunk;
    if (socket.readableEnded) return undefined;
    if (socket.destroyed) throw socket.errored ?? new Error('destroyed');
    await new Promise((resolve) => {
      const done = () => {
        for (const e of ['readable', 'end', 'close', 'error']) socket.off(e, done);
        resolve();
      };
      for (const e of ['readable', 'end', 'close', 'error']) socket.on(e, done);
    });
  }
}
async function readUntil(socket, done, start = Buffer.alloc(0)) {
  let all = start;
  while (!done(all.toString('latin1'))) {
    const chunk = await read(socket);
    if (chunk === undefined) throw new Error(`ended early: ${all.toString('latin1').slice(0, 300)}`);
    all = Buffer.concat([all, chunk]);
  }
  return all.toString('latin1');
}
async function readAll(socket, start = Buffer.alloc(0)) {
  const parts = [start];
  for (let c = await read(socket); c !== undefined; c = await read(socket)) parts.push(c);
  return Buffer.concat(parts).toString('latin1');
}

function ask(path, { method = 'GET', headers = {}, socket } = {}) {
  return http.request({ path, method, headers: { host: 'server:8080', ...headers }, createConnection: () => socket });
}
async function response(request) {
  const [r] = await once(request, 'response');
  return r;
}

function dnsQuery(name) {
  const labels = name.split('.').map((l) => Buffer.concat([Buffer.from([l.length]), bytes(l)]));
  const head = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}
/** rcode and IPv4 addresses of an answer that has one compressed or full name per record. */
function dnsAnswer(b) {
  let at = 12;
  const skip = () => {
    for (;;) {
      const n = b[at];
      if (n >= 192) return void (at += 2);
      at += n + 1;
      if (n === 0) return;
    }
  };
  skip();
  at += 4;
  const addresses = [];
  for (let i = b.readUInt16BE(6); i > 0; i--) {
    skip();
    const type = b.readUInt16BE(at);
    const size = b.readUInt16BE(at + 8);
    if (type === 1) addresses.push([...b.subarray(at + 10, at + 10 + size)].join('.'));
    at += 10 + size;
  }
  return { rcode: b[3] & 15, addresses };
}

const cases = {
  async grpc() {
    const { Client, credentials, status } = grpc();
    // In explicit mode grpc-js reads http_proxy itself.
    const client = new Client('server:9000', credentials.createInsecure());
    const call = (text) =>
      new Promise((resolve) => {
        const id = (b) => b;
        const c = client.makeUnaryRequest('/test.Echo/Echo', id, id, Buffer.from(text), (error, value) => {
          c.answer = { code: error?.code ?? status.OK, details: error?.details, text: value?.toString() };
        });
        c.on('status', (s) => setImmediate(() => resolve({ ...c.answer, trailer: s.metadata.get('x-trailer')[0] })));
      });
    const out = { good: await call('hello'), bad: await call('fail') };
    client.close();
    return out;
  },
  async tcp() {
    const socket = await dial(7000);
    const greeting = await readUntil(socket, (t) => t.includes('\n'));
    socket.end('ping\n');
    return { greeting, rest: await readAll(socket) };
  },
  async websocket() {
    const socket = await dial(8080);
    const key = randomBytes(16).toString('base64');
    socket.write(
      `GET /chat HTTP/1.1\r\nHost: server:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    const { head, rest } = await readHead(socket);
    let echoed = rest;
    for (const text of ['one', 'two']) {
      socket.write(text);
      echoed = bytes(await readUntil(socket, (t) => t.endsWith(text), echoed));
    }
    socket.destroy();
    return { head, expected: accept(key), key, echoed: echoed.toString() };
  },
  /** `name to:port`: whose certificate answers a TLS client that asks for the name; '' asks for none. */
  async tls(text) {
    const [servername, to, port] = text.split(/[ :]/);
    const socket = tls.connect({ socket: await dial(Number(port), to), servername, rejectUnauthorized: false });
    try {
      await once(socket, 'secureConnect');
      return { name: socket.getPeerCertificate().subject.CN };
    } catch (error) {
      return { error: error.code ?? error.message };
    } finally {
      socket.destroy();
    }
  },
  /** `host:port/path`: the whole answer to a plain GET. */
  async get(text) {
    const [, host, port, path] = /^([^:]+):(\d+)(.*)$/.exec(text);
    const socket = await dial(Number(port), host);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    return { text: await readAll(socket) };
  },
  async sse() {
    const request = ask('/sse', { socket: await dial(8080) });
    request.end();
    const r = await response(request);
    const at = [];
    for await (const chunk of r) for (const _ of String(chunk).matchAll(/data:/g)) at.push(performance.now());
    return { events: at.length, spreadMs: at.at(-1) - at[0] };
  },
  async download(size) {
    const request = ask(`/download?bytes=${size}`, { socket: await dial(8080) });
    request.end();
    let n = 0;
    for await (const chunk of await response(request)) n += chunk.length;
    return { bytes: n };
  },
  async upload(size) {
    const request = ask('/upload', { method: 'POST', socket: await dial(8080), headers: { 'content-length': size } });
    const answered = response(request);
    for (let left = Number(size); left > 0; left -= ENDLESS.length) {
      if (!request.write(ENDLESS.subarray(0, Math.min(left, ENDLESS.length)))) await once(request, 'drain');
    }
    request.end();
    let text = '';
    for await (const chunk of await answered) text += chunk;
    return { bytes: Number(text) };
  },
  async http10() {
    const plain = await dial(8080);
    plain.write('GET /old HTTP/1.0\r\n\r\n');
    const keep = await dial(8080);
    keep.write('GET /old HTTP/1.0\r\nHost: server:8080\r\n\r\n');
    return { plain: await readAll(plain), withHost: await readAll(keep) };
  },
  async trailers() {
    const socket = await dial(8080);
    socket.write(
      'POST /trailers HTTP/1.1\r\nHost: server:8080\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    socket.write('5\r\nhello\r\n');
    socket.write('6;ext=1\r\n world\r\n0\r\nx-sum: 11\r\n\r\n');
    const text = await readUntil(socket, (t) => /0\r\n(.+\r\n)*\r\n$/.test(t));
    socket.destroy();
    return { text };
  },
  async expect100() {
    const socket = await dial(8080);
    socket.write('POST /upload HTTP/1.1\r\nHost: server:8080\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n');
    const { head, rest } = await readHead(socket);
    socket.write('body');
    const text = await readUntil(socket, (t) => /\r\n\r\n(.*\r\n)?4/.test(t), rest);
    socket.destroy();
    return { interim: head, text };
  },
  async trace() {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const request = ask('/x', { socket: await dial(8080), headers: { traceparent, tracestate: 'a=b' } });
    request.end();
    let text = '';
    for await (const chunk of await response(request)) text += chunk;
    return JSON.parse(text).headers;
  },
  async dns(name) {
    const started = performance.now();
    const [server] = dns.getServers();
    const udp = dgram.createSocket(net.isIPv6(server) ? 'udp6' : 'udp4');
    udp.send(dnsQuery(name), 53, server);
    const [datagram] = await once(udp, 'message', { signal: AbortSignal.timeout(10_000) });
    udp.close();
    const socket = net.connect(53, server);
    const q = dnsQuery(name);
    socket.write(Buffer.concat([Buffer.from([q.length >> 8, q.length & 255]), q]));
    const text = await readUntil(socket, (t) => t.length > 2 && t.length >= 2 + bytes(t).readUInt16BE(0));
    socket.destroy();
    return {
      udp: dnsAnswer(datagram),
      tcp: dnsAnswer(bytes(text).subarray(2)),
      ms: performance.now() - started,
    };
  },
  async lookup(name) {
    return { addresses: (await dns.promises.lookup(name, { all: true, family: 4 })).map((a) => a.address) };
  },
  async outside(port) {
    const gateway = () => {
      const line = readFileSync('/proc/net/route', 'latin1')
        .split('\n')
        .find((l) => l.split('\t')[1] === '00000000');
      return [...Buffer.from(line.split('\t')[2], 'hex')].reverse().join('.');
    };
    const socket = await dial(Number(port), process.env.http_proxy ? '127.0.0.1' : gateway());
    socket.write('GET / HTTP/1.1\r\nHost: outside\r\nConnection: close\r\n\r\n');
    return { text: await readAll(socket) };
  },
};

function runCases() {
  http
    .createServer(async (request, answer) => {
      const url = new URL(request.url, 'http://x');
      try {
        const run = cases[url.searchParams.get('name')];
        answer.end(JSON.stringify(run ? await run(url.searchParams.get('with') ?? undefined) : { ok: true }));
      } catch (error) {
        answer.statusCode = 500;
        answer.end(String(error.stack ?? error));
      }
    })
    .listen(8080, host);
}

process.on('uncaughtException', (error) => console.error(error));
process.on('SIGTERM', () => process.exit(0));
if (process.env.ROLE === 'server') serve();
else runCases();
