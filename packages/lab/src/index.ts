/** Questions without traffic: what would happen to a request, asked of the same engine that the proxies run. */
export * from './authz.ts';
export * from './explain.ts';
export { explore, type Leaf } from './explore.ts';
export { headOf } from './http.ts';
export * from './mesh.ts';
export * from './render.ts';
export * from './suggest.ts';
export * from './types.ts';
