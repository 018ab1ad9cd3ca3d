/** The files people write → the model, with every problem found on the way. */
export * from './load.ts';
export type { Problem } from './problems.ts';
