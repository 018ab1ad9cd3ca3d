/** How clients treat a service: balancing, pools, outliers, TLS, subsets. */
import type { TcpKeepaliveModel } from '../mesh-config.ts';
import type { Labels, Resource } from './resource.ts';

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
  readonly caCrl?: string; // a file; '': nothing is looked up
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
  /** With ISTIO_MUTUAL: SPIFFE ids of servers that may be called; empty: all. */
  readonly identities: readonly string[];
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
