/** `rules`: what it costs a request that the server's proxy has many rules about who may ask for what. */
import { saturate } from '../load/wrk.ts';
import { atMost, type Figure, type Row, type Sample } from './row.ts';

const RULES = [1, 100, 10_000];
const CONNECTIONS = 16;
const WARM_SECONDS = 8;

const cost = (rules: number): Figure => ({ key: `cpu${rules}`, unit: `µs CPU/request, rules: ${rules}`, digits: 1 });
const times: Figure = { key: 'times', unit: '× the CPU of 1 rule with 10,000', digits: 2 };

export const rulesRow: Row = {
  name: 'rules',
  what: 'requests that the last of 1, 100 and 10,000 rules of paths allows',
  kind: 'http',
  peers: ['haproxy', 'envoy'],
  figures: [...RULES.map(cost), { ...times, target: atMost(2, 'at most 2 × what one rule costs') }],
  fresh: true,
  rules: RULES,
  async measure({ stage, chain, seconds, quick }) {
    await saturate(stage, chain, { connections: CONNECTIONS, seconds: quick ? 2 : WARM_SECONDS });
    const m = await saturate(stage, chain, { connections: CONNECTIONS, seconds });
    return { [`cpu${stage.rules}`]: m.cpuUsPerRequest };
  },
  derive(samples) {
    const last = `cpu${RULES.at(-1)}`;
    const compared = (s: Sample): Sample => ({ ...s, times: s[last]! / s.cpu1! });
    return new Map([...samples].map(([peer, all]) => [peer, all.map(compared)]));
  },
};
