/** Questions without traffic: what would happen to a request, asked of the same engine that the proxies run. */
export * from './authz.ts';
export * from './calls/render.ts';
export * from './calls/tree.ts';
export { type Asked, diffMeshes, type MeshDiff } from './diff/diff.ts';
export { diffJson, renderDiff } from './diff/render.ts';
export * from './explain.ts';
export { explore, type Leaf } from './explore.ts';
export { headOf } from './http.ts';
export * from './mesh.ts';
export type { Coverage, CoveredRule } from './mesh-test/coverage.ts';
export { readMeshTests } from './mesh-test/read.ts';
export { runMeshTests, type TestRun } from './mesh-test/run.ts';
export type { Failure, MeshTest, TestResult } from './mesh-test/types.ts';
export { entrance, OUTSIDE } from './outside.ts';
export { explanationJson, renderExplanation, wrap } from './render.ts';
export * from './render-authz.ts';
export * from './suggest.ts';
export * from './types.ts';
