/** The files people write → the model, with every problem found on the way. */
export { CODES, type Code, type Severity } from './analysis/codes.ts';
export { type Finding, findingOf, parseSuppression, type Suppression, suppressed } from './analysis/findings.ts';
export { type EditTarget, replaceValue } from './edit.ts';
export { addFault, type FaultEdit, type FaultScope, faultFile, hasFaults, removeFault } from './fault-edit.ts';
export { FileCache } from './file-cache.ts';
export { checkHeaderName, checkLabelName } from './kinds/common.ts';
export * from './load.ts';
export { nearest, type Problem } from './problems.ts';
export { type ResourceText, resourcesOf } from './resources.ts';
export { type ObjectSchema, readSchema, type Schema } from './schema.ts';
export { isAttachment, isTestFile, MAX_FILE_BYTES, type SourceFile, sourceFile, tooLarge } from './source.ts';
export { SUPPORTED_KINDS } from './supported-kinds.ts';
export { readYaml, type Tree } from './yaml.ts';
