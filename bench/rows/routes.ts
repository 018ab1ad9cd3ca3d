/** What many routes cost a request. */
import { routesCost } from '../load/routes.ts';
import { atMost, type Row } from './row.ts';

export const routesRow: Row = {
  name: 'routes',
  what: 'the route of a request among 10,000 routes of one port, and among 10',
  kind: 'http',
  peers: [],
  figures: [
    { key: 'ratio', unit: '× the time of 10 routes', digits: 2, target: atMost(3, 'at most 3 × what 10 routes cost') },
    { key: 'many', unit: 'ns with 10,000', digits: 0 },
    { key: 'few', unit: 'ns with 10', digits: 0 },
  ],
  async measure() {
    const { fewNs, manyNs } = routesCost();
    return { ratio: manyNs / fewNs, many: manyNs, few: fewNs };
  },
};
