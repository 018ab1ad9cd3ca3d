import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerHttp2Stream } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { seededRandom, silentLogger, VirtualClock } from '@weft/base';
import { loadFiles } from '@weft/config';
import type { Instance } from '@weft/model';
import { ENDPOINTS_TYPE, PART_TYPE } from '@weft/plan';
import {
  ADS_PREFIX,
  type AdsHandler,
  createAdsHandler,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type Layers,
} from '@weft/xds';
import type { MeshTrust } from '../ca/trust.ts';
import { Mesh } from '../mesh.ts';
import type { Peer } from '../peer.ts';
import { State } from '../state.ts';
import { Pusher } from './pusher.ts';
import { Renderer, TYPES } from './render.ts';

const APPS = ['web', 'cart', 'payment', 'stock', 'mail'];
const endpointsOf = (app: string): string => `endpoints/${app}.shop.svc.cluster.local:8080`;

function manifest(weights: ReadonlyMap<string, number>): string {
  const docs = ['apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n'];
  for (const app of APPS) {
    const weight = weights.get(app) ?? 50;
    docs.push(`apiVersion: v1
kind: Service
metadata: {name: ${app}, namespace: shop}
spec: {selector: {app: ${app}}, ports: [{name: http, port: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${app}, namespace: shop, labels: {app: ${app}}}
spec: {command: ["true"], ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${app}, namespace: shop}
spec:
  hosts: [${app}]
  http:
  - match: [{uri: {prefix: /old}}]
    route: [{destination: {host: ${app}}, weight: ${weight}}, {destination: {host: web}, weight: ${100 - weight}}]
  - route: [{destination: {host: ${app}}}]
`);
  }
  // A limit of all replicas together: who is beside an instance is in its own parts.
  docs.push(`apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: limited, namespace: shop}
spec: {podSelector: {matchLabels: {version: v1}}, port: 8080, accessPolicy: all-unauthenticated}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: limited, namespace: shop, annotations: {weft.dev/rate-limit-scope: service}}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: limited}, total: {requestsPerSecond: 100}}
`);
  return docs.join('---\n');
}

const instance = (app: string, n: number): Instance =>
  ({
    ...{ name: `${app}-${n}`, workload: app, namespace: 'shop', serviceAccount: 'default', labels: { app } },
    ...{ address: `10.0.${APPS.indexOf(app)}.${n}`, dialAddress: '', ports: [{ number: 8080, name: 'http' }] },
    ...{ injected: true, ready: true, draining: false, gateway: false },
  }) as Instance;

/** A control plane without network and certificates, and proxies on the other end of its streams. */
class Bench {
  readonly clock = new VirtualClock();
  readonly mesh: Mesh;
  readonly pusher: Pusher;
  readonly ads: AdsHandler<Peer>;
  readonly #trust = { part: Buffer.from('trust'), onChange() {} };
  #weights = new Map<string, number>();

