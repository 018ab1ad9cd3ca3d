export * from './blocks.ts';
export * from './detect/index.ts';
export * from './dns/index.ts';
export * from './http1/index.ts';
export * from './http2/index.ts';
export * from './lent.ts';
export * from './proxy-protocol/index.ts';
export * from './stream.ts';
