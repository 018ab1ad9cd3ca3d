/**
 * The mesh as one immutable snapshot. Everything here is plain data: durations in milliseconds, hosts as they were
 * written, defaults not yet applied (compile does that). Who builds a model (package config) has checked it: references
 * resolve, numbers are in range.
 */
import type { Position } from '@weft/base';
import type { CaptureScope } from './capture-scope.ts';
import type { ServiceIntentionsModel } from './intentions.ts';
import type {
  AccessPolicyName,
  InboundRouteModel,
  LinkerdAuthorizationModel,
  MeshTlsAuthenticationModel,
  NetworkAuthenticationModel,
} from './linkerd-policy.ts';
import type { MeshConfigModel, ProxyConfigModel, TcpKeepaliveModel } from './mesh-config.ts';
import type { PolicyTargetModel } from './policy-targets.ts';

export type Labels = Readonly<Record<string, string>>;

/** What every resource has. `source` is where its document begins. */
export interface Resource {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly source: Position;
}

export type NamespaceModel = Resource;
export type ServiceAccountModel = Resource;

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
  readonly exportTo: readonly string[] | undefined;
  /** MESH_EXTERNAL. */
  readonly outside: boolean;
}

/** Its hosts as services; they are among the model's too. */
export interface ServiceEntryModel extends Resource {
  readonly services: readonly ServiceModel[];
}

export interface WorkloadEntryModel extends Resource {
  readonly endpoint: EntryEndpointModel;
}

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

export interface ProcessPortModel {
  readonly port: number;
  readonly name: string;
  readonly protocol: PortProtocol;
  readonly field: string;
}

export type ProbeAction =
  | { readonly type: 'http'; readonly path: string; readonly port: number }
  | { readonly type: 'tcp'; readonly port: number }
  | { readonly type: 'exec'; readonly command: readonly string[] };

export interface ProbeModel {
  readonly action: ProbeAction;
  readonly initialDelayMs: number; // default 0
  readonly periodMs: number; // default 10 s
  readonly timeoutMs: number; // default 1 s
  readonly successThreshold: number; // default 1
  readonly failureThreshold: number; // default 3
}

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** Of a Process that is no application but a gateway: a proxy on its own, which Gateways select by its labels. */
export interface GatewayProcessModel {
  /** Serve HTTP/1.0; default false: 426. */
  readonly acceptHttp10: boolean;
  /** How many proxies before it are trusted: they say by x-forwarded-for who the visitor is. Default 0. */
  readonly numTrustedProxies: number | undefined;
  /** Every connection begins with a PROXY header (a balancer before it sends them). */
  readonly proxyProtocol: boolean;
}

/** `weft.dev/v1alpha1 Process`: what a Deployment is on Kubernetes. `metadata.labels` are the workload's labels. */
export interface ProcessModel extends Resource {
  /** Empty for a gateway. */
  readonly command: readonly string[];
  readonly gateway: GatewayProcessModel | undefined;
  /** As written: relative to the folder of the file (`source.file`). */
  readonly cwd: string | undefined;
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly ProcessPortModel[];
  readonly serviceAccountName: string; // default 'default'
  readonly replicas: number; // default 1
  readonly readinessProbe: ProbeModel | undefined;
  readonly restartPolicy: RestartPolicy; // default Always
  /** User id the command runs as; never 1337, whose traffic is not captured. */
  readonly runAsUser: number | undefined;
  /** Of its annotations. */
  readonly capture: CaptureScope;
  /** What its annotation says in the place of the mesh settings; undefined: it has none. */
  readonly proxy?: ProxyConfigModel | undefined;
}

export type StringMatchModel =
  | { readonly type: 'exact' | 'prefix' | 'regex'; readonly value: string }
  | { readonly type: 'present' };

export interface KeyMatchModel {
  readonly name: string;
  readonly value: StringMatchModel;
}

