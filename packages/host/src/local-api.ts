/** The supervisor's own API on a Unix socket (0600 in a 0700 folder): what `weft ps`, `scale` and the others ask. */

import { chmodSync, rmSync } from 'node:fs';
import http from 'node:http';
import { WeftError } from '@weft/base';
import { localToken, refuseLocal } from '@weft/identity';

const MAX_BODY_BYTES = 1024 * 1024;

/** `gone`: aborted when the caller's connection closed before its answer. */
export type LocalHandler = (body: unknown, query: URLSearchParams, gone: AbortSignal) => Promise<unknown> | unknown;

/** `routes` maps `GET /ps` and such to handlers. Resolves when it listens. */
export async function serveLocal(socketPath: string, routes: ReadonlyMap<string, LocalHandler>): Promise<http.Server> {
  const token = localToken(socketPath);
  const server = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://local');
    const answer = (status: number, value: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value ?? {}));
    };
    const refused = refuseLocal(request.headers, token);
    if (refused) {
      request.resume();
      answer(refused.status, { error: refused.message });
      return;
    }
    const handler = routes.get(`${request.method} ${url.pathname}`);
    if (!handler) {
      answer(404, { error: `no such call: ${request.method} ${url.pathname}` });
      return;
    }
    const chunks: Buffer[] = [];
    let size = 0;
    const gone = new AbortController();
    response.on('close', () => {
      if (!response.writableFinished) gone.abort();
    });
    request.on('error', () => {});
    response.on('error', () => {});
    request.on('data', (c: Buffer) => {
      size += c.length;
      if (size > MAX_BODY_BYTES) request.destroy();
      else chunks.push(c);
    });
    request.on('end', () => {
      Promise.resolve()
        .then(() => {
          const text = Buffer.concat(chunks).toString('utf8');
          return handler(text === '' ? undefined : JSON.parse(text), url.searchParams, gone.signal);
        })
        .then(
          (value) => answer(200, value),
          (error: Error) =>
            answer(error instanceof WeftError || error instanceof SyntaxError ? 400 : 500, { error: error.message }),
        );
    });
  });
  rmSync(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  chmodSync(socketPath, 0o600);
  return server;
}
