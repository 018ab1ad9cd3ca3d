/** The process of an entrance: its listeners, and nothing it could be robbed of. */
import { readFileSync } from 'node:fs';
import { WeftError } from '@weft/base';
import { Registry } from '@weft/telemetry';
import { send, startSmallServer } from '../admin/http.ts';
import { sendMetrics } from '../admin/metrics.ts';
import { type Bind, withOwnLimits } from '../bootstrap.ts';
import { type ProxyLimits, readLimits } from '../limits.ts';
import { settle } from '../process.ts';
import { Entrance } from './entrance.ts';
import { Ways } from './table.ts';

/** The JSON (0600) that `WEFT_BOOTSTRAP` names. */
export interface EntranceBootstrap {
  mesh: string;
  /** Of this machine. */
  network: string;
  outside: Bind;
  inside: Bind;
  forwards: { bind: Bind; to: Bind }[];
  metrics: Bind;
  /** Path of the table of ways (WayTable). */
  ways: string;
  uid?: number;
  gid?: number;
  limits?: Partial<ProxyLimits>;
}

/** Runs until SIGTERM. Throws WeftError where it cannot start. */
export async function entranceMain(path: string): Promise<void> {
  const b = read(path);
  const limits = readLimits(withOwnLimits(b.limits, 'sidecar'), path);
  const logger = settle({ ...b, instance: `entrance of ${b.network}` }, []);
  const registry = new Registry();
  const count = (name: string): void => registry.count(name);
  const ways = new Ways(b.ways, b.network, logger);
  const entrance = new Entrance({ ...b, ways, limits, count, logger });
  registry.gauge('entrance_connections', 'Connections through this entrance now.', () => entrance.open);
  const metrics = await startSmallServer({
    ...{ bind: b.metrics, name: 'metrics', logger, count },
    handler: (at, response) =>
      at === '/stats/prometheus' ? sendMetrics(response, registry) : send(response, 404, 'see /stats/prometheus\n'),
  });
  await entrance.listen();
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      entrance.close();
      void metrics.close().finally(() => process.exit(0));
    });
  logger.info({}, 'ready');
}

function read(path: string): EntranceBootstrap {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as EntranceBootstrap;
  } catch (cause) {
    throw new WeftError('bootstrap.unreadable', `${path}: cannot be read: ${String(cause)}`, { cause });
  }
}
