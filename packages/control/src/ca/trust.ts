/** Whom the mesh believes: the CA's roots, those of other trust domains, less what is revoked. Every proxy gets it. */
import { create, toBinary } from '@bufbuild/protobuf';
import { type Clock, WeftError } from '@weft/base';
import {
  type Authority,
  canonicalSerial,
  controlPlaneId,
  isTrustDomain,
  type JwtKeys,
  keyIdOf,
  MAX_CERT_TTL_MS,
  parseCertificates,
  parseSpiffeId,
  Revocations,
  readSpiffeBundle,
  rootIdOf,
  type Trust,
  TrustBundle,
} from '@weft/identity';
import { PartSchema } from '@weft/plan';
import type { State, StoredRevocation, StoredWorkloadApi } from '../state.ts';

/** Each travels to every proxy and is looked up in each handshake. */
const MAX_REVOKED = 10_000;
const MAX_FOREIGN_DOMAINS = 100;

export class MeshTrust {
  readonly #authority: Authority;
  readonly #state: State;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #current!: Trust;
  #part!: Uint8Array;
  readonly #jwtKeys: JwtKeys;
  #aliases: readonly string[] = [];

  constructor(authority: Authority, jwtKeys: JwtKeys, state: State, clock: Clock) {
    this.#authority = authority;
    this.#jwtKeys = jwtKeys;
    this.#state = state;
    this.#clock = clock;
    this.#build();
    authority.onChange(() => this.#changed());
    jwtKeys.onChange(() => this.#changed());
  }

  /** Other names of the own trust domain, as the mesh settings say them. */
  setAliases(aliases: readonly string[]): void {
    if (aliases.join() === this.#aliases.join()) return;
    this.#aliases = aliases;
    this.#changed();
  }

  get current(): Trust {
    return this.#current;
  }

  /** The plan's part "trust", encoded. */
  get part(): Uint8Array {
    return this.#part;
  }

  get revoked(): readonly StoredRevocation[] {
    return this.#state.revoked;
  }

  /** Other trust domains and when their first root ends, in wall milliseconds. */
  get foreign(): { trustDomain: string; roots: number; notAfterMs: number }[] {
    return [...this.#state.federated].map(([trustDomain, pem]) => {
      const roots = parseCertificates(pem);
      const notAfterMs = Math.min(...roots.map((c) => c.validToDate.getTime()));
      return { trustDomain, roots: roots.length, notAfterMs };
    });
  }

  /** Called after each change. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /**
   * `what`: a serial number in hexadecimal, or a whole SPIFFE id, which then gets no certificate either until `restore`.
   * Throws `identity/bad-serial`, or `control/too-many-revoked`.
   */
  revoke(what: string): StoredRevocation {
    if (what === controlPlaneId(this.#authority.trustDomain))
      throw new WeftError(
        'control/own-identity',
        'the control plane cannot revoke itself: no proxy would hear of anything again',
      );
    const entry = this.#entry(what);
    const revoked = this.#state.revoked.filter((r) => !same(r, entry));
    if (revoked.length >= MAX_REVOKED)
      throw new WeftError(
        'control/too-many-revoked',
        `${MAX_REVOKED} certificates and identities are revoked already: replace the root (weft ca rotate) instead`,
      );
    this.#save([...revoked, entry]);
    return entry;
  }

  /** Throws `control/not-revoked`. */
  restore(what: string): void {
    const entry = this.#entry(what);
    const revoked = this.#state.revoked.filter((r) => !same(r, entry));
    if (revoked.length === this.#state.revoked.length)
      throw new WeftError('control/not-revoked', `${what} is not revoked: weft ca status lists what is`);
    this.#save(revoked);
  }

  /**
   * Believes another trust domain; without any root, no longer. `text`: its roots in PEM form, or its bundle as a SPIFFE
   * bundle endpoint publishes it, which brings the keys of its tokens too. Throws `control/bad-federation` or `identity/…`.
   */
  federate(trustDomain: string, text: string): void {
    const { federated, federatedKeys } = this.#state;
    const { rootPem, jwtKeys } = text.trimStart().startsWith('{')
      ? readSpiffeBundle(text)
      : { rootPem: text, jwtKeys: '' };
    if (!isTrustDomain(trustDomain) || trustDomain === this.#authority.trustDomain)
      throw new WeftError(
        'control/bad-federation',
        `${JSON.stringify(trustDomain)} is not another trust domain: its name is of lower case letters, digits, "-", "_" and "."`,
      );
    const roots = parseCertificates(rootPem);
    federatedKeys.delete(trustDomain);
    if (roots.length === 0) federated.delete(trustDomain);
    else {
      if (federated.size >= MAX_FOREIGN_DOMAINS && !federated.has(trustDomain))
        throw new WeftError('control/bad-federation', `${MAX_FOREIGN_DOMAINS} trust domains are believed already`);
      // One key that speaks for two domains would let each name the other's workloads.
      const own = new Set(parseCertificates(this.#authority.rootPem).map((c) => keyIdOf(c.publicKey)));
      for (const root of roots) {
        if (!root.ca || own.has(keyIdOf(root.publicKey)))
          throw new WeftError(
            'control/bad-federation',
            root.ca
              ? `a root of ${trustDomain} has the key of this mesh's own`
              : `${JSON.stringify(root.subject)} is no CA's certificate`,
          );
      }
      federated.set(trustDomain, roots.map((c) => c.toString()).join(''));
      if (jwtKeys !== '') federatedKeys.set(trustDomain, jwtKeys);
    }
    this.#state.save();
    this.#changed();
  }

  get workloadApi(): StoredWorkloadApi | undefined {
    return this.#state.workloadApi;
  }

  /**
   * Proxies get their certificates from this SPIFFE Workload API from now on, under its roots; with an empty socket from
   * the mesh's CA again, while its roots are believed still; undefined: no longer. The CA's own roots are believed always. Throws `control/bad-workload-api`.
   */
  setWorkloadApi(given: StoredWorkloadApi | undefined): void {
    const before = this.#state.workloadApi;
    if (given?.socket === before?.socket && given?.rootPem === before?.rootPem) return;
    const roots = given ? parseCertificates(given.rootPem) : [];
    if (given && (roots.length === 0 || !roots.every((root) => root.ca)))
      throw new WeftError(
        'control/bad-workload-api',
        `${given.socket} says no root, or one that is no CA's certificate`,
      );
    const foreign = new Set(
      [...this.#state.federated.values()].flatMap(parseCertificates).map((c) => keyIdOf(c.publicKey)),
    );
    if (roots.some((root) => foreign.has(keyIdOf(root.publicKey))))
      throw new WeftError(
        'control/bad-workload-api',
        `a root of ${given?.socket} is another trust domain's (weft ca federate)`,
      );
    this.#state.workloadApi = given;
    this.#state.save();
    this.#changed();
  }

  /** Whether a workload's certificate, by what made it, is one of those that it should have now. */
  isCurrent(signers: readonly string[]): boolean {
    const { workloadApi } = this.#state;
    if (!workloadApi?.socket) return signers.includes(this.#current.issuer);
    return parseCertificates(workloadApi.rootPem).some((root) => signers.includes(rootIdOf(root.publicKey)));
  }

  #entry(what: string): StoredRevocation {
    const atMs = this.#clock.wall();
    return parseSpiffeId(what) ? { id: what, serial: '', atMs } : { id: '', serial: canonicalSerial(what), atMs };
  }

  #save(revoked: StoredRevocation[]): void {
    this.#state.revoked = revoked;
    this.#state.save();
    this.#changed();
  }

  #changed(): void {
    this.#build();
    for (const listener of this.#listeners) listener();
  }

  #build(): void {
    const { issuer, trustDomain } = this.#authority;
    const state = this.#state;
    const { workloadApi } = state;
    const rootPem = together(this.#authority.rootPem, workloadApi?.rootPem ?? '');
    // No certificate lives longer, so that its number may be forgotten. Identities stay.
    const oldest = this.#clock.wall() - MAX_CERT_TTL_MS;
    state.revoked = state.revoked.filter((r) => r.id !== '' || r.atMs > oldest);
    const numbers = state.revoked.filter((r) => r.id === '').map((r) => r.serial);
    const ids = state.revoked.filter((r) => r.id !== '').map((r) => r.id);
    // A number is that of a certificate of ours: other trust domains' same number is another certificate.
    // A Workload API's CA may sign by any key of its own.
    const issuers = workloadApi ? [''] : this.#authority.issuers;
    const revoked = numbers.flatMap((serial) => issuers.map((key) => ({ issuer: key, serial })));
    const bundle = new TrustBundle(
      new Map([[trustDomain, rootPem], ...state.federated]),
      new Revocations(revoked, ids),
      new Map([[trustDomain, this.#jwtKeys.jwks], ...state.federatedKeys]),
      new Map(this.#aliases.map((alias) => [alias, trustDomain])),
    );
    this.#current = { rootPem, issuer, bundle, workloadApi: workloadApi?.socket ?? '' };
    const federated = [...state.federated].map(([domain, pem]) => {
      return { trustDomain: domain, rootPem: pem, jwtKeys: state.federatedKeys.get(domain) ?? '' };
    });
    const value = {
      rootPem,
      issuer,
      revoked,
      revokedIds: ids,
      federated,
      aliases: [...this.#aliases],
      jwtKeys: this.#jwtKeys.jwks,
      workloadApi: workloadApi?.socket ?? '',
    };
    this.#part = toBinary(PartSchema, create(PartSchema, { kind: { case: 'trust', value } }));
  }
}

/** Roots of both, each once. */
function together(a: string, b: string): string {
  if (b === '') return a;
  return [...new Set([...parseCertificates(a), ...parseCertificates(b)].map((c) => c.toString()))].join('');
}

function same(a: StoredRevocation, b: StoredRevocation): boolean {
  return a.id === b.id && a.serial === b.serial;
}
