/** What is called: services, those of ServiceEntries among them, and their endpoints that no platform tells of. */
import type { ProbeModel } from './process.ts';
import type { Labels, Resource } from './resource.ts';

/** How the application protocol of a port was declared; `detect` where it was not. */
export type PortProtocol = 'detect' | 'http' | 'http2' | 'grpc' | 'grpc-web' | 'tcp' | 'tls';

export interface ServicePortModel {
  readonly port: number;
  readonly name: string;
  /** Workload port by number or by the name of a workload's port. */
  readonly targetPort: number | string;
  readonly protocol: PortProtocol;
  /** UDP ports are known, and not captured. */
  readonly transport: 'TCP' | 'UDP';
  readonly field: string;
}

export interface ServiceModel extends Resource {
  /** `undefined` or empty: selects nothing. */
  readonly selector: Labels | undefined;
  readonly ports: readonly ServicePortModel[];
  /** A given virtual address. */
  readonly clusterIP: string | undefined;
  /** All given virtual addresses, where there are more than `clusterIP`. */
  readonly clusterIPs?: readonly string[] | undefined;
  /** Which addresses it has, the preferred family first; undefined: IPv4 alone. */
  readonly families?: readonly IpFamily[] | undefined;
  readonly headless: boolean;
  readonly publishNotReadyAddresses: boolean;
  /** Of its annotations; where a client's DestinationRule says something of the same, that counts. */
  readonly balancing?: ServiceBalancingModel | undefined;
  /** Of its annotation: after so long in vain for a connection, requests are refused at once. */
  readonly failFastMs?: number | undefined;
  /** Requests of one address go to one endpoint (`sessionAffinity: ClientIP`), where no rule says how to balance. */
  readonly sessionAffinity?: boolean;
  /** Near endpoints first (`trafficDistribution`), where no rule says how localities count. */
  readonly preferNear?: boolean;
  /** Another name of that host (`type: ExternalName`). Such a service is in Model.serviceAliases alone. */
  readonly externalName?: string | undefined;
  /** Of a host of a ServiceEntry; undefined for a Service. */
  readonly external?: ExternalModel | undefined;
}

export type IpFamily = 4 | 6;

export type Resolution = 'NONE' | 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN';

/** A workload that no platform tells of. */
export interface EntryEndpointModel {
  readonly field: string;
  /** An IP address, or a host name where the resolution is DNS. */
  readonly address: string;
  /** By the name of the service's port; what is not here is the port's own. */
  readonly ports: ReadonlyMap<string, number>;
  readonly labels: Labels;
  readonly locality: string;
  readonly weight: number;
  readonly serviceAccount: string;
}

export interface ExternalModel {
  /** Its full name, in lower case; perhaps `*.suffix`, then the client's own choice is where calls go. */
  readonly host: string;
  readonly resolution: Resolution;
  /** Empty: the host itself is asked for, or workloads are selected. */
  readonly endpoints: readonly EntryEndpointModel[];
  readonly addresses: readonly string[];
  /** `address/bits` of the same. */
  readonly blocks: readonly string[];
  readonly exportTo: readonly string[] | undefined;
  /** MESH_EXTERNAL. */
  readonly outside: boolean;
  /** One of them is to be in the server's certificate, where a rule begins TLS and says none itself. */
  readonly subjectAltNames: readonly string[];
}

/** Its hosts as services; they are among the model's too. */
export interface ServiceEntryModel extends Resource {
  readonly services: readonly ServiceModel[];
}

export interface WorkloadEntryModel extends Resource {
  readonly endpoint: EntryEndpointModel;
}

/** Istio's WorkloadGroup: what each workload of it is like that joins by `weft run --group`. */
export interface WorkloadGroupModel extends Resource {
  /** Those of its workloads: of `metadata`, and of `template` before them. */
  readonly members: Labels;
  /** By name. */
  readonly ports: ReadonlyMap<string, number>;
  readonly serviceAccount: string;
  readonly probe: ProbeModel | undefined;
}

/** `discovery.k8s.io EndpointSlice`: addresses of a Service without a selector. */
export interface EndpointSliceModel extends Resource {
  readonly service: string;
  /** By the name of the service's port; one without a name has ''. */
  readonly ports: ReadonlyMap<string, number>;
  readonly endpoints: readonly {
    readonly name: string;
    readonly addresses: readonly string[];
    readonly ready: boolean;
    readonly draining: boolean;
    readonly zone: string;
  }[];
}

export interface ServiceBalancingModel {
  readonly balancer: 'peak-ewma' | 'least-request' | 'round-robin' | 'random' | undefined;
  readonly balancerField: string;
  readonly accrual: FailureAccrualModel | undefined;
  readonly accrualField: string;
}

/** Linkerd's failure accrual: a breaker for each endpoint that probes with live requests. */
export interface FailureAccrualModel {
  readonly maxFailures: number; // in a row
  readonly minPenaltyMs: number;
  readonly maxPenaltyMs: number;
  readonly jitter: number; // part of the penalty
  readonly rateLimits: boolean; // 429 is a failure
}
