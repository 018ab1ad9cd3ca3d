export * from './addresses.ts';
export * from './confine.ts';
export * from './drop.ts';
export * from './entrances.ts';
export { LoopbackRange } from './loopback.ts';
export { dropProgramPages, trimMemory } from './memory.ts';
export * from './namespaces.ts';
export * from './peer.ts';
export * from './rules.ts';
export { DENIED_SYSTEM_CALLS, denySystemCalls } from './seccomp.ts';
export {
  type Destination,
  dialMarked,
  dieWithParent,
  inNamespace,
  loadSystemCalls,
  originalDestination,
  setKeepalive,
  socketFd,
} from './sockets.ts';
