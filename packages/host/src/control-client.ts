/** JSON over HTTP on a Unix socket: how the supervisor speaks to the control plane, and the CLI to either. */

import http from 'node:http';
import { WeftError } from '@weft/base';
import { localAuthorization } from '@weft/identity';

/** Resolves with the parsed body of a 2xx answer. Throws `local-api` with the server's own message for any other. */
export function localRequest<T = unknown>(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = 5000,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const request = http.request(
      {
        socketPath,
        method,
        path,
        agent: false,
        timeout: timeoutMs,
        headers: {
          authorization: localAuthorization(socketPath),
          ...(text === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (c: Buffer) => chunks.push(c));
        response.on('error', reject);
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString('utf8');
          let value: unknown;
          try {
            value = answer === '' ? undefined : JSON.parse(answer);
          } catch {
            value = answer;
          }
          if (response.statusCode! >= 200 && response.statusCode! < 300) {
            resolve(value as T);
            return;
          }
          const said =
            (value as { error?: unknown; message?: unknown } | undefined)?.message ??
            (value as { error?: unknown } | undefined)?.error ??
            answer;
          reject(new WeftError('local-api', typeof said === 'string' ? said : JSON.stringify(said)));
        });
      },
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    request.on('error', (error) =>
      reject(new WeftError('local-api', `${method} ${path} on ${socketPath}: ${error.message}`, { cause: error })),
    );
    request.end(text);
  });
}
