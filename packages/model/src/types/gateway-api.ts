/** What the Gateway API has beside Gateways: routes attached to them and to services, grants, policies of backends. */
import type { InboundRouteModel } from '../linkerd-policy.ts';
import type { Resource } from './resource.ts';
import type { HttpRouteModel, SessionModel, TcpRouteModel, TlsRouteModel } from './route.ts';

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
  /** Of a route whose parents are Servers: it says who may call, and nothing of where requests go. */
  readonly inbound?: InboundRouteModel;
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
