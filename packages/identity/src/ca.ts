/** The mesh's certificate authority: signs workload certificates, and replaces its root step by step. */
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock, WeftError } from '@weft/base';
import { privateFolder, writeFileAtomic } from './files.ts';
import { type Issuer, type OpenExternal, openIssuer, type SignedCertificate } from './issuer.ts';
import { isTrustDomain, parseSpiffeId } from './spiffe.ts';

const DAY_MS = 86_400_000;
/** What a certificate's life may be: Istio's MAX_WORKLOAD_CERT_TTL, and what a mesh can still renew in time. */
export const MAX_CERT_TTL_MS = 90 * DAY_MS;
export const MIN_CERT_TTL_MS = 10_000;
/** Istio's default leaf lifetime (SECRET_TTL). */
export const DEFAULT_CERT_TTL_MS = DAY_MS;

export interface AuthorityOptions {
  /** Folder of the keys and certificates; made with mode 0700 where absent. See `openIssuer` for what may be in it. */
  dir: string;
  trustDomain: string;
  clock?: Clock;
  /** For CAs that are somebody else's; without it their root is known, and nothing is signed. */
  openExternal?: OpenExternal;
}

export interface SignOptions {
  /** The authenticated caller's id; the only name in the certificate, whatever the request says. */
  spiffeId: string;
  ttlMs: number;
}

/** stable: one root. distribute: a second one is trusted, the first signs. issue: the second signs, both are trusted. */
export type RotationPhase = 'stable' | 'distribute' | 'issue';
export type RotationStep = 'distribute' | 'issue' | 'retire' | 'back';

export interface Authority {
  readonly trustDomain: string;
  /** Every root that is trusted now: two while one replaces the other. */
  readonly rootPem: string;
  /** Wall milliseconds at which the root that signs now ends. */
  readonly rootNotAfterMs: number;
  /** The same for the certificate that signs: an intermediate's, where there is one. */
  readonly signerNotAfterMs: number;
  /** What signs now: one of the `signers` of its certificates. */
  readonly issuer: string;
  /** Which keys sign certificates that are believed now (`keyIdOf`); an empty one stands for any. */
  readonly issuers: readonly string[];
  /** Whether somebody else's service signs now. */
  readonly external: boolean;
  readonly phase: RotationPhase;
  /** Whether `back` is possible. */
  readonly reversible: boolean;
  /** Throws `identity/bad-csr`, `identity/bad-ttl` or `identity/bad-spiffe-id`. */
  sign(csrPem: string, options: SignOptions): Promise<SignedCertificate>;
  /**
   * One step of replacing the root; on disk before it counts. `from` (with distribute): a folder with the next CA's
   * files; without it an own root is made. `back` undoes the last step, also that of retiring. Throws
   * `identity/rotation` where the step does not follow, and `openIssuer`'s errors.
   */
  rotate(step: RotationStep, from?: string): Promise<void>;
  /** Called after each step. */
  onChange(listener: () => void): void;
}

/** Which folders below the CA's are which; '' is the CA's own, where the first issuer is. */
interface Generations {
  current: string;
  next?: string;
  previous?: string;
  phase: RotationPhase;
  count: number;
}

const FILE = 'rotation.json';
/** What a CA's folder may hold. */
const CA_FILES = [
  ...['ca-cert.pem', 'ca-key.pem', 'root-cert.pem', 'cert-chain.pem', 'root-key.pem'],
  ...['external.json', 'server-ca.pem', 'client-cert.pem', 'client-key.pem'],
];

/** Loads the CA of a folder, or makes one there. */
export async function createAuthority(options: AuthorityOptions): Promise<Authority> {
  const { dir, trustDomain } = options;
  const clock = options.clock ?? systemClock;
  if (!isTrustDomain(trustDomain)) {
    throw new WeftError(
      'identity/bad-trust-domain',
      `${JSON.stringify(trustDomain)} is not a trust domain: use lower case letters, digits, "-", "_" and "."`,
    );
  }
  privateFolder(dir);
  const generations = readGenerations(dir);
  const open = (name: string) => openIssuer(join(dir, name), trustDomain, clock, options.openExternal);
  const current = await open(generations.current);
  const next = generations.next === undefined ? undefined : await open(generations.next);
  return new RotatingAuthority(dir, trustDomain, open, clock, generations, current, next);
}

function readGenerations(dir: string): Generations {
  const path = join(dir, FILE);
  if (!existsSync(path)) return { current: '', phase: 'stable', count: 1 };
  try {
    const g = JSON.parse(readFileSync(path, 'utf8')) as Generations;
    const known = ['stable', 'distribute', 'issue'].includes(g.phase);
    if (!known || typeof g.current !== 'string' || (g.phase !== 'stable') !== (typeof g.next === 'string'))
      throw new Error('it does not say which CA is which');
    return g;
  } catch (cause) {
    throw new WeftError('identity/rotation', `${path} cannot be used: ${(cause as Error).message}`, { cause });
  }
}

class RotatingAuthority implements Authority {
  readonly trustDomain: string;
  readonly #dir: string;
  readonly #open: (name: string) => Promise<Issuer>;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #generations: Generations;
  #current: Issuer;
  #next: Issuer | undefined;
  #busy = false;

