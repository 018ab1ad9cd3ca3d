/**
 * Clients of the peers suite that run on Node. argv: node-http | node-http2 | undici | undici-h2c, the base address, the
 * cases; WEFT_UNDICI: where undici is. Prints {"case", "error"} a line, `error` null where it went well.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { createRequire } from 'node:module';

const [kind, base, ...cases] = process.argv.slice(2);
const MANY = 100;
const big = Buffer.alloc(1_000_000);
for (let i = 0; i < big.length; i++) big[i] = (i * 31) % 251;

/** @returns {Promise<{status: number, body: Buffer, trailers: object, interim: number[]}>} */
let ask;
let close = () => {};

if (kind === 'node-http') {
  const module = base.startsWith('https:') ? https : http;
  const agent = new module.Agent({ keepAlive: true, maxSockets: MANY, rejectUnauthorized: false });
  close = () => agent.destroy();
  ask = (method, path, { body, trailers, headers = {} } = {}) =>
    new Promise((resolve, reject) => {
      const interim = [];
      const request = module.request(`${base}${path}`, { method, headers, agent }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode, body: Buffer.concat(chunks), trailers: response.trailers, interim }),
        );
      });
      request.on('error', reject);
      request.on('information', (info) => interim.push(info.statusCode));
      if (trailers) {
        request.setHeader('transfer-encoding', 'chunked');
        request.setHeader('trailer', Object.keys(trailers).join(', '));
        request.addTrailers(trailers);
      }
      if (headers.expect) request.on('continue', () => request.end(body));
      else request.end(body);
      if (headers.expect) request.flushHeaders();
    });
} else if (kind === 'node-http2') {
  const session = http2.connect(base, { rejectUnauthorized: false, settings: { enablePush: false } });
  session.on('error', (error) => process.stderr.write(`session: ${error.message}\n`));
  close = () => session.close();
  ask = (method, path, { body, trailers, headers = {} } = {}) =>
    new Promise((resolve, reject) => {
      const interim = [];
      const chunks = [];
      let status = 0;
      let received = {};
      const stream = session.request(
        { ':method': method, ':path': path, ...headers },
        { endStream: body === undefined && !trailers, waitForTrailers: Boolean(trailers) },
      );
      stream.on('wantTrailers', () => stream.sendTrailers(trailers));
      stream.on('headers', (fields) => interim.push(fields[':status']));
      stream.on('response', (fields) => (status = fields[':status']));
      stream.on('trailers', (fields) => (received = fields));
      stream.on('data', (chunk) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () => resolve({ status, body: Buffer.concat(chunks), trailers: received, interim }));
      if (headers.expect) {
        stream.on('continue', () => {
          interim.push(100);
          stream.end(body);
        });
      } else if (body !== undefined || trailers) stream.end(body);
    });
} else {
  const undici = createRequire(import.meta.url)(process.env.WEFT_UNDICI);
  const options = { connect: { rejectUnauthorized: false } };
  const dispatcher =
    kind === 'undici'
      ? new undici.Pool(base, { ...options, connections: MANY })
      : base.startsWith('https:')
        ? new undici.Pool(base, {
            ...options,
            allowH2: true,
            connections: 1,
            pipelining: MANY,
            maxConcurrentStreams: MANY,
          })
        : new undici.H2CClient(base, { pipelining: MANY, maxConcurrentStreams: MANY });
  close = () => dispatcher.close();
  ask = async (method, path, { body, headers } = {}) => {
    const interim = [];
    const response = await dispatcher.request({
      method,
      path,
      body,
      headers,
      onInfo: (info) => interim.push(info.statusCode),
    });
    const bytes = Buffer.from(await response.body.arrayBuffer());
    return { status: response.statusCode, body: bytes, trailers: response.trailers, interim };
  };
}

const run = {
  async hello() {
    const a = await ask('GET', '/hello');
    assert.deepEqual([a.status, a.body.toString()], [200, 'hello']);
  },
  async echo() {
    const a = await ask('POST', '/echo', { body: big });
    assert.equal(a.status, 200);
    assert.ok(a.body.equals(big), `${a.body.length} bytes came back`);
  },
  async trailers() {
    const a = await ask('POST', '/trailers', { body: Buffer.alloc(5000), trailers: { 'x-check': 'checked' } });
    assert.deepEqual([a.status, a.body.toString()], [200, 'body']);
    assert.equal(a.trailers['x-body-bytes'], '5000');
    assert.equal(a.trailers['x-echo'], 'checked');
  },
  async answerTrailers() {
    const a = await ask('POST', '/trailers', { body: Buffer.alloc(5000) });
    assert.equal(a.trailers['x-body-bytes'], '5000');
    assert.equal(a.trailers['x-echo'], 'none');
  },
  async early() {
    const a = await ask('GET', '/early');
    assert.deepEqual([a.status, a.body.toString(), a.interim], [200, 'late', [103]]);
  },
  async continue() {
    const a = await ask('POST', '/echo', { body: big, headers: { expect: '100-continue' } });
    assert.ok(a.body.equals(big), `${a.body.length} bytes came back`);
    assert.ok(a.interim.includes(100), 'no 100 came');
  },
  async gate() {
    const all = await Promise.all(Array.from({ length: MANY }, () => ask('GET', `/gate/${process.pid}?n=${MANY}`)));
    for (const a of all) assert.deepEqual([a.status, a.body.toString()], [200, 'open']);
  },
};

for (const name of cases) {
  let error = null;
  const timer = setTimeout(() => {
    process.stdout.write(`${JSON.stringify({ case: name, error: 'no end within 20 s' })}\n`);
    process.exit(1);
  }, 20_000);
  try {
    await run[name]();
  } catch (e) {
    error = String(e?.message ?? e).replaceAll(/\s+/g, ' ');
  }
  clearTimeout(timer);
  process.stdout.write(`${JSON.stringify({ case: name, error })}\n`);
}
close();
