/** Keeps one workload's certificate fresh. */
import {
  backoffMs,
  type Clock,
  type Logger,
  type Random,
  silentLogger,
  systemClock,
  systemRandom,
  type Timer,
} from '@weft/base';
import { createKeyAndCsr, type KeyAndCsr } from './request.ts';
import {
  assembleIdentity,
  type Identity,
  isUnder,
  readIdentity,
  removeIdentity,
  type Trust,
  withTrust,
  writeIdentity,
} from './store.ts';

const RENEW_AT = 0.5; // Istio's SECRET_GRACE_PERIOD_RATIO
const RENEW_JITTER = 0.05;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 150_000;
const CHECK_MS = 1000;
/** Over so long the workloads of a mesh spread when all need a certificate by a new issuer. */
const REISSUE_SPREAD_MS = 3000;
/** How soon the Workload API is asked again after the CA had to stand in for it. */
const STANDIN_MS = 10_000;
/** Of the own certificate's life: with less than this left the CA stands in. */
const STANDIN_AT = 0.25;

export interface IdentityClientOptions {
  /** Asks the CA; rejects where it cannot be reached or refuses. */
  signCsr(csrPem: string): Promise<{ chainPem: string; rootPem: string }>;
  /**
   * Asks the SPIFFE Workload API on this socket, where `Trust.workloadApi` names one, for key and certificate of an id.
   * Without it the CA is asked all the same.
   */
  askWorkloadApi?(socket: string, spiffeId: string): Promise<{ keyPem: string; chainPem: string }>;
  /** Where the identity is kept (0700); undefined keeps it in memory only. */
  dir?: string;
  /** The id this workload must get; another one from the CA, or in the folder, is not used. */
  spiffeId?: string;
  /** The roots of now, where they are known: a stored identity under none of them is not used. */
  rootPem?: string | undefined;
  clock?: Clock;
  random?: Random;
  logger?: Logger;
  onRotate?(identity: Identity, previous: Identity | undefined): void;
}

/**
 * Gets a certificate, renews it at half of its life ± jitter, and keeps a valid one when renewal fails. Wall time is
 * looked at each second instead of by one long timer, so that a clock that jumps or a machine that slept is noticed.
 */
export class IdentityClient {
  readonly #options: IdentityClientOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #listeners = new Set<(identity: Identity, previous: Identity | undefined) => void>();
  #identity: Identity | undefined;
  #trust: Trust | undefined;
  #renewAtWallMs = 0;
  #attempt = 0;
  /** Asked with, and not yet answered by a certificate that is kept. */
  #request: KeyAndCsr | undefined;
  #notBeforeMs = 0; // monotonic time of the next attempt
  #asking = false;
  #timer: Timer | undefined;
  #stopped = false;
  #waiters: (() => void)[] = [];

  constructor(options: IdentityClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#logger = options.logger ?? silentLogger;
    if (options.onRotate) this.#listeners.add(options.onRotate);
  }

