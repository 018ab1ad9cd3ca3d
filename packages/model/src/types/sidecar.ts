/** Istio's Sidecar: what a workload is told of, and which ports of it take anything. */
import type { ConnectionPoolModel } from './destination-rule.ts';
import type { Labels, Resource } from './resource.ts';
import type { PortProtocol } from './service.ts';

/** A port that a workload takes connections on. */
export interface SidecarIngressModel {
  readonly field: string;
  readonly port: number;
  readonly protocol: PortProtocol;
  /** Where the application listens for it; undefined: on the same port of the workload's address. */
  readonly endpoint: { readonly loopback: boolean; readonly port: number } | undefined;
  /** In the place of the Sidecar's. */
  readonly pool: ConnectionPoolModel | undefined;
}

/** Which services a workload is told of. */
export interface SidecarModel extends Resource {
  /** Undefined: all of the namespace; of the root namespace, all of the mesh. */
  readonly workloadSelector: Labels | undefined;
  /** Undefined: all services. `namespace` may be `*`, or `.` for the client's own. */
  readonly egress:
    | readonly { readonly namespace: string; readonly host: string /** 0: any. */; readonly port: number }[]
    | undefined;
  /** The only ports that take anything; undefined: all that the workload and its services declare. */
  readonly ingress?: readonly SidecarIngressModel[] | undefined;
  /** Of connections to the workload's own application. */
  readonly inboundPool?: ConnectionPoolModel | undefined;
  /** Undefined: the mesh's. */
  readonly registryOnly: boolean | undefined;
}
