/** The same questions in any runtime: their answers as one text, which must be the same everywhere. Bundled for a browser. */
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import { explain, explanationJson, meshFromModel } from '@weft/lab';
import { Generator, HTTP_PORT, TCP_PORT } from '../naive/generate.ts';

/** A line for each pair: everything that explain says, its probabilities to the last bit. */
export function vectors(count: number, seed: number): string[] {
  const generator = new Generator(seededRandom(seed));
  const lines: string[] = [];
  while (lines.length < count) {
    const { text, request } = generator.next();
    const { model } = loadFiles([{ path: 'mesh.yaml', text }]);
    if (!model) continue;
    const { method, path, headers, tcp, authority } = request;
    const answer = explain(meshFromModel(model), {
      from: 'shop/cart',
      to: `pay:${tcp ? TCP_PORT : HTTP_PORT}`,
      method,
      path,
      headers: [['host', authority], ...headers],
    });
    lines.push(JSON.stringify(explanationJson(answer)));
  }
  return lines;
}

(globalThis as { weftVectors?: typeof vectors }).weftVectors = vectors;
