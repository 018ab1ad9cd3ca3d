/** What whatever makes parts of a plan looks things up in, and notes down. */
import type { RefTable } from './refs.ts';
import type { Model } from './types/model.ts';

export interface Compilation {
  readonly model: Model;
  /** Of the mesh that runs: the end of services' full names. */
  readonly domain: string;
  /** What the parts were made from is noted here. */
  readonly refs: RefTable;
}
