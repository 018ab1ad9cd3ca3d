/** What it costs to find the route of a request, among few routes and among many. */
import { create } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { buildSnapshot, findServiceByAuthority, type RouteView, routeHttp } from '@weft/engine';
import { PartSchema, Protocol } from '@weft/plan';

export interface RoutesCost {
  /** Of one decision, in processor time. */
  fewNs: number;
  manyNs: number;
}

const FEW = 10;
const MANY = 10_000;
const ROUNDS = 15;
const DECISIONS = 100_000;

/** Half of the routes by exact paths, half by prefixes; every third asks for a header too. */
function viewOf(count: number): RouteView {
  const http = Array.from({ length: count }, (_, i) => {
    const kind = { case: i % 2 === 0 ? ('exact' as const) : ('prefix' as const), value: pathOf(i) };
    const headers = i % 3 === 0 ? [{ name: 'x-tier', value: { kind: { case: 'exact' as const, value: 'gold' } } }] : [];
    const clusters = [{ ref: `to-${i}`, cluster: 'outbound|80||shop.bench', weight: 100 }];
    return { ref: `route-${i}`, match: [{ ref: `match-${i}`, uri: { kind }, headers }], clusters };
  });
  const ports = [{ port: 80, protocol: Protocol.HTTP, http }];
  const part = create(PartSchema, { kind: { case: 'service', value: { host: 'shop.bench', ports } } });
  return findServiceByAuthority(buildSnapshot([part], []), 'shop.bench', 80)!;
}

/** In one piece, as what is read from the network is. */
function pathOf(i: number): string {
  return Buffer.from(`/shop/${i % 97}/items/${i}`).toString('latin1');
}

/** A caller's own: what one proxy is asked for again and again, anywhere in the table. */
function requestsFor(count: number): string[][] {
  const random = seededRandom(7);
  return Array.from({ length: 200 }, () => [
    ...[
      ':method',
      'GET',
      ':scheme',
      'http',
      ':authority',
      'shop.bench',
      ':path',
      pathOf(Math.floor(random.next() * count)),
    ],
    ...[
      'user-agent',
      'bench',
      'accept',
      '*/*',
      'x-tier',
      'gold',
      'x-request-id',
      '0d1f6a52-8f0e-4f5c-9a55-1b7b2f5d1c11',
    ],
  ]);
}

function round(view: RouteView, requests: readonly string[][]): number {
  const random = seededRandom(1);
  const before = process.threadCpuUsage();
  for (let i = 0; i < DECISIONS; i++) {
    if (routeHttp(view, requests[i % requests.length], random).kind !== 'forward')
      throw new Error('no route was found');
  }
  const { user, system } = process.threadCpuUsage(before);
  return ((user + system) * 1000) / DECISIONS;
}

/** Few and many in turn, the median of each. */
export function routesCost(): RoutesCost {
  const few = { view: viewOf(FEW), requests: requestsFor(FEW), ns: [] as number[] };
  const many = { view: viewOf(MANY), requests: requestsFor(MANY), ns: [] as number[] };
  for (let i = 0; i < ROUNDS; i++) for (const side of [few, many]) side.ns.push(round(side.view, side.requests));
  const median = (list: number[]): number => list.sort((a, b) => a - b)[list.length >> 1];
  return { fewNs: median(few.ns), manyNs: median(many.ns) };
}
