/** What one proxy needs to know: messages of `proto/weft/plan/v1`, and the names of its xDS types and resources. */
export * from './gen/weft/plan/v1/plan_pb.js';
export * from './names.ts';
