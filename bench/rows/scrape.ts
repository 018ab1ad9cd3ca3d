/** What a scrape costs the traffic beside it. */
import { scrape } from '../load/scrape.ts';
import { atMost, type Row } from './row.ts';

export const scrapeRow: Row = {
  name: 'scrape',
  what: 'one scrape of 10,000 label sets: the turns of the loop while it is written',
  kind: 'http',
  peers: [],
  figures: [
    { key: 'stall', unit: 'ms longest turn', digits: 1, target: atMost(10, 'at most 10 ms') },
    { key: 'p99', unit: 'ms p99 turn', digits: 2 },
    { key: 'total', unit: 's in all', digits: 1 },
  ],
  async measure() {
    const s = await scrape();
    return { stall: s.longestMs, p99: s.p99Ms, total: s.totalMs / 1000 };
  },
};
