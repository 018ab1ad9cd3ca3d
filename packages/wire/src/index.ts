export * from './stream.ts';
export * from './http1/index.ts';
