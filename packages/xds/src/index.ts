/** Delta ADS, wire-compatible with Envoy's, for any resource types. */
export * from './channel.ts';
export * from './client.ts';
export { diff, type Resource, type Resources } from './diff.ts';
export type { Node } from './gen/envoy/config/core/v3/base_pb.js';
export { AggregatedDiscoveryService } from './gen/envoy/service/discovery/v3/ads_pb.js';
export * from './gen/envoy/service/discovery/v3/discovery_pb.js';
export * from './handler.ts';
export { ADS_PREFIX } from './paths.ts';
export { AsyncQueue } from './queue.ts';
export * from './server.ts';
export { DeltaSession, type Layers, type TypeStatus } from './session.ts';
