export * from './stream.ts';
export * from './http2/index.ts';