  constructor(t: TestContext, perApp: number, turnsPerSecond: number) {
    const dir = mkdtempSync(join(tmpdir(), 'weft-pusher-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const config = { mesh: 'm', stateDir: dir, files: [], listen: { xds: { host: '', port: 0 } }, socket: '' };
    this.mesh = new Mesh({
      ...{ config: { ...config, capture: 'transparent' }, state: new State(dir, silentLogger), load: loadFiles },
      ...{ logger: silentLogger, clock: this.clock },
    });
    t.after(() => this.mesh.stop());
    this.weight('web', 50);
    for (const app of APPS) for (let n = 0; n < perApp; n++) this.mesh.putInstance(instance(app, n));
    const trust = this.#trust as unknown as MeshTrust;
    this.pusher = new Pusher(this.mesh, trust, silentLogger, this.clock, turnsPerSecond);
    t.after(() => this.pusher.stop());
    this.ads = createAdsHandler<Peer>({
      types: TYPES,
      accept: (stream, node, peer) => this.pusher.accept(stream, node, peer),
    });
  }

  /** An epoch. */
  weight(app: string, weight: number): void {
    this.#weights.set(app, weight);
    this.mesh.applyFiles({ files: [{ path: 'mesh.yaml', text: manifest(this.#weights) }], errors: [] });
  }

  ready(name: string, ready: boolean): void {
    this.mesh.putInstance({ ...(this.mesh.instance(name) as Instance), ready });
  }

  /** What a control plane that starts now would give. */
  wanted(name: string): Record<string, string>[] {
    const anew = new Renderer();
    anew.trust(this.#trust.part);
    anew.epoch(this.mesh.model!, this.mesh.runtime(), this.mesh.epoch);
    const { references, parts, endpoints } = anew.of(this.mesh.instance(name) as Instance);
    return [references, parts, endpoints].map(versions);
  }

  stateOf(name: string): string | undefined {
    return this.pusher.status().find((p) => p.instance === name)?.status;
  }
}

const versions = (layers: Layers): Record<string, string> =>
  Object.fromEntries(layers.flatMap((layer) => [...layer].map(([name, r]) => [name, r.version] as const)).sort());

class FakeProxy {
  readonly name: string;
  readonly held = new Map<string, Map<string, string>>(TYPES.map((type) => [type, new Map()]));
  readonly names = new Set<string>();
  /** Types of what it applied, in order. */
  readonly seen: string[] = [];
  /** What came and is not answered yet; `slow`: it stays so until `answer`. */
  readonly inbox: DeltaDiscoveryResponse[] = [];
  slow = false;
  #bytes = Buffer.alloc(0);
  #wire: EventEmitter | undefined;
  readonly #bench: Bench;

  constructor(bench: Bench, name: string) {
    this.#bench = bench;
    this.name = name;
    this.connect();
  }

  connect(): void {
    this.#wire?.emit('close');
    this.inbox.length = 0;
    this.#bytes = Buffer.alloc(0);
    const wire = Object.assign(new EventEmitter(), {
      ...{ destroyed: false, closed: false },
      ...{ respond() {}, close() {}, end() {}, sendTrailers() {} },
      write: (piece: Buffer) => this.#take(piece),
    });
    this.#wire = wire;
    const spiffeId = 'spiffe://cluster.local/ns/shop/sa/default';
    const headers = { ':path': `${ADS_PREFIX}DeltaAggregatedResources`, 'content-type': 'application/grpc' };
    const peer = { spiffeId, serial: '', notBeforeMs: 0, notAfterMs: 0, signers: [] } as unknown as Peer;
    this.#bench.ads(wire as unknown as ServerHttp2Stream, headers, peer);
    for (const [type, held] of this.held) {
      const resourceNamesSubscribe = type === ENDPOINTS_TYPE && this.names.size > 0 ? ['*', ...this.names] : [];
      const initialResourceVersions = Object.fromEntries(held);
      this.#send({ node: { id: this.name }, typeUrl: type, resourceNamesSubscribe, initialResourceVersions });
    }
  }

  use(app: string): void {
    this.names.add(endpointsOf(app));
    this.#send({ typeUrl: ENDPOINTS_TYPE, resourceNamesSubscribe: [endpointsOf(app)] });
  }

  forget(app: string): void {
    if (this.names.delete(endpointsOf(app)))
      this.#send({ typeUrl: ENDPOINTS_TYPE, resourceNamesUnsubscribe: [endpointsOf(app)] });
  }

  version(app: string): string | undefined {
    return this.held.get(ENDPOINTS_TYPE)!.get(endpointsOf(app));
  }

  count(type: string): number {
    return this.seen.filter((s) => s === type).length;
  }

  answer(): void {
    for (const response of this.inbox.splice(0)) {
      const held = this.held.get(response.typeUrl)!;
      for (const { name, version } of response.resources) held.set(name, version);
      for (const name of response.removedResources) held.delete(name);
      if (response.resources.length + response.removedResources.length > 0) this.seen.push(response.typeUrl);
      this.#send({ typeUrl: response.typeUrl, responseNonce: response.nonce });
    }
  }

  #send(init: MessageInitShape<typeof DeltaDiscoveryRequestSchema>): void {
    const body = toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, init));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    this.#wire!.emit('data', Buffer.concat([head, body]));
  }

  #take(piece: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, piece]);
    while (this.#bytes.length >= 5 && this.#bytes.length >= 5 + this.#bytes.readUInt32BE(1)) {
      const end = 5 + this.#bytes.readUInt32BE(1);
      this.inbox.push(fromBinary(DeltaDiscoveryResponseSchema, this.#bytes.subarray(5, end)));
      this.#bytes = this.#bytes.subarray(end);
    }
    // As over a network: not before who sends it has done so.
    if (!this.slow) this.#bench.clock.after(0, () => this.slow || this.answer());
  }
}

function connected(bench: Bench, perApp: number): FakeProxy[] {
  const proxies = APPS.flatMap((app) => Array.from({ length: perApp }, (_, n) => new FakeProxy(bench, `${app}-${n}`)));
  bench.clock.advance(5000);
  for (const proxy of proxies) {
    assert.equal(bench.stateOf(proxy.name), 'SYNCED');
    proxy.seen.length = 0;
  }
  return proxies;
}

test('who uses a service hears of its endpoints at once, the others in turns, each once and all in time', async (t) => {
  // 10 a turn of 10 ms.
  const bench = new Bench(t, 20, 1000);
  const proxies = connected(bench, 20);
  const users = proxies.filter((p) => p.name.startsWith('stock')).slice(5, 8);
  for (const user of users) {
    user.use('payment');
    user.use('mail');
  }
  bench.clock.advance(10);
  const before = proxies[0]!.version('payment');
  const hear = (): FakeProxy[] => proxies.filter((p) => p.version('payment') !== before);
  const turned = bench.pusher.counters.inTurn;

  bench.ready('payment-3', false);
  bench.clock.advance(10);
  // The users, the instance itself, and the first turn.
  assert.equal(hear().length, users.length + 1 + 10);
  assert.ok(users.every((u) => hear().includes(u)));
  assert.equal(bench.pusher.waiting, 100 - 14);
  const last = proxies.at(-1)!;
  assert.deepEqual([bench.stateOf(users[0]!.name), bench.stateOf(last.name)], ['SYNCED', 'STALE']);
  let settled: boolean | undefined;
  void bench.pusher.settled(5000).then((all) => {
    settled = all;
  });

  // A newer change overtakes those that wait for the one before, and travels with it to them.
  const first = users[0]!.version('payment');
  bench.ready('payment-4', false);
  bench.clock.advance(10);
  assert.ok(users.every((u) => u.version('payment') !== first && bench.stateOf(u.name) === 'SYNCED'));
  // Who names it now does not wait for a turn.
  assert.equal(last.version('payment'), before);
  last.use('payment');
  bench.clock.advance(0);
  assert.equal(last.version('payment'), users[0]!.version('payment'));
  await Promise.resolve();
  assert.equal(settled, undefined, 'not before all have the first of them');

  // 100 proxies at 1000 a second.
  bench.clock.advance(100);
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(settled, true);
  bench.clock.advance(20);
  assert.deepEqual([bench.pusher.waiting, new Set(proxies.map((p) => p.version('payment'))).size], [0, 1]);
  assert.ok(proxies.every((p) => bench.stateOf(p.name) === 'SYNCED'));
  // Two changes: the users heard twice, and of the others those that the first turns reached.
  const twice = proxies.filter((p) => p.count(ENDPOINTS_TYPE) > 1);
  assert.ok(users.every((u) => twice.includes(u)) && twice.length <= users.length + 4 + 2 * 10, `${twice.length}`);
  assert.ok(bench.pusher.counters.inTurn - turned < 130);
  assert.ok(proxies.every((p) => p.count(PART_TYPE) === 0));

  // Forgotten, it is one of the others again.
  users[2]!.forget('payment');
  bench.clock.advance(10);
  const known = users[2]!.version('payment');
  bench.ready('payment-5', false);
  bench.clock.advance(10);
  assert.deepEqual([users[1]!.version('payment') === known, users[2]!.version('payment') === known], [false, true]);
  bench.clock.advance(200);
  assert.notEqual(users[2]!.version('payment'), known);
});

test('few proxies hear of everything at once', (t) => {
  const bench = new Bench(t, 4, 2000);
  const proxies = connected(bench, 4);
  bench.ready('cart-0', false);
  bench.clock.advance(10);
  assert.equal(bench.pusher.waiting, 0);
  assert.ok(proxies.every((p) => p.count(ENDPOINTS_TYPE) === 1 && bench.stateOf(p.name) === 'SYNCED'));
});

test('endpoints that wait for a turn go before the routes of an epoch, and before the next endpoints', (t) => {
  const bench = new Bench(t, 20, 100);
  const proxies = connected(bench, 20);
  const last = proxies.at(-1)!;
  bench.ready('payment-3', false);
  bench.clock.advance(50);
  assert.equal(last.seen.length, 0);
  bench.weight('payment', 10);
  bench.ready('payment-4', false);
  bench.clock.advance(20);
  assert.deepEqual(
    last.seen.filter((type) => type === ENDPOINTS_TYPE || type === PART_TYPE),
    [ENDPOINTS_TYPE, PART_TYPE, ENDPOINTS_TYPE],
  );
  assert.ok(proxies.every((p) => bench.stateOf(p.name) === 'SYNCED'));
});

test('a proxy that connects between the files and their plan is not said to have them', (t) => {
  const bench = new Bench(t, 1, 100);
  connected(bench, 1);
  bench.weight('payment', 10);
  const late = new FakeProxy(bench, 'cart-0');
  bench.clock.advance(5);
  assert.deepEqual([bench.stateOf('cart-0'), bench.pusher.status()[0]!.epoch], ['STALE', bench.mesh.epoch - 1]);
  bench.clock.advance(10);
  assert.equal(bench.stateOf('cart-0'), 'SYNCED');
  assert.equal(late.count(PART_TYPE), 2);
});

test('after any changes, in whatever turns, proxies hold what a control plane that starts anew gives them', (t) => {
  const seed = Number(process.env.WEFT_SEED ?? 20_261_122);
  const random = seededRandom(seed);
  const below = (n: number): number => Math.floor(random.next() * n);
  const one = <T>(of: readonly T[]): T => of[below(of.length)]!;
  const perApp = 5;
  const bench = new Bench(t, perApp, 100);
  const proxies = connected(bench, perApp);
  let checked = 0;
  for (let step = 0; step < 250; step++) {
    const proxy = one(proxies);
    const app = one(APPS);
    switch (below(10)) {
      case 0:
        bench.weight(app, below(101));
        break;
      case 1:
        proxy.use(app);
        break;
      case 2:
        proxy.forget(app);
        break;
      case 3:
        proxy.slow = true;
        break;
      case 4:
        proxy.slow = false;
        proxy.answer();
        break;
      case 5:
        proxy.connect();
        break;
      default: {
        const name = `${app}-${below(perApp)}`;
        const before = bench.mesh.instance(name)!;
        if (below(4) === 0) bench.mesh.putInstance({ ...before, labels: { app, version: `v${below(3)}` } });
        else bench.ready(name, !before.ready);
      }
    }
    bench.clock.advance(one([0, 1, 5, 10, 30, 110]));
    // Past what is waited for more of at most, without a turn for all of them.
    if (below(5) !== 0) continue;
    bench.clock.advance(101);
    const wanted = bench.wanted(proxies[0]!.name)[2]!;
    for (const p of proxies.filter((q) => !q.slow)) {
      for (const name of p.names) {
        assert.equal(
          p.held.get(ENDPOINTS_TYPE)!.get(name),
          wanted[name],
          `seed ${seed}, step ${step}: ${p.name} ${name}`,
        );
        checked++;
      }
    }
  }
  assert.ok(checked > 100, `${checked}`);
  for (const proxy of proxies) {
    proxy.slow = false;
    proxy.answer();
  }
  // 25 proxies at 100 a second.
  bench.clock.advance(101 + 260);
  assert.equal(bench.pusher.waiting, 0);
  for (const { name, held } of proxies) {
    assert.deepEqual(
      TYPES.map((type) => Object.fromEntries([...held.get(type)!].sort())),
      bench.wanted(name),
      name,
    );
    assert.equal(bench.stateOf(name), 'SYNCED', `seed ${seed}: ${name}`);
  }
});
