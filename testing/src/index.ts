export { seededRandom, VirtualClock } from '@weft/base';
export * from './leaks.ts';
