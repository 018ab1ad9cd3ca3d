/** `weft control-plane`: the process. */
import { WeftError } from '@weft/base';
import { pino } from 'pino';
import { readControlConfig } from './config.ts';
import { startControlPlane } from './start.ts';

/** Runs until SIGTERM, SIGINT or SIGHUP; resolves with the exit code. Logs go to standard error. */
export async function main(env: Record<string, string | undefined> = process.env): Promise<number> {
  const path = env.WEFT_CONTROL;
  if (!path) {
    process.stderr.write('weft control-plane: WEFT_CONTROL must name its configuration file (weft up does that)\n');
    return 2;
  }
  try {
    const config = readControlConfig(path);
    const logger = pino(
      { level: config.logLevel ?? 'info', base: { component: 'control-plane', mesh: config.mesh } },
      pino.destination({ dest: 2, sync: true }),
    );
    // A mistake in one request must not take the mesh's control plane away.
    process.on('uncaughtException', (error) => logger.error({ error: error.stack ?? String(error) }, 'uncaught error'));
    process.on('unhandledRejection', (reason) => logger.error({ error: String(reason) }, 'unhandled rejection'));
    const stopped = new Promise<void>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => resolve());
    });
    const control = await startControlPlane(config, logger);
    await stopped;
    await control.close();
    return 0;
  } catch (error) {
    process.stderr.write(
      `weft control-plane: ${error instanceof WeftError ? error.message : String((error as Error)?.stack ?? error)}\n`,
    );
    return 1;
  }
}
