import type { ServerResponse } from 'node:http';
import { encodePrometheus, prometheusContentType, type Registry } from '@weft/telemetry';

/**
 * Streams a scrape, one piece of some tens of kilobytes in each turn of the loop: however many series there are, traffic
 * waits no longer than it takes to make one piece. A reader that does not keep up is waited for.
 */
export async function sendMetrics(response: ServerResponse, registry: Registry, appended?: string): Promise<void> {
  response.writeHead(200, { 'content-type': prometheusContentType, 'x-content-type-options': 'nosniff' });
  if (response.req.method === 'HEAD') {
    response.end();
    return;
  }
  for (const chunk of encodePrometheus(registry)) {
    if (response.destroyed) return;
    if (response.write(chunk)) await nextTurn();
    else await writable(response);
  }
  response.end(appended);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      // A drain may come in the turn of the write.
      setImmediate(resolve);
    };
    response.on('drain', done);
    response.on('close', done);
    if (response.destroyed) done();
  });
}
