export * from './addresses.ts';
export * from './confine.ts';
export * from './drop.ts';
export * from './entrances.ts';
export * from './namespaces.ts';
export * from './rules.ts';
export * from './sockets.ts';
