/** What one proxy needs to know and says back: messages of `proto/weft`, and the names of xDS types and resources. */
/** For messages that others define and that have no types here (OTLP): by far faster than by reflection. */
export { BinaryWriter } from '@bufbuild/protobuf/wire';
export * from './gen/envoy/service/auth/v3/external_auth_pb.js';
export * from './gen/istio/v1/auth/ca_pb.js';
export * from './gen/spiffe/workload_pb.js';
export * from './gen/weft/control/v1/control_pb.js';
export * from './gen/weft/plan/v1/plan_pb.js';
export * from './names.ts';
export * from './redact.ts';
export * from './token-keys.ts';
export * from './unknown.ts';
