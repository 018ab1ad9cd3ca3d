/**
 * The mesh as one immutable snapshot. Everything in this folder is plain data: durations in milliseconds, hosts as they
 * were written, defaults not yet applied (compile does that). Who builds a model (package config) has checked it:
 * references resolve, numbers are in range.
 */
import type { Position } from '@weft/base';
import type { JwtProviderModel, ServiceIntentionsModel } from '../intentions.ts';
import type {
  InboundRouteModel,
  LinkerdAuthorizationModel,
  MeshTlsAuthenticationModel,
  NetworkAuthenticationModel,
} from '../linkerd-policy.ts';
import type { MeshConfigModel } from '../mesh-config.ts';
import type { DestinationRuleModel } from './destination-rule.ts';
import type { GatewayClassModel, GatewayModel, SecretModel } from './gateway.ts';
import type {
  ApiRouteModel,
  BackendPolicyModel,
  BackendTlsPolicyModel,
  ConfigMapModel,
  ReferenceGrantModel,
} from './gateway-api.ts';
import type { ProcessModel } from './process.ts';
import type { RateLimitModel, ServerModel } from './rate-limit.ts';
import type { NamespaceModel, ServiceAccountModel } from './resource.ts';
import type { VirtualServiceModel } from './route.ts';
import type { AuthorizationPolicyModel, PeerAuthenticationModel, RequestAuthenticationModel } from './security.ts';
import type { EndpointSliceModel, ServiceModel, WorkloadEntryModel, WorkloadGroupModel } from './service.ts';
import type { SidecarModel } from './sidecar.ts';
import type { DecisionHeaderModel, HealthCheckModel, MeshDefaultsModel, TcpFaultModel } from './weft.ts';

export interface Model {
  readonly namespaces: readonly NamespaceModel[];
  readonly serviceAccounts: readonly ServiceAccountModel[];
  /** Those of ServiceEntries come last. */
  readonly services: readonly ServiceModel[];
  /** Those that are a name for another (`type: ExternalName`): they have nothing of their own. */
  readonly serviceAliases: readonly ServiceModel[];
  readonly workloadEntries: readonly WorkloadEntryModel[];
  readonly workloadGroups: readonly WorkloadGroupModel[];
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
  readonly jwtProviders: readonly JwtProviderModel[];
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
  readonly healthChecks: readonly HealthCheckModel[];
  readonly decisionHeaders: readonly DecisionHeaderModel[];
  readonly httpRateLimits: readonly RateLimitModel[];
  readonly tcpRateLimits: readonly RateLimitModel[];
  readonly positions: Positions;
  /** Policies of this namespace hold for the whole mesh. Default istio-system. */
  readonly rootNamespace: string;
  /** Default cluster.local. */
  readonly domain: string;
}

/** Where the fields of a resource stand: by `Kind/namespace/name`, then by the field's path. */
export type Positions = ReadonlyMap<string, ReadonlyMap<string, Position>>;
