/** Kinds that people's folders hold beside what is read here, by group and name: known, and without an effect yet. */
const PENDING: ReadonlyMap<string, string> = new Map([
  ['telemetry.istio.io/Telemetry', 'tracing, access logs and metrics are not set by it yet'],
  ['networking.istio.io/EnvoyFilter', 'the proxies are no Envoys: say what it is for by another kind'],
  ['networking.istio.io/ProxyConfig', 'proxies are not set by it yet'],
  ['extensions.istio.io/WasmPlugin', 'proxies are not extended by it yet'],
  ['extensions.istio.io/TrafficExtension', 'proxies are not extended by it yet'],
  ['monitoring.coreos.com/ServiceMonitor', 'no Prometheus is set up by it; proxies serve /stats/prometheus on 15090'],
  ['monitoring.coreos.com/PodMonitor', 'no Prometheus is set up by it; proxies serve /stats/prometheus on 15090'],
  ['kiali.io/Kiali', 'no dashboard is set up by it yet'],
  ['flagger.app/Canary', 'no rollout follows it yet: nothing moves weights'],
  ['flagger.app/MetricTemplate', 'no rollout follows it yet'],
  ['flagger.app/AlertProvider', 'no rollout follows it yet'],
  ['split.smi-spec.io/TrafficSplit', 'it splits nothing yet: use a VirtualService'],
  ['access.smi-spec.io/TrafficTarget', 'it allows nothing yet: use an AuthorizationPolicy'],
  ['specs.smi-spec.io/HTTPRouteGroup', 'nothing refers to it yet'],
  ['weft.dev/MeshTest', 'tests are read from files named *.mesh-test.yaml alone'],
  ['gateway.networking.k8s.io/UDPRoute', 'the mesh does not carry UDP'],
  ['gateway.networking.k8s.io/ListenerSet', 'listeners are read from Gateways alone'],
  ['gateway.networking.x-k8s.io/XListenerSet', 'listeners are read from Gateways alone'],
  ['gateway.networking.x-k8s.io/XMesh', 'there is one mesh'],
  ['linkerd.io/ServiceProfile', 'it routes nothing yet: use a VirtualService'],
]);

/** What is missing where the kind is one that will be read; undefined: it is not known. */
export function pendingReason(apiVersion: string, kind: string): string | undefined {
  return PENDING.get(`${apiVersion.split('/', 1)[0]}/${kind}`);
}
