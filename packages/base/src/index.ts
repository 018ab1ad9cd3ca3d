export * from './backoff.ts';
export * from './clock.ts';
export * from './errors.ts';
export * from './grpc-status.ts';
export * from './ip.ts';
export * from './logger.ts';
export * from './random.ts';
