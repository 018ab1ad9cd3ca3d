/** Routes in the words of a VirtualService; those of the Gateway API are said in them too. */
import type { Labels, Resource } from './resource.ts';

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
  /** Of responses' bodies; an annotation says it. */
  readonly bandwidth?: { readonly percent: number; readonly bytesPerSecond: number } | undefined;
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
