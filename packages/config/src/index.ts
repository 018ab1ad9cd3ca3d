/** The files people write → the model, with every problem found on the way. */
export { CODES, type Code, type Severity } from './analysis/codes.ts';
export { type Finding, findingOf, parseSuppression, type Suppression, suppressed } from './analysis/findings.ts';
export * from './load.ts';
export type { Problem } from './problems.ts';
export { MAX_FILE_BYTES, type SourceFile, sourceFile, tooLarge } from './source.ts';
