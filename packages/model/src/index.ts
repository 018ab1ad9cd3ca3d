/** The mesh as one immutable snapshot, and what each proxy needs to know of it. */
export * from './api-routes.ts';
export * from './authz.ts';
export * from './balancing.ts';
export * from './capture-scope.ts';
export * from './clusters.ts';
export * from './compile.ts';
export * from './endpoints.ts';
export * from './gateway.ts';
export * from './hosts.ts';
export * from './inbound.ts';
export * from './injection.ts';
export * from './labels.ts';
export * from './lookup.ts';
export * from './protocols.ts';
export * from './refs.ts';
export * from './routes.ts';
export * from './types.ts';