export interface HttpMatchModel {
  readonly field: string;
  /** The VirtualService that says so, where it is not the one of the host (delegates). */
  readonly owner?: Resource;
  readonly uri: StringMatchModel | undefined;
  readonly method: StringMatchModel | undefined;
  readonly authority: StringMatchModel | undefined;
  readonly scheme: StringMatchModel | undefined;
  readonly headers: readonly KeyMatchModel[];
  readonly withoutHeaders: readonly KeyMatchModel[];
  readonly queryParams: readonly KeyMatchModel[];
  readonly ignoreUriCase: boolean;
  /** Service port, or a Gateway server's; 0: any. */
  readonly port: number;
  /** Selects callers when the plan is made. */
  readonly sourceLabels: Labels;
  readonly sourceNamespace: string;
  /** `mesh` and `namespace/name`; empty: all of the VirtualService's. */
  readonly gateways: readonly string[];
}

export interface HeaderOperationsModel {
  readonly requestSet: readonly (readonly [string, string])[];
  readonly requestAdd: readonly (readonly [string, string])[];
  readonly requestRemove: readonly string[];
  readonly responseSet: readonly (readonly [string, string])[];
  readonly responseAdd: readonly (readonly [string, string])[];
  readonly responseRemove: readonly string[];
}

export interface DestinationModel {
  readonly field: string;
  readonly host: string;
  readonly subset: string;
  /** 0: the service's only port. */
  readonly port: number;
  readonly weight: number;
  readonly headers: HeaderOperationsModel | undefined;
}

/** Where a copy of requests goes. `field` is the destination's. */
export interface MirrorModel {
  readonly field: string;
  readonly host: string;
  readonly subset: string;
  /** 0: the service's only port. */
  readonly port: number;
  readonly percent: number; // default 100
}

export interface RetriesModel {
  readonly attempts: number;
  readonly perTryTimeoutMs: number; // 0: the route's timeout
  readonly retryOn: readonly string[]; // empty: the default conditions
  readonly statusCodes: readonly number[];
  readonly backoffMs: number; // 0: default
  readonly ignorePreviousHosts: boolean;
  readonly remoteLocalities: boolean;
  /** A response's Retry-After of at most this is waited for; undefined: it is not looked at. */
  readonly retryAfterMaxMs?: number | undefined;
}

export interface FaultModel {
  readonly delay: { readonly percent: number; readonly delayMs: number } | undefined;
  readonly abort: { readonly percent: number; readonly httpStatus: number; readonly grpcStatus: number } | undefined;
}

