/** Where visitors come in: Gateways of both APIs, and the certificates that they show. */
import type { Labels, Resource } from './resource.ts';

export type TlsVersionName = 'TLS_AUTO' | 'TLSV1_2' | 'TLSV1_3';

/** A certificate chain and its key, PEM. Never printed. */
export interface KeyPairModel {
  readonly certificatePem: string;
  readonly keyPem: string;
  /** DNS names and addresses that it is for; empty: not known. */
  readonly names: readonly string[];
}

/** A Secret that a server names. */
export interface CredentialModel {
  readonly name: string;
  /** Empty: the gateway workload's. */
  readonly namespace: string;
  /** Where it is named. */
  readonly field: string;
}

/** Whose `ca.crt` judges clients' certificates. */
export interface AuthorityModel extends CredentialModel {
  readonly kind: 'Secret' | 'ConfigMap';
}

/** What a gateway does with TLS. ISTIO_MUTUAL: only the mesh comes in, by its own mTLS. */
export type GatewayTlsMode = 'SIMPLE' | 'MUTUAL' | 'OPTIONAL_MUTUAL' | 'PASSTHROUGH' | 'ISTIO_MUTUAL';

export interface GatewayTlsModel {
  readonly mode: GatewayTlsMode;
  /** Secrets, each with a certificate; empty where files are given, or TLS is not ended here. */
  readonly credentials: readonly CredentialModel[];
  /** What files hold, in the place of Secrets. */
  readonly files: readonly (KeyPairModel & { readonly field: string })[];
  /** Who signs clients' certificates, where that is a file; else a Secret says it. */
  readonly caPem: string;
  /** Revocation lists of clients' certificates, where they are a file; else the Secret of the CA has them. */
  readonly crlPem: string;
  /** Who signs clients' certificates, where they are named; empty: found by the first credential's name. */
  readonly authorities: readonly AuthorityModel[];
  /** One of them is to be in a client's certificate; empty: any. */
  readonly subjectAltNames: readonly string[];
  /** SHA-256 of clients' certificates, hex in lower case; one of these or of `keyHashes` is to fit. Both empty: any. */
  readonly certificateHashes: readonly string[];
  /** SHA-256 of clients' public keys (SPKI), base64. */
  readonly keyHashes: readonly string[];
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

/** Who serves the Gateways of a class. */
export interface GatewayClassModel extends Resource {
  readonly controllerName: string;
}

/** A Secret with a certificate, or with the CA for those of clients. */
export interface SecretModel extends Resource, KeyPairModel {
  /** Empty: it has none. */
  readonly caPem: string;
  /** Revocation lists of what that CA signed; empty: none. */
  readonly crlPem: string;
}
