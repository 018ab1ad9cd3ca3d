/** A mesh whose control plane is on another machine, as a host that joined it sees it. */
import type { Place } from './entrance.ts';
import type { ServiceSpec } from './specs.ts';

export interface RemoteMesh {
  readonly trustDomain: string;
  readonly rootPem: string;
  /** The control plane's port for hosts and proxies. */
  readonly control: Place;
  /** The name by which this machine joined. */
  readonly network: string;
  /** At which other machines reach this one. */
  readonly address: string;
  readonly services: readonly ServiceSpec[];
  /** Blocks of addresses that workloads of other machines have. */
  readonly taken: readonly string[];
  /** A call that hosts may make (control/src/hosts/api.ts). */
  request<T = unknown>(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<T>;
  stop(): void;
}
