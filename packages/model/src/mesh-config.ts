/** Settings of the whole mesh: Istio's MeshConfig, as far as it has an effect here. */
import { create } from '@bufbuild/protobuf';
import { type TlsSettings, TlsSettingsSchema, TlsVersion } from '@weft/plan';
import type { LocalityModel } from './types/destination-rule.ts';
import type { TlsVersionName } from './types/gateway.ts';
import type { Model } from './types/model.ts';
import type { Resource } from './types/resource.ts';
import type { RetriesModel } from './types/route.ts';

export interface TcpKeepaliveModel {
  /** Unanswered probes before the connection is given up; undefined: the system's. */
  readonly probes: number | undefined;
  readonly timeMs: number | undefined; // idle for so long before the first one
  readonly intervalMs: number | undefined; // between them
}

/** Of a document that holds mesh settings; undefined: the default. */
export interface MeshConfigModel extends Resource {
  readonly kind: 'IstioOperator' | 'ConfigMap';
  /** Where the settings stand in the document: `spec.meshConfig`, `data.mesh`. */
  readonly field: string;
  readonly registryOnly: boolean | undefined;
  readonly connectTimeoutMs: number | undefined;
  readonly tcpKeepalive: TcpKeepaliveModel | undefined;
  /** False: clients use mTLS only where a DestinationRule says so. */
  readonly autoMtls: boolean;
  readonly trustDomain: string | undefined;
  /** Names that stand for the trust domain too. */
  readonly trustDomainAliases: readonly string[];
  readonly h2Upgrade: boolean;
  readonly locality: LocalityModel | undefined;
  readonly retries: RetriesModel | undefined;
  /** At a workload's own application (`defaultInboundHttpRetryPolicy`). */
  readonly applicationRetries: number | undefined;
  /** Whom resources that do not say so themselves are for. */
  readonly serviceExportTo: readonly string[] | undefined;
  readonly virtualServiceExportTo: readonly string[] | undefined;
  readonly destinationRuleExportTo: readonly string[] | undefined;
  readonly proxy: ProxyConfigModel;
  readonly tracing: {
    /** False: spans are sent only where a provider is named. */
    readonly enabled: boolean;
    /** Name of an extension provider. */
    readonly provider: string | undefined;
  };
  readonly extensionProviders: readonly ExtensionProviderModel[];
  /** `meshMTLS`: of links between proxies, which are TLS 1.3. */
  readonly meshTls: TlsChoiceModel;
  /** `tlsDefaults`: of gateways' servers that say nothing of their own, and of TLS that proxies begin. */
  readonly tlsDefaults: TlsChoiceModel & { readonly minVersion: TlsVersionName };
}

/** Names are OpenSSL's, in order of preference; an empty list: the default. */
export interface TlsChoiceModel {
  readonly curves: readonly string[];
  readonly cipherSuites: readonly string[];
}

/** What becomes of x-forwarded-client-cert at a gateway (`gatewayTopology.forwardClientCertDetails`). */
export type ClientCertDetails = 'SANITIZE' | 'FORWARD_ONLY' | 'APPEND_FORWARD' | 'SANITIZE_SET' | 'ALWAYS_FORWARD_ONLY';

/** `defaultConfig`, or what the annotation `proxy.istio.io/config` of a workload says in its place. */
export interface ProxyConfigModel {
  /** How long connections are let finish before a proxy ends. */
  readonly drainMs: number | undefined;
  /** Of gateways. */
  readonly numTrustedProxies: number | undefined;
  /** Of gateways: each connection begins with a PROXY header. */
  readonly proxyProtocol: boolean | undefined;
  /** Of gateways; default SANITIZE_SET. */
  readonly clientCertDetails: ClientCertDetails | undefined;
  readonly tracing: ProxyTracingModel | undefined;
}

export interface ProxyTracingModel {
  /** Percent of the traces that begin; default 1. */
  readonly sampling: number | undefined;
  readonly maxPathTagLength: number | undefined;
  readonly istioTags: boolean | undefined;
  /** Where a Zipkin collector is. */
  readonly zipkin: { readonly host: string; readonly port: number } | undefined;
}

