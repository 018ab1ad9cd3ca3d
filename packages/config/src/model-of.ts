/** Resources → model: who stands in which list, in which order, and what the mesh settings say for those that say nothing. */
import type {
  ApiRouteModel,
  BackendPolicyModel,
  BackendTlsPolicyModel,
  ConfigMapModel,
  DestinationRuleModel,
  InboundRouteModel,
  MeshConfigModel,
  Model,
  PeerAuthenticationModel,
  Resource,
  ServiceEntryModel,
  ServiceModel,
  VirtualServiceModel,
} from '@weft/model';

/** The resources of one reading, by their refs and in their order, as a model. */
export function modelOf(
  resources: ReadonlyMap<string, Resource>,
  settled: Pick<Model, 'positions' | 'rootNamespace' | 'domain'>,
): Model {
  const of = <T extends Resource>(kind: string) =>
    Object.freeze([...resources.values()].filter((r) => r.kind === kind)) as readonly T[];
  const meshConfigs = [
    ...of<MeshConfigModel>('IstioOperator'),
    ...of<ConfigMapModel | MeshConfigModel>('ConfigMap').filter((c) => 'extensionProviders' in c),
  ];
  const settings = meshConfigs[0] as MeshConfigModel | undefined;
  const apiRoutes = byAge(API_ROUTES.flatMap((kind) => of<ApiRouteModel>(kind)));
  return {
    namespaces: of('Namespace'),
    serviceAccounts: of('ServiceAccount'),
    services: [
      ...of<ServiceModel>('Service').filter((s) => s.externalName === undefined),
      ...of<ServiceEntryModel>('ServiceEntry')
        .flatMap((e) => e.services)
        .map((s) => exported(s, settings?.serviceExportTo)),
    ],
    serviceAliases: of<ServiceModel>('Service').filter((s) => s.externalName !== undefined),
    workloadEntries: of('WorkloadEntry'),
    workloadGroups: of('WorkloadGroup'),
    sidecars: of('Sidecar'),
    endpointSlices: of('EndpointSlice'),
    processes: of('Process'),
    virtualServices: of<VirtualServiceModel>('VirtualService').map((r) => forAll(r, settings?.virtualServiceExportTo)),
    destinationRules: of<DestinationRuleModel>('DestinationRule').map((r) =>
      forAll(r, settings?.destinationRuleExportTo),
    ),
    gateways: of('Gateway'),
    apiRoutes: apiRoutes.filter((r) => !r.inbound),
    referenceGrants: of('ReferenceGrant'),
    gatewayClasses: of('GatewayClass'),
    backendTlsPolicies: byAge(of<BackendTlsPolicyModel>('BackendTLSPolicy')),
    backendPolicies: byAge(
      ['BackendLBPolicy', 'XBackendTrafficPolicy'].flatMap((kind) => of<BackendPolicyModel>(kind)),
    ),
    configMaps: of<ConfigMapModel | MeshConfigModel>('ConfigMap').filter((c) => 'caPem' in c),
    secrets: of('Secret'),
    peerAuthentications: oldestFirst(of<PeerAuthenticationModel>('PeerAuthentication')),
    authorizationPolicies: of('AuthorizationPolicy'),
    requestAuthentications: of('RequestAuthentication'),
    jwtProviders: of('JWTProvider'),
    meshDefaults: of('MeshDefaults'),
    meshConfigs,
    servers: of('Server'),
    linkerdAuthorizations: of('AuthorizationPolicy.policy.linkerd.io'),
    meshTlsAuthentications: of('MeshTLSAuthentication'),
    networkAuthentications: of('NetworkAuthentication'),
    inboundRoutes: [
      ...of<InboundRouteModel>('HTTPRoute.policy.linkerd.io'),
      ...apiRoutes.flatMap((r) => r.inbound ?? []),
    ],
    serviceIntentions: of('ServiceIntentions'),
    tcpFaults: of('TCPFault'),
    healthChecks: of('HealthCheck'),
    decisionHeaders: of('DecisionHeader'),
    httpRateLimits: of('HTTPLocalRateLimitPolicy'),
    tcpRateLimits: of('TCPLocalRateLimitPolicy'),
    ...settled,
  };
}

const API_ROUTES = ['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute'];

/** The Gateway API's order among equals: the oldest, then the first by namespace and name. */
function byAge<T extends Resource & { readonly created: string }>(list: readonly T[]): readonly T[] {
  const key = (r: T): string => `${r.namespace}/${r.name}`;
  return oldestFirst([...list].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0)));
}

/** What has no time comes after what has one, in the order it was read in. */
function oldestFirst<T extends { readonly created: string }>(list: readonly T[]): readonly T[] {
  const time = (r: T): number => (r.created === '' ? Number.MAX_VALUE : Date.parse(r.created));
  return Object.freeze([...list].sort((a, b) => time(a) - time(b)));
}

/** A rule, for the namespaces of the mesh settings where it says nothing itself. */
function forAll<T extends { readonly exportTo: readonly string[] | undefined }>(
  rule: T,
  exportTo: readonly string[] | undefined,
): T {
  return rule.exportTo || !exportTo ? rule : { ...rule, exportTo };
}

/** A host of a ServiceEntry, which is for the namespaces of the mesh settings where it says nothing itself. */
function exported(service: ServiceModel, exportTo: readonly string[] | undefined): ServiceModel {
  if (!service.external || service.external.exportTo || !exportTo) return service;
  return { ...service, external: { ...service.external, exportTo } };
}
