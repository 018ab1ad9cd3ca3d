/** The control plane: reads sources, pushes plans, issues certificates, collects telemetry. */
export type { MtlsCaller, MtlsPort, MtlsState, MtlsWorkload } from './api/mtls.ts';
export * from './config.ts';
export type { HostStatus } from './hosts/registry.ts';
export { main } from './main.ts';
export type { ProxyState, ProxyStatus } from './push/pusher.ts';
export { type ControlPlane, startControlPlane } from './start.ts';
