export * from './access-log.ts';
export * from './edges.ts';
export * from './histogram.ts';
export * from './ids.ts';
export * from './istio.ts';
export * from './prometheus.ts';
export * from './registry.ts';
export * from './trace-context.ts';
