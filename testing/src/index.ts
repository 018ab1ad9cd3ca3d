export * from './leaks.ts';
export { seededRandom, VirtualClock } from '@weft/base';
