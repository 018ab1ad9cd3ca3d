export { bringUp, type UpOptions } from './mesh.ts';
export { buildProgram } from './program.ts';
export { column, table } from './table.ts';
