import type { ServerResponse } from 'node:http';
import { encodePrometheus, prometheusContentType, type Registry } from '@weft/telemetry';

/** How long a scrape may hold the loop before traffic gets a turn. */
const sliceMs = 4;

/** Streams a scrape: waits for the reader, and lets the loop turn after every few milliseconds of work. */
export async function sendMetrics(response: ServerResponse, registry: Registry, appended?: string): Promise<void> {
  response.writeHead(200, { 'content-type': prometheusContentType, 'x-content-type-options': 'nosniff' });
  if (response.req.method === 'HEAD') {
    response.end();
    return;
  }
  let since = performance.now();
  for (const chunk of encodePrometheus(registry)) {
    if (response.destroyed) return;
    if (!response.write(chunk)) {
      await writable(response);
      since = performance.now();
    } else if (performance.now() - since > sliceMs) {
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
  }
  response.end(appended);
}

function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
    if (response.destroyed) done();
  });
}
