/**
 * `weft proxy --mode plain`: stands where the proxy of a process stood that left the mesh with explicit capture. Names lead
 * to applications in plaintext; it has no identity and knows neither rules nor a control plane. SIGTERM drains and exits 0.
 */
import { readFileSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type Logger, WeftError } from '@weft/base';
import { buildSnapshot, type Snapshot } from '@weft/engine';
import type { Bind } from '../bootstrap.ts';
import { DataPlane } from '../data-plane.ts';
import { silentObserver } from '../observe/types.ts';
import { releaseMemory } from '../overload/release.ts';
import { settle, stopper } from '../process.ts';
import { type PlainSelf, type PlainService, plainPlan } from './plan.ts';

const DRAIN_MS = 5000;
/** Beside being told of a change: a watch may miss one. */
const LOOK_MS = 1000;

interface PlainBootstrap extends PlainSelf {
  readonly bind: { readonly outbound: Bind };
  /** What the application has to say (Proxy-Authorization). */
  readonly proxySecret: string;
  /** The file that says who is ready; replaced whole. */
  readonly services: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly logLevel?: string;
}

/** Throws WeftError where it cannot start. */
export async function plainMain(path: string): Promise<void> {
  const b = read<PlainBootstrap>(path);
  if (typeof b.services !== 'string' || typeof b.proxySecret !== 'string')
    throw new WeftError('bootstrap.invalid', `${path}: it is none of a proxy of --mode plain`);
  const logger = settle(b, []);
  const plane = new DataPlane({
    address: b.address,
    capture: 'explicit',
    bind: { outbound: b.bind.outbound },
    proxySecret: b.proxySecret,
    observer: silentObserver,
    logger,
  });
  const following = follow(b, plane, logger);
  const stop = stopper(async () => {
    clearInterval(following.timer);
    following.watcher.close();
    await plane.drain(DRAIN_MS);
  }, logger);
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  await plane.listen();
  releaseMemory();
  logger.info({}, 'ready');
}

/** Takes over what the file says, now and whenever it changes. What cannot be read changes nothing. */
function follow(b: PlainBootstrap, plane: DataPlane, logger: Logger) {
  let text = '';
  let snapshot: Snapshot | undefined;
  let epoch = 0n;
  const look = (): void => {
    const now = readFileSync(b.services, 'utf8');
    if (now === text) return;
    const { parts, endpoints } = plainPlan(b, JSON.parse(now) as PlainService[]);
    snapshot = buildSnapshot(parts, endpoints, snapshot);
    plane.apply(snapshot, ++epoch);
    text = now;
  };
  const later = (): void => {
    try {
      look();
    } catch (error) {
      logger.warn({ error: String(error) }, 'who is ready could not be read');
    }
  };
  look();
  const watcher = watch(dirname(b.services), (_event, name) => {
    if (name === null || name === basename(b.services)) later();
  });
  watcher.on('error', (error) => logger.warn({ error: String(error) }, 'the folder is not watched any more'));
  const timer = setInterval(later, LOOK_MS);
  timer.unref();
  return { watcher, timer };
}

function read<T>(path: string): T {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch (cause) {
    throw new WeftError('bootstrap.unreadable', `${path}: cannot read the proxy's bootstrap: ${String(cause)}`, {
      cause,
    });
  }
}
