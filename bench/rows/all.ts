import { chainRows } from './chain.ts';
import type { Row } from './row.ts';

export const rows: readonly Row[] = [...chainRows];
