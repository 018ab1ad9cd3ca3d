/**
 * The links to one destination proxy (address, mesh port, identity): few, long-lived. They grow with demand, shrink when
 * idle, and are replaced before the certificates they were made with end, the new one first.
 */
import { inTime } from '@weft/identity';
import type { Deadline, Ticking, TimerOwner } from '../net/timers.ts';
import type { Asker, LanePool } from '../upstream/lane.ts';
import type { PoolLimits } from '../upstream/upstreams.ts';
import { IDLE_EXTRA_MS, Link, type LinkDeps } from './link.ts';
import { PortLanes } from './port-lanes.ts';

const STREAMS_PER_LINK = 100;
const MAX_LINKS = 128;
const IDLE_LAST_MS = 300_000;
/** Where a certificate is out of its time (a machine slept, a clock jumped), its owner is getting another just now. */
const OUT_OF_TIME = /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID|alert certificate expired/;
const OUT_OF_TIME_RETRY_MS = 200;
/** Wall time that moved so much against the monotonic one has jumped. */
const JUMP_MS = 2000;

/** Where links lead. */
export interface LinkPlace {
  /** An address; by an entrance: the server name for which that leads on. */
  readonly host: string;
  readonly port: number;
  /** The SPIFFE id that the peer must prove. */
  readonly identityId: string;
  readonly byEntrance: boolean;
}

export class LinkPool implements LanePool, Ticking, TimerOwner {
  readonly host: string;
  readonly port: number;
  readonly expected: ReadonlySet<string>;
  readonly identityId: string;
  readonly byEntrance: boolean;
  /** Nobody asked it for long, or the proxy ends: others are made in its place. */
  closed = false;
  #deps: LinkDeps;
  #links: Link[] = [];
  #waiting: Asker[] = [];
  #ports = new Map<number, PortLanes>();
  #timeoutMs = 10_000;
  #emptySinceMs = 0;
  /** Until when who waits goes on waiting for a certificate that is in its time; undefined: none is missed. */
  #certificateByMs: number | undefined;
  #retry: Deadline | undefined;
  /** Wall time less monotonic time, as it was last seen. */
  #drift: number;
  #unsettledUntilMs = 0;
  #onEmpty: (pool: LinkPool) => void;

  constructor(place: LinkPlace, deps: LinkDeps, onEmpty: (pool: LinkPool) => void) {
    const { identityId } = place;
    this.host = place.host;
    this.port = place.port;
    this.identityId = identityId;
    this.byEntrance = place.byEntrance;
    this.expected = new Set([identityId]);
    this.#deps = deps;
    this.#onEmpty = onEmpty;
    this.#drift = deps.wallMs() - deps.nowMs();
    deps.ticker.add(this);
  }

