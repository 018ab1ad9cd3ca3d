/** The data plane: a sidecar's proxy. */

export { type Admin, startAdmin } from './admin/server.ts';
export type { AdminState } from './admin/state.ts';
export * from './bootstrap.ts';
export { DataPlane, type DataPlaneOptions } from './data-plane.ts';
export type { EntranceBootstrap } from './entrance/main.ts';
export type { ProxyLimits } from './limits.ts';
export type { Handshake, ProbedEndpoint, ProbedService } from './link/probe.ts';
export { main } from './main.ts';
export { loopbackConnector } from './net/dial.ts';
export * from './observe/types.ts';
export type * from './state.ts';