export interface CorsModel {
  readonly allowOrigins: readonly StringMatchModel[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  readonly maxAgeMs: number | undefined;
  readonly allowCredentials: boolean;
  readonly ignoreUnmatchedPreflights: boolean;
}

export interface HttpRouteModel {
  readonly field: string;
  /** The VirtualService that says so, where it is not the one of the host (delegates). */
  readonly owner?: Resource;
  /** What a delegate's route has from the one that hands over to it. */
  readonly inherited?: {
    readonly owner: Resource;
    readonly field: string;
    readonly keys: readonly string[];
    readonly mirrors: boolean;
  };
  /** The routes of that VirtualService stand in its place. */
  readonly delegate?: { readonly namespace: string; readonly name: string } | undefined;
  readonly name: string;
  readonly match: readonly HttpMatchModel[];
  readonly route: readonly DestinationModel[];
  readonly redirect:
    | {
        readonly uri: string;
        readonly authority: string;
        readonly scheme: string;
        readonly port: number;
        readonly code: number;
        /** Replaces the matched prefix; empty: nothing. */
        readonly prefixRewrite: string;
        readonly derivePort: 'FROM_PROTOCOL_DEFAULT' | 'FROM_REQUEST_PORT' | undefined;
      }
    | undefined;
  readonly directResponse: { readonly status: number; readonly body: string } | undefined;
  readonly rewrite:
    | {
        readonly uri: string;
        readonly authority: string;
        /** RE2 and what takes the place of each match; both empty: none. */
        readonly regex: string;
        readonly substitution: string;
      }
    | undefined;
  readonly cors: CorsModel | undefined;
  /** `undefined`: not said (the defaults of the mesh hold); 0: none. */
  readonly timeoutMs: number | undefined;
  readonly retries: RetriesModel | undefined;
  readonly fault: FaultModel | undefined;
  readonly headers: HeaderOperationsModel | undefined;
  readonly mirrors: readonly MirrorModel[];
  readonly session?: SessionModel | undefined;
}

/** Requests of a session go to one endpoint (GEP-1619). */
export interface SessionModel {
  readonly field: string;
  /** Of a cookie, or of a header in lower case. */
  readonly name: string;
  readonly header: boolean;
  readonly absoluteTimeoutMs: number; // 0: none
  readonly idleTimeoutMs: number; // 0: none
  /** The cookie outlives the browser's session. */
  readonly permanent: boolean;
}

export interface TcpRouteModel {
  readonly field: string;
  readonly match: readonly (Pick<HttpMatchModel, 'port' | 'sourceLabels' | 'sourceNamespace' | 'gateways'> & {
    /** Addresses or CIDR blocks of the address that is dialled; empty: any. */
    readonly destinationSubnets: readonly string[];
  })[];
  readonly route: readonly DestinationModel[];
}

/** The application's own TLS, routed by the name that its client asks for. */
export interface TlsRouteModel {
  readonly field: string;
  readonly match: readonly (TcpRouteModel['match'][number] & { readonly sniHosts: readonly string[] })[];
  readonly route: readonly DestinationModel[];
}

/** The reserved gateway of all sidecars. */
export const MESH_GATEWAY = 'mesh';

export interface VirtualServiceModel extends Resource {
  /** Namespaces whose clients it holds for; undefined: all. */
  readonly exportTo: readonly string[] | undefined;
  readonly hosts: readonly string[];
  /** `mesh` and `namespace/name`, never empty. */
  readonly gateways: readonly string[];
  readonly http: readonly HttpRouteModel[];
  readonly tcp: readonly TcpRouteModel[];
  readonly tls: readonly TlsRouteModel[];
}

export type TlsVersionName = 'TLS_AUTO' | 'TLSV1_2' | 'TLSV1_3';

/** A certificate chain and its key, PEM. Never printed. */
export interface KeyPairModel {
  readonly certificatePem: string;
  readonly keyPem: string;
  /** DNS names and addresses that it is for; empty: not known. */
  readonly names: readonly string[];
}

/** What a gateway does with TLS. ISTIO_MUTUAL: only the mesh comes in, by its own mTLS. */
export type GatewayTlsMode = 'SIMPLE' | 'MUTUAL' | 'OPTIONAL_MUTUAL' | 'PASSTHROUGH' | 'ISTIO_MUTUAL';

export interface GatewayTlsModel {
  readonly mode: GatewayTlsMode;
  /** Name of a Secret; empty where files are given, or TLS is not ended here. */
  readonly credentialName: string;
  /** Namespace of that Secret; empty: the gateway workload's. */
  readonly credentialNamespace: string;
  /** What `serverCertificate` and `privateKey` hold; undefined with `credentialName`. */
  readonly files: KeyPairModel | undefined;
  /** Who signs clients' certificates, where that is a file; else the Secret says it. */
  readonly caPem: string;
  /** One of them is to be in a client's certificate; empty: any. */
  readonly subjectAltNames: readonly string[];
  readonly minVersion: TlsVersionName;
  readonly maxVersion: TlsVersionName;
  readonly cipherSuites: readonly string[];
}

export interface GatewayServerModel {
  readonly field: string;
  readonly port: number;
  readonly portName: string;
  /** `namespace` of the VirtualServices that may use the host; `*`: any. */
  readonly hosts: readonly { readonly namespace: string; readonly host: string }[];
  /** Declared as HTTP2 or GRPC. HTTP/1 is served as well; what is neither is answered in HTTP/2. */
  readonly http2: boolean;
  /** Declared as GRPC-WEB: such requests go on as gRPC. */
  readonly grpcWeb: boolean;
  /** It carries connections (TCP, TLS), not requests. */
  readonly opaque: boolean;
  /** Undefined: plaintext. */
  readonly tls: GatewayTlsModel | undefined;
  readonly httpsRedirect: boolean;
  /** Of a listener of the Gateway API: who may attach routes. Undefined for Istio's, which VirtualServices name. */
  readonly allowedRoutes: AllowedRoutesModel | undefined;
}

export interface AllowedRoutesModel {
  /** Labels: of the route's Namespace. */
  readonly from: 'All' | 'Same' | Labels;
  readonly kinds: readonly string[];
}

export interface GatewayModel extends Resource {
  /** Labels of gateway workloads, in any namespace; empty: all of them. */
  readonly selector: Labels;
  /** Of the Gateway API: only workloads of its own namespace are meant. */
  readonly gatewayApi: boolean;
  /** Name of its GatewayClass; empty for Istio's. */
  readonly className: string;
  readonly servers: readonly GatewayServerModel[];
}

/** What a route of the Gateway API is attached to. */
export interface RouteParentModel {
  readonly field: string;
  readonly kind: 'Service' | 'Gateway';
  readonly namespace: string;
  readonly name: string;
  /** Name of a Gateway's listener or of a Service's port; empty: all of them. */
  readonly sectionName: string;
  /** 0: all of them. */
  readonly port: number;
}

/** One match of a rule. The Gateway API orders matches of all routes of a host by how specific they are. */
export interface RankedHttpRouteModel {
  /** Compared number by number, the greater first; equal ones by the age and name of their routes. */
  readonly rank: readonly number[];
  readonly route: HttpRouteModel;
}

/** HTTPRoute, GRPCRoute, TCPRoute and TLSRoute, said in the words of a VirtualService. */
export interface ApiRouteModel extends Resource {
  readonly kind: 'HTTPRoute' | 'GRPCRoute' | 'TCPRoute' | 'TLSRoute';
  /** RFC 3339; empty: not known, which is younger than all others. */
  readonly created: string;
  readonly parents: readonly RouteParentModel[];
  /** Lower case; empty: all of the listener. On Services they say nothing. */
  readonly hostnames: readonly string[];
  readonly http: readonly RankedHttpRouteModel[];
  readonly tcp: readonly TcpRouteModel[];
  readonly tls: readonly TlsRouteModel[];
}

/** Lets resources of other namespaces name those of its own. */
export interface ReferenceGrantModel extends Resource {
  readonly from: readonly { readonly group: string; readonly kind: string; readonly namespace: string }[];
  /** `name` empty: all of the kind. */
  readonly to: readonly { readonly group: string; readonly kind: string; readonly name: string }[];
}

/** TLS that clients begin to the applications of services of its namespace. */
export interface BackendTlsPolicyModel extends Resource {
  /** RFC 3339; empty: not known. */
  readonly created: string;
  /** `sectionName`: the name of a port; empty: all of them. */
  readonly targets: readonly { readonly field: string; readonly name: string; readonly sectionName: string }[];
  /** Asked for, and to be in the certificate. */
  readonly hostname: string;
  /** Whose ca.crt is believed; empty: the system's roots. */
  readonly configMaps: readonly string[];
  /** One of them is to be in the certificate, in the place of hostname. */
  readonly names: readonly string[];
}

/** What clients of services of its namespace keep to: BackendLBPolicy, XBackendTrafficPolicy. */
export interface BackendPolicyModel extends Resource {
  /** RFC 3339; empty: not known. */
  readonly created: string;
  readonly targets: readonly { readonly field: string; readonly name: string }[];
  /** For routes that have no sessions of their own. */
  readonly session: SessionModel | undefined;
  /** Of the requests that run, where no DestinationRule says so. */
  readonly retryPercent: number | undefined;
}

/** A ConfigMap with a CA. */
export interface ConfigMapModel extends Resource {
  readonly caPem: string;
}

/** Who serves the Gateways of a class. */
export interface GatewayClassModel extends Resource {
  readonly controllerName: string;
}

/** A Secret with a certificate, or with the CA for those of clients. */
export interface SecretModel extends Resource, KeyPairModel {
  /** Empty: it has none. */
  readonly caPem: string;
}

export interface OutlierDetectionModel {
  readonly consecutive5xxErrors: number | undefined;
  readonly consecutiveGatewayErrors: number | undefined;
  readonly intervalMs: number | undefined;
  readonly baseEjectionTimeMs: number | undefined;
  readonly maxEjectionPercent: number | undefined;
  readonly minHealthPercent: number | undefined;
  readonly splitExternalLocalOriginErrors: boolean;
  readonly consecutiveLocalOriginFailures: number | undefined;
  /** HTTP statuses that are errors; empty: 5xx. */
  readonly httpErrorCodes: readonly number[];
}

/** Outlier detection by the rates of an interval. 0: off. */
export interface OutlierRatesModel {
  readonly stdevFactor: number;
  readonly failurePercentage: number;
  readonly minimumHosts: number;
  readonly requestVolume: number;
}

export interface ConnectionPoolModel {
  readonly maxConnections: number | undefined;
  readonly connectTimeoutMs: number | undefined;
  readonly maxPendingRequests: number | undefined;
  readonly maxRequests: number | undefined;
  readonly maxRequestsPerConnection: number | undefined;
  readonly maxRetries: number | undefined;
  readonly idleTimeoutMs: number | undefined;
  /** Of opaque connections. */
  readonly tcpIdleTimeoutMs: number | undefined;
  readonly maxConnectionDurationMs: number | undefined;
  readonly maxConcurrentStreams: number | undefined;
  /** Undefined: as the mesh settings say. */
  readonly h2Upgrade: boolean | undefined;
  /** Undefined: as the mesh settings say. */
  readonly keepalive: TcpKeepaliveModel | undefined;
  /** Undefined: none is sent. */
  readonly http2PingIntervalMs: number | undefined;
  readonly http2PingTimeoutMs: number | undefined; // default 20 s
  readonly useClientProtocol: boolean;
}

export interface ConsistentHashModel {
  readonly key:
    | { readonly case: 'header' | 'queryParam'; readonly value: string }
    | { readonly case: 'sourceIp'; readonly value: true }
    | {
        readonly case: 'cookie';
        /** `ttlMs` undefined: the proxy makes no cookie; 0: one for the session. */
        readonly value: {
          readonly name: string;
          readonly path: string;
          readonly ttlMs: number | undefined;
          /** `Secure`, `SameSite=Lax`: of the cookie that is set. */
          readonly attributes: readonly string[];
        };
      };
  readonly maglev: boolean;
  readonly tableSize: number | undefined;
}

export interface LocalityModel {
  readonly enabled: boolean;
  readonly distribute: readonly {
    readonly from: string;
    readonly to: readonly { readonly locality: string; readonly weight: number }[];
  }[];
  readonly failover: readonly { readonly from: string; readonly to: string }[];
  readonly failoverPriority: readonly string[];
}

export interface WarmupModel {
  readonly durationMs: number;
  readonly minimumPercent: number;
  readonly aggression: number;
}

export interface LoadBalancerModel {
  readonly simple: 'LEAST_REQUEST' | 'ROUND_ROBIN' | 'RANDOM' | 'PASSTHROUGH' | undefined;
  readonly hash: ConsistentHashModel | undefined;
  readonly locality: LocalityModel | undefined;
  /** Zone-aware from so many endpoints on; undefined: not. */
  readonly zoneAwareMin?: number | undefined;
  readonly warmup: WarmupModel | undefined;
}

/** TLS that the client's proxy begins (`tls.mode` SIMPLE or MUTUAL). Files are absolute paths, read by the proxy. */
export interface TlsOriginationModel {
  readonly sni: string; // '': the host
  readonly subjectAltNames: readonly string[]; // empty: the SNI
  readonly caCertificates: string; // '': the system's
  readonly caPem?: string; // in the place of that file
  readonly credentialName?: string; // of a Secret in the gateway's namespace, in the place of all files
  readonly clientCertificate: string;
  readonly privateKey: string;
  readonly insecureSkipVerify: boolean;
}

export interface TrafficPolicyModel {
  readonly field: string;
  readonly loadBalancer: LoadBalancerModel | undefined;
  readonly connectionPool: ConnectionPoolModel | undefined;
  readonly outlierDetection: OutlierDetectionModel | undefined;
  readonly tlsMode: 'DISABLE' | 'ISTIO_MUTUAL' | 'SIMPLE' | 'MUTUAL' | undefined;
  /** With SIMPLE and MUTUAL. */
  readonly origination: TlsOriginationModel | undefined;
  /** The host is a forward proxy: opaque connections go through it to `authority`, by POST or by CONNECT. */
  readonly tunnel: { readonly authority: string; readonly post: boolean } | undefined;
  /** Version of the PROXY header that opaque connections begin with. */
  readonly proxyProtocol: 1 | 2 | undefined;
  readonly retryBudget: { readonly percent: number; readonly minRetryConcurrency: number } | undefined;
  /** What is not said here is the default, not the parent's. */
  readonly portLevel: ReadonlyMap<number, TrafficPolicyModel>;
}

export interface SubsetModel {
  readonly field: string;
  readonly name: string;
  readonly labels: Labels;
  readonly trafficPolicy: TrafficPolicyModel | undefined;
}

export interface DestinationRuleModel extends Resource {
  readonly host: string;
  /** Namespaces that see it; undefined: all. */
  readonly exportTo: readonly string[] | undefined;
  /** Clients that it holds for; undefined: all. */
  readonly workloadSelector: Labels | undefined;
  /** For each outlierDetection of the rule. */
  readonly outlierRates: OutlierRatesModel | undefined;
  /** Of a try with its response; of its annotation. */
  readonly maxStreamDurationMs?: number | undefined;
  readonly trafficPolicy: TrafficPolicyModel | undefined;
  readonly subsets: readonly SubsetModel[];
}

export type MtlsModeName = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthenticationModel extends Resource {
  /** `metadata.creationTimestamp`; empty where there is none. */
  readonly created: string;
  readonly selector: Labels | undefined;
  readonly mode: MtlsModeName;
  readonly portLevel: ReadonlyMap<number, MtlsModeName>;
}

export interface AuthorizationSourceModel {
  readonly principals: readonly string[];
  readonly notPrincipals: readonly string[];
  readonly namespaces: readonly string[];
  readonly notNamespaces: readonly string[];
  readonly ipBlocks: readonly string[];
  readonly notIpBlocks: readonly string[];
  readonly serviceAccounts: readonly string[];
  readonly notServiceAccounts: readonly string[];
  readonly trustDomains: readonly string[];
  readonly notTrustDomains: readonly string[];
  readonly remoteIpBlocks: readonly string[];
  readonly notRemoteIpBlocks: readonly string[];
  readonly requestPrincipals: readonly string[];
  readonly notRequestPrincipals: readonly string[];
}

export interface AuthorizationOperationModel {
  readonly hosts: readonly string[];
  readonly notHosts: readonly string[];
  readonly ports: readonly string[];
  readonly notPorts: readonly string[];
  readonly methods: readonly string[];
  readonly notMethods: readonly string[];
  readonly paths: readonly string[];
  readonly notPaths: readonly string[];
}

export interface AuthorizationRuleModel {
  readonly field: string;
  readonly from: readonly AuthorizationSourceModel[];
  readonly to: readonly AuthorizationOperationModel[];
  readonly when: readonly {
    readonly key: string;
    readonly values: readonly string[];
    readonly notValues: readonly string[];
  }[];
}

export interface AuthorizationPolicyModel extends Resource {
  readonly selector: Labels | undefined;
  readonly targets?: readonly PolicyTargetModel[];
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';
  /** Of CUSTOM: which of the mesh settings' extension providers decides; else ''. */
  readonly provider: string;
  readonly rules: readonly AuthorizationRuleModel[];
  readonly dryRun: boolean;
}

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

/** `weft.dev/v1alpha1 DecisionHeader`: who is told which rules decided, of the workloads of its namespace. */
export interface DecisionHeaderModel extends Resource {
  /** Principals without `spiffe://`: exact, `prefix*` or `*`. */
  readonly callers: readonly string[];
}

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
  readonly overrides: readonly {
    readonly requestsPerSecond: number;
    readonly accounts: readonly { readonly namespace: string; readonly name: string }[];
  }[];
}

