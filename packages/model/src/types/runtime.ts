/** What compile needs beyond configuration: what runs, and where. */
import type { Labels } from './resource.ts';
import type { PortProtocol } from './service.ts';

/** One running copy of a workload, as the supervisor or the platform tells. */
export interface Instance {
  readonly name: string; // unique in the mesh: payment-v1-0
  readonly workload: string; // payment-v1
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Labels;
  readonly address: string; // its own IP address
  /** Its IPv6 address, where `address` is IPv4 and it has both. */
  readonly address6?: string | undefined;
  readonly ports: readonly InstancePort[];
  readonly injected: boolean;
  /** It is a proxy on its own, with no application behind it. */
  readonly gateway?: boolean;
  readonly ready: boolean;
  readonly draining: boolean;
  /** Where the application listens as its own proxy sees it; the same as `address`, 127.0.0.1 in explicit mode. */
  readonly dialAddress: string;
  /** Its share of what its workload gets, where 1 (the default) is an even one; above 0. */
  readonly weight?: number | undefined;
  /** The host it runs on, where that joined the mesh; undefined: the mesh's own machine. */
  readonly network?: string | undefined;
  /** Where that is not the mesh's (`MeshRuntime.capture`). */
  readonly capture?: 'transparent' | 'explicit' | undefined;
}

export interface InstancePort {
  readonly number: number;
  readonly name?: string;
  readonly protocol?: PortProtocol;
  /** The application's real port where it is not `number` (explicit mode: the application was given `$PORT`). */
  readonly dialPort?: number;
}

/** What compile needs beyond configuration. */
export interface MeshRuntime {
  readonly mesh: string;
  readonly trustDomain: string;
  readonly domain: string;
  readonly capture: 'transparent' | 'explicit';
  readonly instances: readonly Instance[];
  /** Service host (FQDN) → virtual addresses. Headless services have none. */
  readonly vips: ReadonlyMap<string, readonly string[]>;
  /** Addresses of names outside of the mesh, of resolution DNS, as far as they are known. */
  readonly resolved?: ReadonlyMap<string, readonly string[]>;
  /** Unknown destinations are refused; default false. */
  readonly registryOnly?: boolean;
  readonly drainMs?: number; // default 5000
  /** Key sets that were fetched, JSON, by the name of their source (see keySourceOf). */
  readonly keySets?: ReadonlyMap<string, string>;
  readonly cluster?: string; // default Kubernetes
  /** Of the mesh's own machine; undefined: hosts cannot join. */
  readonly network?: string | undefined;
}
