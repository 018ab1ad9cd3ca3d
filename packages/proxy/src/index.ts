/** The data plane: a sidecar's proxy. */
export * from './bootstrap.ts';
export { DataPlane, type DataPlaneOptions } from './data-plane.ts';
export type { ProxyLimits } from './limits.ts';
export { main } from './main.ts';
export { loopbackConnector } from './net/dial.ts';
export * from './observe/types.ts';
export type * from './state.ts';