export interface TokenRuleModel {
  readonly field: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** JSON of the key set; empty: it is fetched (see keySourceOf). */
  readonly jwks: string;
  /** Where from; empty: where the issuer's OpenID configuration says. */
  readonly jwksUri: string;
  readonly fetchTimeoutMs: number;
  readonly headers: readonly { readonly name: string; readonly prefix: string }[];
  readonly params: readonly string[];
  readonly cookies: readonly string[];
  readonly forward: boolean;
  readonly payloadHeader: string;
  readonly claimHeaders: readonly { readonly header: string; readonly claim: readonly string[] }[];
  /** Claims whose texts are lists of words with blanks between them. */
  readonly wordClaims: readonly string[];
}

export interface RequestAuthenticationModel extends Resource {
  readonly selector: Labels | undefined;
  readonly targets?: readonly PolicyTargetModel[];
  readonly rules: readonly TokenRuleModel[];
}

/** `weft.dev/v1alpha1 MeshDefaults`: in the root namespace it holds for the mesh, elsewhere for that namespace's services. */
export interface MeshDefaultsModel extends Resource {
  readonly timeoutMs: number | undefined;
}

export interface Model {
  readonly namespaces: readonly NamespaceModel[];
  readonly serviceAccounts: readonly ServiceAccountModel[];
  /** Those of ServiceEntries come last. */
  readonly services: readonly ServiceModel[];
  /** Those that are a name for another (`type: ExternalName`): they have nothing of their own. */
  readonly serviceAliases: readonly ServiceModel[];
  readonly workloadEntries: readonly WorkloadEntryModel[];
  readonly sidecars: readonly SidecarModel[];
  readonly endpointSlices: readonly EndpointSliceModel[];
  readonly processes: readonly ProcessModel[];
  readonly virtualServices: readonly VirtualServiceModel[];
  readonly destinationRules: readonly DestinationRuleModel[];
  readonly gateways: readonly GatewayModel[];
  /** In order of precedence: the oldest first, then by namespace and name. */
  readonly apiRoutes: readonly ApiRouteModel[];
  readonly referenceGrants: readonly ReferenceGrantModel[];
  readonly gatewayClasses: readonly GatewayClassModel[];
  /** Oldest first, as apiRoutes. */
  readonly backendTlsPolicies: readonly BackendTlsPolicyModel[];
  readonly backendPolicies: readonly BackendPolicyModel[];
  readonly configMaps: readonly ConfigMapModel[];
  readonly secrets: readonly SecretModel[];
  readonly peerAuthentications: readonly PeerAuthenticationModel[];
  readonly authorizationPolicies: readonly AuthorizationPolicyModel[];
  readonly requestAuthentications: readonly RequestAuthenticationModel[];
  readonly meshDefaults: readonly MeshDefaultsModel[];
  /** The first of them counts (see meshConfigOf). */
  readonly meshConfigs: readonly MeshConfigModel[];
  readonly servers: readonly ServerModel[];
  readonly linkerdAuthorizations: readonly LinkerdAuthorizationModel[];
  readonly meshTlsAuthentications: readonly MeshTlsAuthenticationModel[];
  readonly networkAuthentications: readonly NetworkAuthenticationModel[];
  readonly inboundRoutes: readonly InboundRouteModel[];
  readonly serviceIntentions: readonly ServiceIntentionsModel[];
  readonly tcpFaults: readonly TcpFaultModel[];
  readonly decisionHeaders: readonly DecisionHeaderModel[];
  readonly httpRateLimits: readonly RateLimitModel[];
  readonly tcpRateLimits: readonly RateLimitModel[];
  /** ref → where that field stands. A ref is `Kind/namespace/name#field.path`. */
  readonly positions: ReadonlyMap<string, Position>;
  /** Policies of this namespace hold for the whole mesh. Default istio-system. */
  readonly rootNamespace: string;
  /** Default cluster.local. */
  readonly domain: string;
}

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
}
