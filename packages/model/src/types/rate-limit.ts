/** Linkerd's Servers, and the rate limits that refer to them. */
import type { AccessPolicyName } from '../linkerd-policy.ts';
import type { Labels, Resource } from './resource.ts';

/** Linkerd's Server: ports of workloads of its namespace, which it closes, and for rate limits to refer to. */
export interface ServerModel extends Resource {
  readonly selector: Labels;
  /** By number or by name. */
  readonly port: number | string;
  /** What holds where no policy lets a caller in. */
  readonly accessPolicy: AccessPolicyName;
  /** Its port carries no HTTP. */
  readonly opaque: boolean;
}

/** HTTPLocalRateLimitPolicy, or TCPLocalRateLimitPolicy for connections. A second's worth; 0: no limit. */
export interface RateLimitModel extends Resource {
  /** Name of a Server in its namespace. */
  readonly server: string;
  readonly total: number;
  readonly identity: number;
  /** The rates are those of all replicas together that the Server selects. */
  readonly shared: boolean;
  readonly overrides: readonly {
    readonly requestsPerSecond: number;
    readonly accounts: readonly { readonly namespace: string; readonly name: string }[];
  }[];
}
