/** What the logs in a mesh's state folder hold of one request: from every proxy and application, also those that are gone. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { WeftError } from '@weft/base';
import { meshPaths } from '@weft/host';
import { type CallTree, callTree, type LoggedLine, tracesOf } from '@weft/lab';
import { chooseMesh } from './common.ts';

/** The calls that a request id is of. A mesh that is named need not run any more. Throws `no-request` where there is none. */
export function callsOf(mesh: string | undefined, requestId: string): CallTree {
  const named = mesh !== undefined && existsSync(meshPaths(mesh).logs);
  const { logs } = meshPaths(named ? mesh : chooseMesh(mesh));
  if (requestId === '') throw new WeftError('no-request', 'the request id is empty');
  const files = logFiles(logs);
  const traces = tracesOf(linesOf(files, [requestId]), requestId);
  const tree = callTree(linesOf(files, [requestId, ...traces]), requestId, traces);
  if (tree.roots.length > 0) return tree;
  throw new WeftError(
    'no-request',
    `no proxy of the mesh has told of request ${JSON.stringify(requestId)}: requests are logged when they end, and each log keeps its last 10 to 20 MB`,
  );
}

interface LogFile {
  readonly path: string;
  readonly instance: string;
  readonly from: LoggedLine['from'];
}

function logFiles(folder: string): LogFile[] {
  return readdirSync(folder)
    .sort()
    .reverse() // The older half, `.log.1`, before the newer one.
    .flatMap((name) => {
      const m = /^(.+?)(\.proxy)?\.log(\.1)?$/.exec(name);
      if (!m || m[1] === 'control-plane') return [];
      return [{ path: path.join(folder, name), instance: m[1]!, from: m[2] ? 'proxy' : 'application' } as const];
    });
}

/** Lines that hold one of the words. */
function* linesOf(files: readonly LogFile[], words: readonly string[]): Iterable<LoggedLine> {
  for (const { path: file, instance, from } of files) {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      // Rotated away meanwhile.
      continue;
    }
    if (!words.some((w) => text.includes(w))) continue;
    for (const line of text.split('\n')) if (words.some((w) => line.includes(w))) yield { instance, from, text: line };
  }
}
