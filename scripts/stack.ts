/** `node scripts/run.mjs scripts/stack.ts < TEXT`: places in a proxy's one file, as they stand in its log, become places in the sources. */
import { existsSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const maps = new Map<string, SourceMap | undefined>();

function mapOf(file: string): SourceMap | undefined {
  if (!maps.has(file)) {
    const beside = `${file}.map`;
    maps.set(file, existsSync(beside) ? new SourceMap(JSON.parse(readFileSync(beside, 'utf8'))) : undefined);
  }
  return maps.get(file);
}

const text = readFileSync(0, 'utf8');
process.stdout.write(
  text.replaceAll(/(file:\/\/)?(\/[^\s:()]+\.mjs):(\d+):(\d+)/g, (whole, url, file: string, line, column) => {
    const at = url ? fileURLToPath(`file://${file}`) : file;
    const origin = mapOf(at)?.findOrigin(Number(line), Number(column));
    if (!origin || !('fileName' in origin)) return whole;
    return `${path.resolve(path.dirname(at), origin.fileName)}:${origin.lineNumber}:${origin.columnNumber}`;
  }),
);
