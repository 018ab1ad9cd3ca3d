/** What every proxy's process does before and after its work. */
import { chownSync, mkdirSync } from 'node:fs';
import type { Logger } from '@weft/base';
import { denySystemCalls, dieWithParent, dropPrivileges } from '@weft/capture';
import pino from 'pino';

interface Settling {
  readonly instance: string;
  readonly logLevel?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * The log, an end with the parent's, and no more rights than the work needs; `dirs` are made for who it is afterwards.
 * What is thrown and caught by nobody is logged from now on.
 */
export function settle(b: Settling, dirs: readonly string[]): Logger {
  const parent = Number(process.env.WEFT_PARENT_PID);
  if (Number.isInteger(parent) && parent > 1) dieWithParent(parent);
  const logger = pino(
    { level: b.logLevel ?? 'info', base: { instance: b.instance } },
    pino.destination({ fd: 2, sync: false }),
  ) as unknown as Logger;
  process.on('uncaughtException', (error) => logger.error({ error: error.stack ?? String(error) }, 'uncaught error'));
  process.on('unhandledRejection', (error) => logger.error({ error: String(error) }, 'unhandled rejection'));
  for (const dir of dirs) {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (b.uid && process.getuid?.() === 0) chownSync(dir, b.uid, b.gid ?? b.uid);
  }
  if (b.uid) dropPrivileges(b.uid, b.gid ?? b.uid);
  try {
    if (process.platform === 'linux') denySystemCalls();
  } catch (error) {
    // A second wall: the proxy serves without it, as it does where its files cannot be made read-only.
    logger.warn({ error: String(error) }, 'the system calls that a proxy has no use for are not denied');
  }
  return logger;
}

/** For signals: does the work once, and ends the process. */
export function stopper(work: () => Promise<void>, logger: Logger): () => void {
  let stopping = false;
  return () => {
    if (stopping) return;
    stopping = true;
    work()
      .catch((error) => logger.error({ error: String(error) }, 'the drain failed'))
      .finally(() => process.exit(0));
  };
}
