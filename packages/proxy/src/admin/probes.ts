import { request as httpRequest, type RequestOptions } from 'node:http';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { hostPort } from '@weft/base';
import type { Head } from '@weft/wire';
import type { ProbeSpec } from '../bootstrap.ts';
import { HEALTH_PATH, healthFailure, healthRequest } from '../net/grpc-health.ts';

/** Asks the application what the kubelet or `weft up` would have asked it, so that probes pass under STRICT. */

export interface ProbeResult {
  ok: boolean;
  /** For the prober's event: why it failed. */
  detail: string;
}

const defaultTimeoutMs = 1000;

/** Of a gRPC health answer, which has a few bytes. */
const MAX_HEALTH_BYTES = 4096;

/** Runs one probe against the application at `address` (its port comes from the probe). Never rejects. */
export function runProbe(spec: ProbeSpec, address: string): Promise<ProbeResult> {
  const timeoutMs = spec.timeoutMs ?? defaultTimeoutMs;
  if (spec.httpGet) return httpProbe(spec.httpGet, address, timeoutMs);
  if (spec.tcpSocket) return tcpProbe(spec.tcpSocket.port, address, timeoutMs);
  if (spec.grpc) return grpcProbe(spec.grpc, address, timeoutMs);
  return Promise.resolve({ ok: false, detail: 'the probe has no httpGet, tcpSocket or grpc' });
}

function httpProbe(get: NonNullable<ProbeSpec['httpGet']>, host: string, timeoutMs: number): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const headers = new Map<string, string>([
      ['host', hostPort(host, get.port)],
      ['user-agent', 'kube-probe/weft'],
      ['accept', '*/*'],
      ['connection', 'close'],
    ]);
    for (const { name, value } of get.headers ?? []) headers.set(name.toLowerCase(), value);
    const tls = get.scheme?.toUpperCase() === 'HTTPS';
    const options: RequestOptions & { rejectUnauthorized?: boolean } = {
      host,
      port: get.port,
      path: get.path === '' ? '/' : get.path,
      headers: Object.fromEntries(headers),
      agent: false,
    };
    // As the kubelet: a probe over TLS asks whether the application lives, not who it is.
    if (tls) options.rejectUnauthorized = false;
    let done = false;
    const finish = (ok: boolean, detail: string): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      resolve({ ok, detail });
      request.destroy();
    };
    const timer = setTimeout(() => finish(false, `no answer within ${timeoutMs} ms`), timeoutMs);
    const request = (tls ? httpsRequest : httpRequest)(options, (response) => {
      const status = response.statusCode ?? 0;
      finish(status >= 200 && status < 400, `HTTP ${status}`);
    });
    request.on('error', (error: NodeJS.ErrnoException) => finish(false, error.code ?? error.message));
    request.end();
  });
}

/** Health/Check over HTTP/2 without TLS. An application that is asked for too much answers within its time or not at all. */
function grpcProbe(grpc: NonNullable<ProbeSpec['grpc']>, host: string, timeoutMs: number): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const session = connectHttp2(`http://${hostPort(host, grpc.port)}`);
    let done = false;
    const finish = (failure: string): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      resolve({ ok: failure === '', detail: failure || 'SERVING' });
      session.destroy();
    };
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs} ms`), timeoutMs);
    const failed = (error: NodeJS.ErrnoException): void => finish(error.code ?? error.message);
    session.on('error', failed);
    const stream = session.request({
      ...{ ':method': 'POST', ':path': HEALTH_PATH, 'content-type': 'application/grpc', te: 'trailers' },
      'user-agent': 'kube-probe/weft',
    });
    // The session says why.
    stream.on('error', (error) => setImmediate(failed, error));
    const chunks: Buffer[] = [];
    let bytes = 0;
    let status = 0;
    const fields: Head = [];
    const take = (headers: IncomingHttpHeaders): void => {
      const code = headers['grpc-status'];
      if (typeof code === 'string') fields.push('grpc-status', code);
    };
    stream.on('response', (headers) => {
      status = Number(headers[':status']);
      take(headers);
    });
    stream.on('trailers', take);
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_HEALTH_BYTES) finish('the answer is too long');
      else chunks.push(chunk);
    });
    stream.on('end', () => finish(healthFailure(status, fields, [], Buffer.concat(chunks))));
    stream.end(healthRequest(grpc.service));
  });
}

function tcpProbe(port: number, host: string, timeoutMs: number): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (ok: boolean, detail: string): void => {
      clearTimeout(timer);
      resolve({ ok, detail });
      socket.destroy();
    };
    const timer = setTimeout(() => finish(false, `no connection within ${timeoutMs} ms`), timeoutMs);
    socket.once('connect', () => finish(true, 'connected'));
    socket.on('error', (error: NodeJS.ErrnoException) => finish(false, error.code ?? error.message));
  });
}

/** Most that is taken of an application's own metrics. */
export const maxScrapeBytes = 16 * 1024 * 1024;

/** The application's own Prometheus text; undefined if it does not answer well within 5 s or says too much. */
export function scrapeApplication(host: string, port: number, path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let done = false;
    const finish = (text: string | undefined): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      resolve(text);
      request.destroy();
    };
    const timer = setTimeout(() => finish(undefined), 5000);
    const request = httpRequest({ host, port, path, agent: false, headers: { accept: 'text/plain' } }, (response) => {
      if (response.statusCode !== 200) return finish(undefined);
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > maxScrapeBytes) return finish(undefined);
        chunks.push(chunk);
      });
      response.on('end', () => finish(Buffer.concat(chunks).toString('utf8')));
      response.on('error', () => finish(undefined));
    });
    request.on('error', () => finish(undefined));
    request.end();
  });
}
