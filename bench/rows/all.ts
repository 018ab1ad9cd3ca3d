import { bytesRows } from './bytes.ts';
import { chainRows } from './chain.ts';
import { connections } from './connections.ts';
import { grpc } from './grpc.ts';
import { handshakes } from './handshakes.ts';
import { memoryRows } from './memory.ts';
import { rateRows } from './rate.ts';
import { routesRow } from './routes.ts';
import type { Row } from './row.ts';
import { rulesRow } from './rules.ts';
import { scrapeRow } from './scrape.ts';
import { websocket } from './websocket.ts';

/** In the order of the report. */
export const rows: readonly Row[] = [
  ...chainRows,
  ...rateRows,
  grpc,
  ...bytesRows,
  connections,
  handshakes,
  websocket,
  ...memoryRows,
  scrapeRow,
  routesRow,
  rulesRow,
];