export type ExtensionProviderModel =
  | ExtAuthzHttpModel
  | ExtAuthzGrpcModel
  | SpanProviderModel
  /** Other providers of tracing, access logs or metrics, by the name of its field (`zipkin`). */
  | { readonly type: 'telemetry'; readonly field: string; readonly name: string; readonly of: string };

/** A collector of spans. */
export interface SpanProviderModel {
  readonly type: 'zipkin' | 'opentelemetry';
  readonly field: string;
  readonly name: string;
  /** `[namespace/]host`, as written. */
  readonly service: string;
  readonly port: number;
  readonly path: string;
  /** Of `opentelemetry`. */
  readonly grpc: boolean;
  readonly timeoutMs: number | undefined;
  readonly maxPathTagLength: number | undefined;
}

/** Whether it is asked if requests may pass. */
export function isAuthorizer(p: ExtensionProviderModel): p is ExtAuthzHttpModel | ExtAuthzGrpcModel {
  return p.type === 'extAuthzHttp' || p.type === 'extAuthzGrpc';
}

/** What both external authorizers have. */
interface ExtAuthzModel {
  readonly field: string;
  readonly name: string;
  /** `[namespace/]host`, as written: its Service or the host of a ServiceEntry. */
  readonly service: string;
  readonly port: number;
  readonly timeoutMs: number; // default 600 s
  /** Requests pass where no answer is to be had; default false. */
  readonly failOpen: boolean;
  readonly clearRouteCache: boolean;
  /** Of the refusal where no answer is to be had; default 403. */
  readonly statusOnError: number;
  readonly body:
    | {
        readonly maxBytes: number;
        readonly allowPartial: boolean;
        readonly asBytes: boolean; // gRPC only: as raw_body, not as text
      }
    | undefined;
}

/** `envoyExtAuthzHttp`. Names of headers are lower-case: exact, `prefix*`, `*suffix` or `*`. */
export interface ExtAuthzHttpModel extends ExtAuthzModel {
  readonly type: 'extAuthzHttp';
  readonly pathPrefix: string;
  /** Request headers for the check, beside Host, Method, Path, Content-Length and Authorization. */
  readonly includeRequestHeaders: readonly string[];
  readonly additionalHeaders: readonly (readonly [string, string])[];
  readonly headersToUpstreamOnAllow: readonly string[];
  readonly headersToDownstreamOnAllow: readonly string[];
  /** Empty: all that the authorizer's answer has. */
  readonly headersToDownstreamOnDeny: readonly string[];
}

/** `envoyExtAuthzGrpc`. */
export interface ExtAuthzGrpcModel extends ExtAuthzModel {
  readonly type: 'extAuthzGrpc';
}

/** The settings that count; undefined: none are written, all are the defaults. */
export function meshConfigOf(model: Model): MeshConfigModel | undefined {
  return model.meshConfigs[0];
}

export const TLS_VERSIONS: Readonly<Record<TlsVersionName, TlsVersion>> = {
  TLS_AUTO: TlsVersion.UNSPECIFIED,
  TLSV1_2: TlsVersion.TLSV1_2,
  TLSV1_3: TlsVersion.TLSV1_3,
};

/** For every proxy; undefined: the settings ask for nothing, and no proxy is to know of them. */
export function tlsSettingsOf(model: Model): TlsSettings | undefined {
  const settings = meshConfigOf(model);
  if (!settings) return undefined;
  const { meshTls, tlsDefaults } = settings;
  const lists = [meshTls.curves, meshTls.cipherSuites, tlsDefaults.curves, tlsDefaults.cipherSuites];
  if (tlsDefaults.minVersion === 'TLS_AUTO' && lists.every((list) => list.length === 0)) return undefined;
  return create(TlsSettingsSchema, {
    meshCurves: [...meshTls.curves],
    meshCipherSuites: [...meshTls.cipherSuites],
    minVersion: TLS_VERSIONS[tlsDefaults.minVersion],
    cipherSuites: [...tlsDefaults.cipherSuites],
    curves: [...tlsDefaults.curves],
  });
}