  /** Uses the stored identity while it is valid, else asks until it has one. Resolves with a valid identity, or at stop(). */
  async start(): Promise<void> {
    if (this.#options.dir && !this.#identity) {
      try {
        const stored = readIdentity(this.#options.dir);
        const { rootPem } = this.#options;
        const believed = stored && (rootPem === undefined || isUnder(stored, rootPem));
        if (believed && this.#usable(stored)) this.#adopt(stored, stored.notBeforeMs);
      } catch (error) {
        this.#logger.warn({ error: String(error) }, 'stored identity is not used');
      }
    }
    this.#check();
    if (!this.valid && !this.#stopped) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** The newest identity, undefined before the first. It may have expired where the CA was away too long: see `valid`. */
  current(): Identity | undefined {
    return this.#identity;
  }

  /** Also false where the clock went back so far that the certificate is one of the future: nobody believes it then. */
  get valid(): boolean {
    return this.#identity !== undefined && inTime(this.#identity, this.#clock.wall());
  }

  /** Wall milliseconds of the planned renewal. */
  get renewAtMs(): number {
    return this.#renewAtWallMs;
  }

  /** Called after each change, never before the new identity is stored. Returns what takes the listener off. */
  onRotate(listener: (identity: Identity, previous: Identity | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Believes others by this from now on; a certificate by another key than the one that signs now is renewed soon. Where
   * the own certificate's root is no longer among the roots, it is still shown: who else believes it is theirs to say.
   * One that is revoked is not kept: after a restart a token is shown instead, which gets another.
   */
  setTrust(trust: Trust): void {
    this.#trust = trust;
    const previous = this.#identity;
    if (!previous) return;
    const fromCa = previous.signers.includes(trust.issuer);
    if (fromCa === this.#asksWorkloadApi)
      this.#renewAtWallMs = Math.min(this.#renewAtWallMs, this.#clock.wall() + this.#random.next() * REISSUE_SPREAD_MS);
    this.#identity = withTrust(previous, trust);
    const { dir } = this.#options;
    if (trust.bundle.revocations.refusesCertificate(previous.issuer, previous.serial)) {
      this.#logger.error(
        { serial: previous.serial },
        'the own certificate is revoked: restart the workload for another',
      );
      if (dir) removeIdentity(dir);
    } else this.#store(this.#identity);
    this.#tell(previous);
  }

  get #asksWorkloadApi(): boolean {
    return this.#options.askWorkloadApi !== undefined && (this.#trust?.workloadApi ?? '') !== '';
  }

  #store(identity: Identity): void {
    if (this.#options.dir) writeIdentity(this.#options.dir, identity);
  }

  #usable(identity: Identity): boolean {
    const { spiffeId } = this.#options;
    return inTime(identity, this.#clock.wall()) && (!spiffeId || identity.spiffeId === spiffeId);
  }

  #check(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(CHECK_MS, () => this.#check());
    const due = !this.valid || this.#clock.wall() >= this.#renewAtWallMs;
    if (due && !this.#asking && this.#clock.now() >= this.#notBeforeMs) void this.#renew();
  }

  async #renew(): Promise<void> {
    this.#asking = true;
    try {
      const own = await this.#fromWorkloadApi();
      const { keyPem, chainPem, rootPem } = own ?? (await this.#fromCa());
      if (this.#stopped) return;
      const roots = this.#trust?.rootPem ?? rootPem;
      const made = assembleIdentity({ keyPem, chainPem, rootPem: roots });
      const identity = this.#trust ? withTrust(made, this.#trust) : made;
      if (!this.#usable(identity))
        throw new Error(
          `the CA answered with ${identity.spiffeId}, valid to ${new Date(identity.notAfterMs).toISOString()}`,
        );
      this.#store(identity);
      this.#request = undefined;
      this.#attempt = 0;
      this.#notBeforeMs = 0;
      this.#adopt(identity, Math.min(this.#clock.wall(), identity.notAfterMs));
      if (!own && this.#asksWorkloadApi)
        this.#renewAtWallMs = Math.min(this.#renewAtWallMs, this.#clock.wall() + STANDIN_MS);
    } catch (error) {
      const ceiling = backoffMs(this.#attempt, 2 * BACKOFF_MIN_MS, BACKOFF_MAX_MS - BACKOFF_MIN_MS, this.#random);
      // A short-lived certificate gets several chances before it ends.
      const left = this.#identity && this.valid ? (this.#identity.notAfterMs - this.#clock.wall()) / 4 : BACKOFF_MAX_MS;
      const waitMs = BACKOFF_MIN_MS + Math.min(ceiling, left);
      this.#attempt++;
      this.#notBeforeMs = this.#clock.now() + waitMs;
      this.#logger.warn(
        { error: String(error), attempt: this.#attempt, waitMs: Math.round(waitMs), haveValid: this.valid },
        'no certificate from the control plane; trying again',
      );
      // The first one is waited for: do not leave it to the next whole second.
      if (!this.#identity) this.#clock.after(waitMs, () => this.#retryNow());
    } finally {
      this.#asking = false;
    }
  }

  async #fromCa(): Promise<{ keyPem: string; chainPem: string; rootPem: string }> {
    // The same key again where the answer, or the disk, failed: a one-use token is good for one key alone.
    this.#request ??= await createKeyAndCsr(this.#options.spiffeId);
    const { keyPem, csrPem } = this.#request;
    return { keyPem, ...(await this.#options.signCsr(csrPem)) };
  }

  /** Undefined where the CA is to be asked: there is no Workload API, or it is away and the own certificate ends soon. */
  async #fromWorkloadApi(): Promise<{ keyPem: string; chainPem: string; rootPem: string } | undefined> {
    const trust = this.#trust;
    const spiffeId = this.#options.spiffeId ?? this.#identity?.spiffeId;
    if (!this.#asksWorkloadApi || !trust?.workloadApi || !spiffeId || !this.#options.askWorkloadApi) return undefined;
    try {
      return { ...(await this.#options.askWorkloadApi(trust.workloadApi, spiffeId)), rootPem: trust.rootPem };
    } catch (error) {
      const own = this.#identity;
      const left = own && this.valid ? (own.notAfterMs - this.#clock.wall()) / (own.notAfterMs - own.notBeforeMs) : 0;
      if (left > STANDIN_AT) throw error;
      this.#logger.warn({ error: String(error) }, "no certificate from the Workload API: the mesh's CA stands in");
      return undefined;
    }
  }

  #retryNow(): void {
    if (this.#stopped || this.#identity || this.#asking || this.#clock.now() < this.#notBeforeMs) return;
    void this.#renew();
  }

  /** `fromMs`: where its life began, in wall time; the CA backdates `notBefore`, which would halve a short life again. */
  #adopt(identity: Identity, fromMs: number): void {
    const previous = this.#identity;
    this.#identity = identity;
    const life = identity.notAfterMs - fromMs;
    const jitter = (this.#random.next() * 2 - 1) * RENEW_JITTER;
    this.#renewAtWallMs = fromMs + life * (RENEW_AT + jitter);
    this.#tell(previous);
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  #tell(previous: Identity | undefined): void {
    const identity = this.#identity as Identity;
    for (const listener of this.#listeners) {
      try {
        listener(identity, previous);
      } catch (error) {
        this.#logger.error({ error: String(error) }, 'a listener of certificate rotation failed');
      }
    }
  }
}

/** Whether a certificate counts at this moment. */
export function inTime({ notBeforeMs, notAfterMs }: Identity, wallMs: number): boolean {
  return notBeforeMs <= wallMs && wallMs < notAfterMs;
}
