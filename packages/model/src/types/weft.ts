/** Kinds of `weft.dev/v1alpha1` beside Process. */
import type { Resource } from './resource.ts';

/** `weft.dev/v1alpha1 TCPFault`, for clients of its namespace. */
export interface TcpFaultModel extends Resource {
  readonly host: string;
  /** 0: all ports. */
  readonly port: number;
  readonly delayPercent: number;
  readonly delayMs: number;
  readonly resetPercent: number;
  readonly blackholePercent: number;
  readonly bandwidthPercent: number;
  readonly bandwidthBytesPerSecond: number;
}

/** `weft.dev/v1alpha1 HealthCheck`: what clients' proxies ask the endpoints of a service from time to time. */
export interface HealthCheckModel extends Resource {
  readonly host: string;
  /** 0: all ports that it can ask. */
  readonly port: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  readonly jitterPercent: number;
  readonly panicPercent: number;
  readonly check:
    | {
        readonly kind: 'http';
        readonly path: string;
        readonly statuses: readonly number[];
        readonly headers: readonly { readonly name: string; readonly value: string }[];
      }
    | { readonly kind: 'tcp' }
    | { readonly kind: 'grpc'; readonly service: string; readonly authority: string };
}

/** `weft.dev/v1alpha1 DecisionHeader`: who is told which rules decided, of the workloads of its namespace. */
export interface DecisionHeaderModel extends Resource {
  /** Principals without `spiffe://`: exact, `prefix*` or `*`. */
  readonly callers: readonly string[];
}

/** `weft.dev/v1alpha1 MeshDefaults`: in the root namespace it holds for the mesh, elsewhere for that namespace's services. */
export interface MeshDefaultsModel extends Resource {
  readonly timeoutMs: number | undefined;
}