  get open(): number {
    return this.#links.length;
  }
  get streams(): number {
    let n = 0;
    for (const link of this.#links) n += link.open;
    return n;
  }

  /** The connect timeout of the cluster that asks; links are shared by clusters, so the last one counts. */
  set connectTimeoutMs(ms: number) {
    this.#timeoutMs = ms;
  }

  /** A lane is a link: for requests where the peer is a Weft proxy, else for tunnels alone. */
  ask(asker: Asker): void {
    const link = this.#pick();
    if (link) {
      hand(asker, link);
      return;
    }
    this.#waiting.push(asker);
    this.#grow();
  }

  /** For requests to a port of the peer's workload, whatever the peer understands. `h2`: what the workload speaks. */
  lanes(port: number, h2: boolean, limits: PoolLimits | undefined): LanePool {
    const key = port * 2 + (h2 ? 1 : 0);
    let lanes = this.#ports.get(key);
    if (lanes) lanes.limits = limits;
    else this.#ports.set(key, (lanes = new PortLanes(this, port, h2, this.#deps, limits)));
    return lanes;
  }

  serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#waiting[0].abandoned) {
        this.#waiting.shift();
        continue;
      }
      const link = this.#pick();
      if (!link) {
        this.#grow();
        return;
      }
      hand(this.#waiting.shift() as Asker, link);
    }
  }

  linkReady(): void {
    this.#certificateByMs = undefined;
    this.#replaceRetiring();
    this.serve();
  }

  linkLost(link: Link, reason: 'connect' | 'timeout', detail: string): void {
    const i = this.#links.indexOf(link);
    if (i >= 0) this.#links.splice(i, 1);
    if (!link.ready) {
      this.#deps.counters.count('link_connect_failed');
      this.#deps.logger.debug({ host: this.host, port: this.port, detail }, 'mesh link failed');
      if (this.#links.some((l) => !l.dead && !l.draining)) return;
      if ((OUT_OF_TIME.test(detail) || this.#jumped()) && this.#awaitCertificate()) return;
      this.#fail(reason, detail);
    } else {
      this.serve();
    }
  }

  #fail(reason: 'connect' | 'timeout', detail: string): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const asker of waiting) if (!asker.abandoned) asker.onUnavailable(reason, detail);
  }

  /**
   * A certificate is missed: who waits does so for another moment, in all as long as for a link. False: that is over, and
   * until there is one nobody waits any more.
   */
  #awaitCertificate(): boolean {
    const now = this.#deps.nowMs();
    if (this.#certificateByMs === undefined) {
      this.#certificateByMs = now + this.#timeoutMs;
      this.#deps.counters.count('link_certificate_awaited');
    }
    if (now >= this.#certificateByMs) return false;
    this.#retry ??= this.#deps.timers.add(OUT_OF_TIME_RETRY_MS, this);
    return true;
  }

  /**
   * Whether the clock has jumped within the time that a link may take. Not all proxies have the new time in the same
   * moment: until they have, one takes another's certificate for one of the past or of the future, and just closes.
   */
  #jumped(): boolean {
    const now = this.#deps.nowMs();
    const drift = this.#deps.wallMs() - now;
    if (Math.abs(drift - this.#drift) > JUMP_MS) this.#unsettledUntilMs = now + this.#timeoutMs;
    this.#drift = drift;
    return now < this.#unsettledUntilMs;
  }

  /** Looks for a certificate again. */
  onTimer(): void {
    this.#retry = undefined;
    this.serve();
  }

  /** The own identity was renewed: all links made with the old one get successors. */
  rotate(): void {
    const current = this.#deps.identity();
    if (current)
      for (const link of [...this.#links]) if (link.identity.bundle !== current.bundle) link.rejudge(current);
    let any = false;
    for (const link of this.#links) {
      if (link.identity !== current) {
        link.retiring = true;
        any = true;
      }
    }
    if (any) this.#startSuccessor();
    this.#certificateByMs = undefined;
    if (this.#waiting.length > 0) this.serve();
  }

  tick(nowMs: number): void {
    const wall = this.#deps.wallMs();
    this.#jumped();
    for (const link of [...this.#links]) link.tick(nowMs, wall);
    this.#startSuccessor();
    let live = 0;
    for (const link of this.#links) if (!link.draining) live++;
    for (const link of this.#links) {
      if (!link.ready || link.draining || link.open > 0) continue;
      const limit = live > 1 ? IDLE_EXTRA_MS : IDLE_LAST_MS;
      if (nowMs - link.idleSinceMs > limit) {
        link.drain();
        live--;
      }
    }
    if (this.#links.length > 0 || this.#waiting.length > 0) this.#emptySinceMs = nowMs;
    else if (this.#emptySinceMs === 0) this.#emptySinceMs = nowMs;
    else if (nowMs - this.#emptySinceMs > IDLE_EXTRA_MS) {
      this.closed = true;
      this.#deps.ticker.delete(this);
      for (const lanes of this.#ports.values()) lanes.close();
      this.#onEmpty(this);
    }
  }

  drain(): void {
    for (const link of this.#links) link.drain();
  }

  destroy(): void {
    this.closed = true;
    this.#retry?.cancel();
    this.#deps.ticker.delete(this);
    for (const lanes of this.#ports.values()) lanes.close();
    for (const link of [...this.#links]) link.destroy();
    this.#links = [];
  }

  /** Fullest link below the mark first, so that turns batch well and others can go idle; then, at the limit, the least full. */
  #pick(): Link | undefined {
    let retiring: Link | undefined;
    let least: Link | undefined;
    for (const link of this.#links) {
      if (!link.usable) continue;
      if (link.retiring) {
        retiring ??= link;
        continue;
      }
      if (link.open < STREAMS_PER_LINK) return link;
      if (!least || link.open < least.open) least = link;
    }
    // Growing happens beside the work: until the new link is up, a busy or an old one serves.
    if (least || retiring) {
      this.#grow();
      return least && least.open < STREAMS_PER_LINK * 2 ? least : (retiring ?? least);
    }
    return undefined;
  }

  #grow(): void {
    if (this.#links.length >= MAX_LINKS) return;
    let connecting = 0;
    for (const link of this.#links) if (!link.ready) connecting++;
    if (connecting > 0 && connecting * STREAMS_PER_LINK >= this.#waiting.length) return;
    const identity = this.#deps.identity();
    if (!identity || !inTime(identity, this.#deps.wallMs())) {
      if (!this.#awaitCertificate()) setImmediate(() => this.#fail('connect', 'no valid certificate'));
      return;
    }
    this.#links.push(new Link(this, this.#deps, identity, this.#timeoutMs));
  }

  #startSuccessor(): void {
    let retiring = false;
    let fresh = false;
    for (const link of this.#links) {
      if (link.draining) continue;
      if (link.retiring) retiring = true;
      else fresh = true;
    }
    if (retiring && !fresh) this.#grow();
    else if (retiring) this.#replaceRetiring();
  }

  #replaceRetiring(): void {
    if (!this.#links.some((l) => l.usable && !l.retiring)) return;
    for (const link of this.#links) if (link.retiring) link.drain();
  }
}

function hand(asker: Asker, link: Link): void {
  if (!link.weft && asker.inside) asker.inside.askInside(asker);
  else asker.onLane(link);
}
