/** What admin, probes, DNS and metrics may see of a running proxy. The data path implements it; they only read. */
import type { Snapshot } from '@weft/engine';
import type { Identity } from '@weft/identity';
import type { Endpoints, Part, References } from '@weft/plan';
import type { Bootstrap } from './bootstrap.ts';
import type { Outcome } from './net/outcomes.ts';

/** The own certificate and whom it is judged by; no key. */
export type CertificateView = Pick<
  Identity,
  'spiffeId' | 'serial' | 'notBeforeMs' | 'notAfterMs' | 'chainPem' | 'bundle'
>;

/** What is open now. */
export interface ProxyCounts {
  /** Connections from applications and plaintext peers. */
  downstream: number;
  links: number;
  linkStreams: number;
  /** Connections to applications and unmeshed servers. */
  upstream: number;
  /** Requests and tunnels that others have open to this workload. */
  inbound: number;
}

export interface ProxyState {
  readonly bootstrap: Bootstrap;
  /** True when the first plan is applied and all listeners are bound. */
  readonly ready: boolean;
  readonly draining: boolean;
  readonly epoch: bigint;
  /** The plan in force; undefined before the first. */
  readonly snapshot: Snapshot | undefined;
  /** By resource name, for dumps. */
  readonly parts: ReadonlyMap<string, Part>;
  readonly endpoints: ReadonlyMap<string, Endpoints>;
  readonly references: ReadonlyMap<string, References>;
  /** The current workload certificate; never a key. */
  readonly certificate: CertificateView | undefined;
  /** What detection found on the ports without a declared protocol. */
  detected(): Iterable<Outcome>;
  /** Open connections and streams, for /stats and leak checks. */
  counts(): ProxyCounts;
}
