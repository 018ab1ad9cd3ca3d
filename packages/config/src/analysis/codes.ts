/** Every code that `weft analyze` gives: Istio's where Istio has one for it, else Kiali's, else our own. */

export type Severity = 'error' | 'warning' | 'info';

export interface Code {
  readonly code: string;
  readonly severity: Severity;
  /** The same finding in Kiali's words; suppressions may name it too. */
  readonly also: readonly string[];
  readonly name: string;
  /** When it is given. */
  readonly when: string;
}

const table: Code[] = [];
function add(severity: Severity, code: string, name: string, when: string, ...also: string[]): void {
  table.push({ code, severity, also, name, when });
}

add(
  'warning',
  'IST0002',
  'Deprecated',
  'A field or value stands there in its old form; the message names the new one.',
);
add(
  'error',
  'IST0101',
  'ReferencedResourceNotFound',
  'A VirtualService or Gateway names a service, subset, port, Gateway or Secret that does not exist.',
  'KIA1101',
  'KIA1102',
  'KIA1107',
  'KIA0302',
);
add('info', 'IST0102', 'NamespaceNotInjected', 'Processes run in a namespace whose label turns proxies off.');
add('warning', 'IST0103', 'PodMissingProxy', 'A Process is left out of a mesh that its namespace belongs to.');
add(
  'error',
  'IST0106',
  'SchemaValidationError',
  'The document is no YAML, of no known kind, or has a field or value that its kind does not have.',
);
add(
  'warning',
  'IST0107',
  'MisplacedAnnotation',
  "One of Istio's annotations, or weft.dev/rate-limit-scope, stands on a kind that it is not for.",
);
add('warning', 'IST0108', 'UnknownAnnotation', "An annotation has Istio's prefix, but Istio has none of that name.");
add(
  'error',
  'IST0109',
  'ConflictingMeshGatewayVirtualServiceHosts',
  'Two VirtualServices of the mesh have the same host: only the first counts.',
  'KIA1106',
);
add('error', 'IST0110', 'ConflictingSidecarWorkloadSelectors', 'Two Sidecars select the same Process.', 'KIA0003');
add(
  'error',
  'IST0111',
  'MultipleSidecarsWithoutWorkloadSelectors',
  'A namespace has two Sidecars without a selector.',
  'KIA0002',
);
add(
  'error',
  'IST0112',
  'VirtualServiceDestinationPortSelectorRequired',
  'A destination has several ports, and the route does not say which.',
);
add(
  'error',
  'IST0116',
  'DeploymentAssociatedToMultipleServices',
  'Services with different protocols lead to the same port of a Process. An error, unlike in Istio: one of them would be wrong.',
);
add(
  'info',
  'IST0118',
  'PortNameIsNotUnderNamingConvention',
  'Neither the name nor the appProtocol of a port says a protocol: it is detected on the first bytes.',
  'KIA0601',
);
add('warning', 'IST0123', 'NamespaceMultipleInjectionLabels', 'A namespace has istio-injection and istio.io/rev.');
add('error', 'IST0125', 'InvalidAnnotation', 'An annotation has a value that it cannot have.');
add(
  'warning',
  'IST0127',
  'NoMatchingWorkloadsFound',
  'The selector of a policy matches no Process: it holds for nothing.',
  'KIA0004',
);
add(
  'warning',
  'IST0128',
  'NoServerCertificateVerificationDestinationLevel',
  'insecureSkipVerify is set: anyone may answer. (Without caCertificates the system’s are used, unlike in Istio.)',
);
add(
  'warning',
  'IST0129',
  'NoServerCertificateVerificationPortLevel',
  'insecureSkipVerify is set for a port: anyone may answer there.',
);
add(
  'warning',
  'IST0130',
  'VirtualServiceUnreachableRule',
  'Every match of a rule stands in an earlier one, or an earlier rule takes everything.',
);
add('info', 'IST0131', 'VirtualServiceIneffectiveMatch', 'One of several matches of a rule stands in an earlier one.');
add(
  'warning',
  'IST0132',
  'VirtualServiceHostNotFoundInGateway',
  'No host of a VirtualService is one of the Gateway that it names.',
);
add('warning', 'IST0133', 'SchemaWarning', 'What stands there is allowed and has no effect.');
add('info', 'IST0135', 'DeprecatedAnnotation', 'An annotation of Istio is deprecated; the message names the new form.');
add('info', 'IST0136', 'AlphaAnnotation', 'An annotation that Istio calls alpha.');
add(
  'warning',
  'IST0137',
  'DeploymentConflictingPorts',
  'Two Services lead to the same port of a Process from different ports of theirs.',
);
add(
  'warning',
  'IST0138',
  'GatewayDuplicateCertificate',
  'Gateways of one workload share a certificate: browsers reuse a connection for the other one’s hosts.',
);
add('error', 'IST0144', 'InvalidApplicationUID', 'A Process runs as user 1337, whose traffic is not captured.');
add(
  'error',
  'IST0145',
  'ConflictingGateways',
  'Two Gateways want the same host on the same port of a workload, or HTTP and HTTPS on one port.',
  'KIA0301',
);
add(
  'error',
  'IST0161',
  'InvalidGatewayCredential',
  'A certificate does not belong to its key (error), or is not for the hosts that it is shown for (warning).',
);
add('warning', 'IST0162', 'GatewayPortNotDefinedOnService', 'No Service of the gateway leads to a port of a Gateway.');
add(
  'warning',
  'IST0167',
  'IneffectivePolicy',
  'A policy selects only Processes that have no proxy: nobody enforces it.',
);
add(
  'error',
  'IST0173',
  'DestinationRuleSubsetNotSelectPods',
  'The labels of a subset match no Process of the service.',
  'KIA0203',
);
add(
  'error',
  'IST0174',
  'UnknownDestinationRuleHost',
  'The host of a DestinationRule is no service; a warning where it is a wildcard.',
  'KIA0202',
);
add(
  'warning',
  'IST0177',
  'ConflictingServiceEntryProtocol',
  'Two ServiceEntries have the same host and port with different protocols.',
  'KIA1212',
);
add('warning', 'KIA0002', 'MultipleSelectorless', 'A namespace has two PeerAuthentications without a selector.');
add('error', 'KIA0003', 'MultipleOnWorkload', 'Two PeerAuthentications select the same Process: only one counts.');
add('warning', 'KIA0101', 'PolicyNamespaceNotFound', 'A policy names a namespace in which nothing is.');
add('warning', 'KIA0102', 'PolicyMethod', 'A policy names a method that is none of HTTP’s, nor a gRPC path.');
add('error', 'KIA0104', 'PolicyHostNotFound', 'A policy names a host inside the mesh that is no service.');
add(
  'error',
  'KIA0105',
  'PolicyNeedsMtls',
  'A policy asks who calls a workload whose mTLS mode is DISABLE: nobody can show it.',
);
add('error', 'KIA0106', 'PolicyPrincipalNotFound', 'A policy names a principal that no Process has.');
add('warning', 'KIA0108', 'PolicyTrustDomain', 'A policy names a principal of a trust domain that is not this mesh’s.');
add(
  'warning',
  'KIA0201',
  'DestinationRuleTwice',
  'Two DestinationRules of a namespace define the same host or subset.',
);
add(
  'error',
  'KIA0206',
  'MutualMeetsDisable',
  'A DestinationRule says ISTIO_MUTUAL for a port whose PeerAuthentication says DISABLE.',
  'KIA0205',
);
add(
  'error',
  'KIA0207',
  'StrictMeetsPlaintext',
  'A DestinationRule says DISABLE, SIMPLE or MUTUAL for a port whose PeerAuthentication says STRICT.',
  'KIA0208',
);
add('warning', 'KIA0209', 'SubsetWithoutLabels', 'A subset has no labels: it is the whole service.');
add(
  'warning',
  'KIA0602',
  'UnknownAppProtocol',
  'The appProtocol of a port is none that is known: it is not looked at.',
);
add(
  'error',
  'KIA0701',
  'ServiceWithoutWorkload',
  'The selector of a Service matches no Process, or its targetPort names a port that the Process does not have.',
);
add('warning', 'KIA1004', 'SidecarHostNotFound', 'No service has a host of a Sidecar’s egress.');
add(
  'warning',
  'KIA1006',
  'GlobalSidecarWithSelector',
  'A Sidecar of the root namespace has a selector: it is no default of the mesh then.',
);
add('warning', 'KIA1104', 'WeightOfOne', 'The only destination of a route has a weight below 100: it gets everything.');
add('warning', 'KIA1105', 'DestinationTwice', 'A route names the same destination twice.');
add('warning', 'KIA1211', 'ServiceEntryTwice', 'Two ServiceEntries have the same host and port.');
add('info', 'KIA1301', 'NotCovered', 'No AuthorizationPolicy selects a Process, though others are covered.');
add(
  'error',
  'KIA1401',
  'RouteWithoutGateway',
  'A route of the Gateway API names a Gateway or listener that does not exist, or does not let it in.',
);
add('error', 'KIA1402', 'RouteWithoutService', 'A route of the Gateway API names a service that does not exist.');
add('error', 'KIA1504', 'NoGatewayClass', 'A Gateway names a GatewayClass that is not there, or not served here.');
add('warning', 'KIA1702', 'WorkloadGroupTwice', 'Two WorkloadGroups of a namespace have the same labels.');
add('warning', 'KIA1701', 'ServiceAccountNotFound', 'A Process has a service account that no document declares.');
add(
  'warning',
  'WEFT-RETRY-UNSAFE',
  'RetryUnsafe',
  'A route repeats requests that the application may have begun (5xx, reset, status codes …), and takes methods that are not safe to repeat.',
);
add(
  'warning',
  'WEFT-IGNORED',
  'Ignored',
  'A document counts once a namespace and this is the second, or a route of the Gateway API goes before it.',
);
add(
  'error',
  'WEFT-NO-GRANT',
  'NoReferenceGrant',
  'A Service or Secret of another namespace is named without a ReferenceGrant.',
);
add('error', 'WEFT-NO-CONFIGMAP', 'NoConfigMap', 'A BackendTLSPolicy names a ConfigMap that is not there.');
add('error', 'WEFT-ROUTE-CONFLICT', 'RouteConflict', 'HTTPRoute and GRPCRoute say something about one thing.');
add('error', 'WEFT-PENDING', 'Pending', 'The kind is known and has no effect yet; with --allow-pending a warning.');
add('error', 'WEFT-DUPLICATE', 'Duplicate', 'The same kind and name stand twice in a namespace.');
add('error', 'WEFT-NO-FILE', 'NoFile', 'A document names a certificate file that is not there.');

add(
  'error',
  'WEFT-TCP-POLICY',
  'TcpPolicy',
  'A policy asks about requests on a port that carries TCP, where none is seen; a warning where that is one port of several.',
);
add(
  'warning',
  'WEFT-TWO-APIS',
  'TwoPolicyApis',
  'Policies of Istio, Linkerd or Consul hold for one Process at the same time: a call passes only where all of them let it.',
);
add(
  'warning',
  'WEFT-CLOSED',
  'ServerClosed',
  'A Server of Linkerd’s has accessPolicy deny (the default), and no AuthorizationPolicy opens it: everybody is refused.',
);

export const CODES: ReadonlyMap<string, Code> = new Map(table.map((c) => [c.code, c]));
