/** What an instance needs of its mesh. */
import type { MeshNetwork, RunAs } from '@weft/capture';
import type { EntranceProcess } from './entrance.ts';
import type { PlainService } from './plain-services.ts';
import type { CaptureMode, ServiceSpec } from './specs.ts';
import type { MeshPaths } from './state.ts';

export interface HostContext {
  readonly mesh: string;
  readonly capture: CaptureMode;
  readonly paths: MeshPaths;
  readonly network: MeshNetwork | undefined;
  readonly trustDomain: string;
  readonly rootPem: string;
  readonly controlAddress: string;
  readonly services: readonly ServiceSpec[];
  readonly baseEnv: Readonly<Record<string, string>>;
  /** The same for our own processes. */
  readonly ownEnv: Readonly<Record<string, string>>;
  /** Who applications run as where their spec does not say. */
  readonly runAs: RunAs | undefined;
  readonly setpriv: boolean;
  control<T = unknown>(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<T>;
  nextLoopback(): string;
  /** To workloads on other machines, and from there; undefined: the mesh is on this one alone. */
  readonly entrance: EntranceProcess | undefined;
  /** What stands in /etc/hosts of a workload of this namespace that has no proxy to ask for names. */
  hosts(namespace: string): string;
  /** Where the services lead for one that left the mesh with explicit capture. */
  plainServices(): PlainService[];
  /** A line of a child, for the terminal. */
  say(name: string, line: string): void;
  /** An instance's state changed. */
  onState(): void;
  /** The proxy of this instance ended though nobody told it to. */
  onProxyEnd(instance: string): void;
}