  constructor(
    dir: string,
    trustDomain: string,
    open: (name: string) => Promise<Issuer>,
    clock: Clock,
    g: Generations,
    current: Issuer,
    next: Issuer | undefined,
  ) {
    this.#dir = dir;
    this.trustDomain = trustDomain;
    this.#open = open;
    this.#clock = clock;
    this.#generations = g;
    this.#current = current;
    this.#next = next;
  }

  get #signer(): Issuer {
    return this.phase === 'issue' ? (this.#next as Issuer) : this.#current;
  }
  get phase(): RotationPhase {
    return this.#generations.phase;
  }
  get reversible(): boolean {
    return this.phase !== 'stable' || this.#generations.previous !== undefined;
  }
  get rootPem(): string {
    const { rootPem } = this.#current;
    return this.#next && this.#next.rootPem !== rootPem ? rootPem + this.#next.rootPem : rootPem;
  }
  get rootNotAfterMs(): number {
    return this.#signer.rootNotAfterMs;
  }
  get signerNotAfterMs(): number {
    return this.#signer.notAfterMs;
  }
  get issuer(): string {
    return this.#signer.id;
  }
  get external(): boolean {
    return this.#signer.keyId === '';
  }

  get issuers(): readonly string[] {
    return [...new Set([this.#current.keyId, ...(this.#next ? [this.#next.keyId] : [])])];
  }

  async sign(csrPem: string, { spiffeId, ttlMs }: SignOptions): Promise<SignedCertificate> {
    if (parseSpiffeId(spiffeId)?.trustDomain !== this.trustDomain) {
      throw new WeftError(
        'identity/bad-spiffe-id',
        `${JSON.stringify(spiffeId)} is not an id of trust domain ${this.trustDomain}`,
      );
    }
    if (!(ttlMs >= MIN_CERT_TTL_MS && ttlMs <= MAX_CERT_TTL_MS)) {
      throw new WeftError('identity/bad-ttl', `a certificate of ${ttlMs} ms was asked for: ask for 10 s to 90 days`);
    }
    const signer = this.#signer;
    const now = this.#clock.wall();
    if (now >= signer.notAfterMs) {
      throw new WeftError(
        'identity/ca-expired',
        `the CA's own certificate ended at ${new Date(signer.notAfterMs).toISOString()}: replace it (weft ca rotate)`,
      );
    }
    return { ...(await signer.sign(csrPem, spiffeId, ttlMs, this.#clock)), rootPem: this.rootPem };
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  async rotate(step: RotationStep, from?: string): Promise<void> {
    if (this.#busy) throw this.#wrong('another step is being taken');
    this.#busy = true;
    try {
      await this.#step(step, from);
    } finally {
      this.#busy = false;
    }
    for (const listener of this.#listeners) listener();
  }

  async #step(step: RotationStep, from: string | undefined): Promise<void> {
    const { current, next, previous, phase, count } = this.#generations;
    if (from !== undefined && step !== 'distribute') throw this.#wrong('a folder is for the step distribute alone');
    switch (`${phase} ${step}`) {
      case 'stable distribute': {
        const name = `g${count + 1}`;
        const issuer = await this.#prepare(name, from);
        this.#save({ current, next: name, phase: 'distribute', count: count + 1 });
        this.#next = issuer;
        return;
      }
      case 'distribute issue':
        this.#save({ current, next, phase: 'issue', count });
        return;
      case 'issue retire':
        this.#save({ current: next as string, previous: current, phase: 'stable', count });
        this.#current = this.#next as Issuer;
        this.#next = undefined;
        return;
      case 'distribute back':
        this.#save({ current, phase: 'stable', count });
        this.#next = undefined;
        return;
      case 'issue back':
        this.#save({ current, next, phase: 'distribute', count });
        return;
      case 'stable back': {
        if (previous === undefined) throw this.#wrong('there is no earlier root to go back to');
        const issuer = await this.#open(previous);
        this.#save({ current: previous, next: current, phase: 'issue', count });
        this.#next = this.#current;
        this.#current = issuer;
        return;
      }
      default:
        throw this.#wrong(`${step} does not follow on ${phase}: distribute, issue, retire is the order`);
    }
  }

  /** Folders of CAs that are no longer used are left as they are: keys are removed by people. */
  async #prepare(name: string, from: string | undefined): Promise<Issuer> {
    const dir = join(this.#dir, name);
    rmSync(dir, { recursive: true, force: true });
    if (from === undefined) return this.#open(name);
    if (!['ca-key.pem', 'root-key.pem', 'external.json'].some((file) => existsSync(join(from, file))))
      throw this.#wrong(`${from} holds neither ca-key.pem, root-key.pem nor external.json`);
    // Judged where it is, so that an exposed key is not made to look well kept by copying it.
    await openIssuer(from, this.trustDomain, this.#clock);
    privateFolder(dir);
    for (const file of CA_FILES) if (existsSync(join(from, file))) cpSync(join(from, file), join(dir, file));
    return this.#open(name);
  }

  #save(generations: Generations): void {
    writeFileAtomic(join(this.#dir, FILE), JSON.stringify(generations), 0o600);
    this.#generations = generations;
  }

  #wrong(why: string): WeftError {
    return new WeftError('identity/rotation', `the root is not replaced: ${why}`);
  }
}
