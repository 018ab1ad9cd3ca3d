/**
 * Brings every connected proxy to the current state: changed resources only, soon after a change, several changes at once.
 * Of endpoints, which change most, those proxies hear at once that named them: they use them. The others hear in turns.
 */
import { Code, ConnectError } from '@connectrpc/connect';
import type { Clock, Logger, Timer } from '@weft/base';
import type { Instance, ServiceModel } from '@weft/model';
import { ENDPOINTS_TYPE, PART_TYPE, REFERENCES_TYPE } from '@weft/plan';
import { type AdsStream, type AdsSubscriber, diff, type Node } from '@weft/xds';
import type { MeshTrust } from '../ca/trust.ts';
import type { Mesh, MeshChange } from '../mesh.ts';
import type { Peer } from '../peer.ts';
import { Renderer, TYPES } from './render.ts';
import { Turns } from './turns.ts';

const DEBOUNCE_MS = 10;
const DEBOUNCE_MAX_MS = 100;
/** A proxy costs some 0.15 ms: a third of one processor where endpoints change all the time (decision 011). */
export const DEFAULT_TURNS_PER_SECOND = 4000;

/** As `istioctl proxy-status` has them; NOT SENT means that there was nothing to send. */
export type ProxyState = 'SYNCED' | 'STALE' | 'NOT SENT' | 'ERROR' | 'DISCONNECTED';

export interface ProxyStatus {
  instance: string;
  workload: string;
  namespace: string;
  status: ProxyState;
  /** The epoch that the proxy last accepted; 0: none yet. */
  epoch: number;
  /** Milliseconds since its last answer, or since it went away. -1: never seen. */
  ageMs: number;
  /** Why it refused the newest change. */
  error: string;
}

const NO_CERTIFICATE = { serial: '', notBeforeMs: 0, notAfterMs: 0 };

interface Proxy {
  instance: string;
  identity: string;
  /** Of the certificate it connected with. */
  peer: Peer;
  stream: AdsStream | undefined;
  epoch: number;
  error: string;
  changedAtMs: number;
}

/** Somebody who waits until all proxies hold endpoints of a round or newer. */
interface Waiter {
  readonly round: number;
  /** Proxies that do not, of those that are connected. */
  readonly behind: Set<Proxy>;
  readonly done: () => void;
}

export interface PusherCounters {
  pushes: number;
  rejects: number;
  /** Of the pushes: endpoints in turns. */
  inTurn: number;
}

export class Pusher {
  readonly #mesh: Mesh;
  readonly #trust: MeshTrust;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #proxies = new Map<string, Proxy>();
  readonly counters: PusherCounters = { pushes: 0, rejects: 0, inTurn: 0 };
  #timer: Timer | undefined;
  #firstChangeMs = 0;
  readonly #renderer = new Renderer();
  /** What happened since the last push. */
  #newEpoch = true;
  #newTrust = true;
  #changed: Instance[] = [];
  #renamed: ServiceModel[] = [];
  /** Counts states of the endpoints, since they are no part of an epoch. */
  #endpointsRound = 0;
  readonly #waiters = new Set<Waiter>();
  /** Proxies that lack endpoints which they did not ask for by name. */
  readonly #turns: Turns<Proxy>;

