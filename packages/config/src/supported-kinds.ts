/** Every kind that is read. */
import type { Resource } from '@weft/model';
import { backendPolicyKinds } from './gateway-api/backend-policy.ts';
import { backendTlsPolicyKind, configMapKind } from './gateway-api/backend-tls.ts';
import { apiGatewayKind, gatewayClassKind, referenceGrantKind } from './gateway-api/gateway.ts';
import { grpcRouteKind } from './gateway-api/grpc-route.ts';
import { httpRouteKind } from './gateway-api/http-route.ts';
import { tcpRouteKind, tlsRouteKind } from './gateway-api/stream-routes.ts';
import type { Kind } from './kinds/common.ts';
import { meshDefaultsKind, namespaceKind, processKind, serviceAccountKind, serviceKind } from './kinds/core.ts';
import { decisionHeaderKind } from './kinds/decision-header.ts';
import { endpointSliceKind } from './kinds/endpoint-slice.ts';
import { gatewayKind } from './kinds/gateway.ts';
import { healthCheckKind } from './kinds/health-check.ts';
import { serviceIntentionsKind } from './kinds/intentions.ts';
import { jwtProviderKind } from './kinds/jwt-provider.ts';
import { httpRateLimitKind, serverKind, tcpRateLimitKind } from './kinds/linkerd.ts';
import {
  inboundRouteKind,
  linkerdAuthorizationKind,
  meshTlsAuthenticationKind,
  networkAuthenticationKind,
} from './kinds/linkerd-policy.ts';
import { istioOperatorKind, meshConfigMapKind } from './kinds/mesh-config.ts';
import { destinationRuleKind } from './kinds/networking.ts';
import { requestAuthenticationKind } from './kinds/request-authentication.ts';
import { secretKind } from './kinds/secret.ts';
import { authorizationPolicyKind, peerAuthenticationKind } from './kinds/security.ts';
import { serviceEntryKind, workloadEntryKind } from './kinds/service-entry.ts';
import { sidecarKind } from './kinds/sidecar.ts';
import { tcpFaultKind } from './kinds/tcp-fault.ts';
import { virtualServiceKind } from './kinds/virtual-service.ts';
import { workloadGroupKind } from './kinds/workload-group.ts';

/** By name; one name may stand for kinds of several APIs, which their versions tell apart. */
export const KINDS: ReadonlyMap<string, Kind<Resource>[]> = Map.groupBy(
  [
    namespaceKind,
    serviceAccountKind,
    serviceKind,
    processKind,
    meshDefaultsKind,
    istioOperatorKind,
    meshConfigMapKind,
    virtualServiceKind,
    destinationRuleKind,
    gatewayKind,
    secretKind,
    serviceEntryKind,
    workloadEntryKind,
    workloadGroupKind,
    sidecarKind,
    endpointSliceKind,
    peerAuthenticationKind,
    authorizationPolicyKind,
    requestAuthenticationKind,
    serverKind,
    linkerdAuthorizationKind,
    meshTlsAuthenticationKind,
    networkAuthenticationKind,
    inboundRouteKind,
    serviceIntentionsKind,
    jwtProviderKind,
    httpRateLimitKind,
    tcpRateLimitKind,
    tcpFaultKind,
    healthCheckKind,
    decisionHeaderKind,
    apiGatewayKind,
    gatewayClassKind,
    referenceGrantKind,
    httpRouteKind,
    grpcRouteKind,
    tcpRouteKind,
    tlsRouteKind,
    backendTlsPolicyKind,
    configMapKind,
    ...backendPolicyKinds,
  ] as Kind<Resource>[],
  (k) => k.kind,
);

/** Every kind that is read, e.g. for help texts. */
export const SUPPORTED_KINDS: readonly string[] = [...KINDS.keys()];