  /** `turnsPerSecond`: how many proxies in a second hear of endpoints that they did not name. */
  constructor(
    mesh: Mesh,
    trust: MeshTrust,
    logger: Logger,
    clock: Clock,
    turnsPerSecond: number = DEFAULT_TURNS_PER_SECOND,
  ) {
    this.#mesh = mesh;
    this.#trust = trust;
    this.#logger = logger;
    this.#clock = clock;
    this.#turns = new Turns(clock, turnsPerSecond, (proxy) => {
      this.counters.inTurn++;
      this.#pushEndpoints(proxy);
    });
    this.#render();
    mesh.onChange((change) => this.#note(change));
    trust.onChange(() => {
      this.#newTrust = true;
      this.#schedule();
      this.#flush();
    });
  }

  /** Judges a proxy that connects: its verified identity must be that of the instance it says to be. */
  accept(stream: AdsStream, node: Node, peer: Peer): AdsSubscriber {
    const instance = this.#mesh.instance(node.id);
    if (!instance) {
      throw new ConnectError(
        `no instance ${JSON.stringify(node.id.slice(0, 200))} is registered in mesh: it comes with its process`,
        Code.FailedPrecondition,
      );
    }
    const identity = this.#mesh.identityOf(instance);
    if (peer.spiffeId !== identity) {
      this.#logger.warn({ peer: peer.spiffeId, instance: node.id }, 'a proxy asked for the plan of another identity');
      throw new ConnectError(
        `${peer.spiffeId || 'nobody'} may not have the plan of ${node.id}, which is ${identity}`,
        Code.PermissionDenied,
      );
    }
    const before = this.#proxies.get(node.id);
    const proxy: Proxy = {
      instance: node.id,
      identity,
      peer,
      stream,
      epoch: before?.epoch ?? 0,
      error: '',
      changedAtMs: this.#clock.now(),
    };
    this.#proxies.set(node.id, proxy);
    for (const waiter of this.#waiters) waiter.behind.add(proxy);
    before?.stream?.close('replaced by a newer stream of the same proxy', Code.Aborted);
    this.#logger.info({ instance: node.id, identity }, 'proxy connected');
    this.#push(proxy);
    const onChange = (named: boolean) => {
      proxy.changedAtMs = this.#clock.now();
      this.#answered(proxy);
      // It uses what it names: that has waited long enough.
      if (named && this.#turns.has(proxy)) this.#pushEndpoints(proxy);
    };
    return { onChange, onClose: () => this.#closed(proxy) };
  }

  /** Whether all connected proxies hold the newest endpoints; resolves true then, false after `timeoutMs`. */
  settled(timeoutMs: number): Promise<boolean> {
    this.#flush();
    const round = this.#endpointsRound;
    const behind = new Set([...this.#proxies.values()].filter((p) => p.stream && roundOf(p.stream) < round));
    if (behind.size === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter = {
        ...{ round, behind },
        done: () => {
          timer.cancel();
          this.#waiters.delete(waiter);
          resolve(true);
        },
      };
      const timer = this.#clock.after(timeoutMs, () => {
        this.#waiters.delete(waiter);
        resolve(false);
      });
      this.#waiters.add(waiter);
    });
  }

  /** Of every instance that has a proxy. */
  status(): ProxyStatus[] {
    const now = this.#clock.now();
    const out: ProxyStatus[] = [];
    for (const instance of this.#mesh.instances()) {
      if (!instance.injected) continue;
      const proxy = this.#proxies.get(instance.name);
      out.push({
        instance: instance.name,
        workload: instance.workload,
        namespace: instance.namespace,
        status: this.#stateOf(proxy),
        epoch: proxy?.epoch ?? 0,
        ageMs: proxy ? Math.round(now - proxy.changedAtMs) : -1,
        error: proxy?.error ?? '',
      });
    }
    return out.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  /** How far what the mesh believes has come, of every instance that has a proxy. */
  trustStatus(): { instance: string; connected: boolean; holdsTrust: boolean; signers: readonly string[] }[] {
    const out = [];
    for (const { name, injected } of this.#mesh.instances()) {
      if (!injected) continue;
      const proxy = this.#proxies.get(name);
      const connected = proxy?.stream !== undefined;
      const holdsTrust = proxy?.stream?.status(PART_TYPE).current === true;
      out.push({ instance: name, connected, holdsTrust, signers: connected ? (proxy as Proxy).peer.signers : [] });
    }
    return out.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  /** The certificate that each proxy showed when it connected, which it does anew with each new one; 0 and '' without. */
  certificates(): { instance: string; serial: string; notBeforeMs: number; notAfterMs: number }[] {
    const injected = this.#mesh.instances().filter((i) => i.injected);
    const out = injected.map(({ name }) => {
      const proxy = this.#proxies.get(name);
      const { serial, notBeforeMs, notAfterMs } = (proxy?.stream && proxy.peer) || NO_CERTIFICATE;
      return { instance: name, serial, notBeforeMs, notAfterMs };
    });
    return out.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  /** Proxies that lack newer endpoints, of those that they did not name. */
  get waiting(): number {
    return this.#turns.size;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#turns.stop();
    for (const proxy of this.#proxies.values()) proxy.stream?.close('the control plane stops');
  }

  #stateOf(proxy: Proxy | undefined): ProxyState {
    if (!proxy?.stream) return 'DISCONNECTED';
    const types = TYPES.map((type) => proxy.stream!.status(type));
    if (types.some((t) => t.error !== undefined)) return 'ERROR';
    if (types.every((t) => t.sent === 0)) return 'NOT SENT';
    const current = String(this.#mesh.epoch);
    if (this.#turns.has(proxy) || types.some((t) => t.pending) || proxy.stream.status(PART_TYPE).acked !== current)
      return 'STALE';
    return 'SYNCED';
  }

  #answered(proxy: Proxy): void {
    const { stream } = proxy;
    if (!stream) return;
    const acked = stream.status(PART_TYPE).acked;
    if (acked !== undefined) proxy.epoch = Number(acked);
    const refused = TYPES.map((type) => stream.status(type).error).find((e) => e !== undefined);
    if (refused !== undefined && refused !== proxy.error) {
      this.counters.rejects++;
      this.#logger.error(
        { instance: proxy.instance, error: refused },
        'a proxy refused its plan and keeps the last one',
      );
    }
    proxy.error = refused ?? '';
    if (this.#waiters.size > 0) this.#wake(proxy, roundOf(stream));
  }

  #closed(proxy: Proxy): void {
    proxy.stream = undefined;
    this.#turns.delete(proxy);
    proxy.changedAtMs = this.#clock.now();
    if (!this.#mesh.instance(proxy.instance) && this.#proxies.get(proxy.instance) === proxy)
      this.#proxies.delete(proxy.instance);
    this.#logger.info({ instance: proxy.instance }, 'proxy disconnected');
    this.#wake(proxy, Number.POSITIVE_INFINITY);
  }

  /** The proxy holds that round now; who is away is waited for no longer. */
  #wake(proxy: Proxy, round: number): void {
    for (const waiter of this.#waiters) {
      if (round >= waiter.round && waiter.behind.delete(proxy) && waiter.behind.size === 0) waiter.done();
    }
  }

  #note(change: MeshChange): void {
    if (change.kind === 'epoch' || change.kind === 'keys') this.#newEpoch = true;
    else if (change.kind === 'name') this.#renamed.push(...change.services);
    else {
      for (const instance of [change.before, change.after]) if (instance) this.#changed.push(instance);
      if (!change.after && change.before) this.#renderer.forget(change.before.name);
    }
    this.#schedule();
  }

  #schedule(): void {
    const now = this.#clock.now();
    if (!this.#timer) this.#firstChangeMs = now;
    this.#timer?.cancel();
    const waitMs = Math.max(0, Math.min(DEBOUNCE_MS, this.#firstChangeMs + DEBOUNCE_MAX_MS - now));
    this.#timer = this.#clock.after(waitMs, () => this.#flush());
  }

  #flush(): void {
    if (!this.#timer) return;
    this.#timer.cancel();
    this.#timer = undefined;
    // Routes may lead to endpoints that were there before them.
    if (this.#newEpoch) this.#turns.finish();
    const all = this.#newEpoch || this.#newTrust;
    const before = this.#renderer.endpoints;
    this.#render();
    const { updated, removed } = diff(before, this.#renderer.endpoints);
    const changed: ReadonlySet<string> = new Set([...updated.map((u) => u.name), ...removed]);
    for (const proxy of this.#proxies.values()) {
      if (all || !this.#renderer.isKept(this.#mesh.instance(proxy.instance))) this.#push(proxy);
      else if (names(proxy, changed)) this.#pushEndpoints(proxy);
      else if (proxy.stream && changed.size > 0) this.#turns.add(proxy);
    }
    this.#turns.begin();
  }

  #render(): void {
    this.#renderer.trust(this.#trust.part);
    const { model, epoch } = this.#mesh;
    if (!model) return;
    const before = this.#renderer.endpoints;
    const moved = this.#changed.length + this.#renamed.length > 0;
    if (this.#newEpoch) this.#renderer.epoch(model, this.#mesh.runtime(), epoch, moved);
    else this.#renderer.instances(this.#mesh.runtime(), this.#changed, this.#renamed);
    this.#newEpoch = false;
    this.#newTrust = false;
    this.#changed = [];
    this.#renamed = [];
    if (this.#renderer.endpoints !== before) this.#endpointsRound++;
  }

  /** Where nothing else is new to the proxy: looking for that costs more than this. */
  #pushEndpoints(proxy: Proxy): void {
    this.#turns.delete(proxy);
    const layers = [this.#renderer.endpoints];
    proxy.stream?.update([{ type: ENDPOINTS_TYPE, layers, label: String(this.#endpointsRound) }]);
    this.counters.pushes++;
    this.#answered(proxy);
  }

  #push(proxy: Proxy): void {
    const { stream } = proxy;
    this.#turns.delete(proxy);
    if (!stream) return;
    const instance = this.#mesh.instance(proxy.instance);
    if (!instance || this.#mesh.identityOf(instance) !== proxy.identity) {
      stream.close('the instance is no longer registered under this identity', Code.FailedPrecondition);
      return;
    }
    // Of what is made: the mesh may be at the next already.
    const epoch = this.#renderer.epochMade;
    if (epoch === undefined) return;
    try {
      const { parts, references, endpoints } = this.#renderer.of(instance);
      const label = String(epoch);
      stream.update([
        { type: REFERENCES_TYPE, layers: references, label },
        { type: PART_TYPE, layers: parts, label },
        { type: ENDPOINTS_TYPE, layers: endpoints, label: String(this.#endpointsRound) },
      ]);
      this.counters.pushes++;
      this.#answered(proxy);
    } catch (error) {
      this.#logger.error(
        { instance: proxy.instance, error: String(error) },
        'making a plan failed; the proxy keeps its last one',
      );
    }
  }
}

/** Whether the proxy asked by name for any of these endpoints. */
function names({ stream }: Proxy, changed: ReadonlySet<string>): boolean {
  if (!stream) return false;
  const asked = stream.names(ENDPOINTS_TYPE);
  const [few, many] = asked.size < changed.size ? [asked, changed] : [changed, asked];
  for (const name of few) if (many.has(name)) return true;
  return false;
}

/** Of the endpoints that the proxy last accepted; -1: none yet. */
function roundOf(stream: AdsStream): number {
  return Number(stream.status(ENDPOINTS_TYPE).acked ?? -1);
}
