/** What is wrong between resources: names of what does not exist, two rules for one thing, rules that contradict. */
import {
  boundHosts,
  credentialsIn,
  type DestinationModel,
  type DestinationRuleModel,
  delegateOf,
  destinationRuleFor,
  findService,
  gatewayName,
  hostCovers,
  isExportedTo,
  isSeenFrom,
  labelsMatch,
  MESH_GATEWAY,
  type Model,
  mergeDelegated,
  mtlsFor,
  type ProcessModel,
  type Resource,
  refOf,
  resolveHost,
  type ServiceModel,
  serviceHost,
  servicesSelecting,
  targetPortOn,
  type VirtualServiceModel,
} from '@weft/model';
import { analyzeAuthorization } from './analysis-authorization.ts';
import { GatewayAnalysis } from './analysis-gateway.ts';
import { analyzeOtherPolicies } from './analysis-other-policies.ts';
import { RouteAnalysis } from './analysis-routes.ts';
import { list, pairs } from './words.ts';

type Target = Pick<DestinationModel, 'host' | 'subset' | 'port'>;

export type Report = (
  resource: Resource,
  code: string,
  message: string,
  field: string,
  severity?: 'error' | 'warning',
) => void;

/** `broken`: refs of resources that have errors of their own; what refers to those is not checked further. */
export function analyze(model: Model, broken: ReadonlySet<string>, report: Report): void {
  const a = new Analysis(model, broken, report);
  for (const service of model.services) a.service(service);
  for (const alias of model.serviceAliases) a.alias(alias);
  new GatewayAnalysis(model, broken, report).run();
  for (const vs of model.virtualServices) a.virtualService(vs);
  new RouteAnalysis(model, broken, report, (rule, d, used) => a.destination(rule, d, d.field, used)).run();
  a.oneVirtualServiceAHost();
  for (const rule of model.destinationRules) a.destinationRule(rule);
  a.policies();
  analyzeAuthorization(model, broken, report);
  analyzeOtherPolicies(model, broken, report);
  a.singletons();
  a.rateLimits();
  a.tcpFaults();
  a.meshConfigs();
  a.endpointSlices();
}

class Analysis {
  readonly #model: Model;
  readonly #broken: ReadonlySet<string>;
  readonly #report: Report;
  readonly #brokenKinds = new Map<string, boolean>();
  #behind: Map<ServiceModel, ProcessModel[]> | undefined;

  constructor(model: Model, broken: ReadonlySet<string>, report: Report) {
    this.#model = model;
    this.#broken = broken;
    this.#report = report;
  }

  #ok(r: Resource): boolean {
    return !this.#broken.has(refOf(r));
  }

  /** Some resource of the kind has errors of its own: what refers to such resources cannot be judged. Looked up once. */
  #anyBroken(kind: 'processes' | 'destinationRules'): boolean {
    let found = this.#brokenKinds.get(kind);
    if (found === undefined) {
      found = this.#model[kind].some((r) => !this.#ok(r));
      this.#brokenKinds.set(kind, found);
    }
    return found;
  }

  /** Processes behind each service. */
  #providers(service: ServiceModel): readonly ProcessModel[] {
    if (!this.#behind) {
      this.#behind = new Map();
      for (const process of this.#model.processes) {
        for (const s of servicesSelecting(this.#model, process)) {
          const list = this.#behind.get(s);
          if (list) list.push(process);
          else this.#behind.set(s, [process]);
        }
      }
    }
    return this.#behind.get(service) ?? [];
  }

  /** Whether something else than processes of the mesh may be behind it. */
  #outOfProcesses({ external, selector, namespace, name }: ServiceModel): boolean {
    if (external) return true;
    if (!selector && this.#model.endpointSlices.some((s) => s.namespace === namespace && s.service === name))
      return true;
    return this.#model.workloadEntries.some(
      (e) => e.namespace === namespace && labelsMatch(selector ?? {}, e.endpoint.labels),
    );
  }

  service(service: ServiceModel): void {
    if (!this.#ok(service) || this.#anyBroken('processes') || this.#outOfProcesses(service)) return;
    const providers = this.#providers(service);
    const { namespace, name } = service;
    if (providers.length === 0) {
      const there = this.#model.processes
        .filter((p) => p.namespace === namespace)
        .map((p) => `${p.name} {${pairs(p.labels)}}`);
      const why = service.selector
        ? `its selector {${pairs(service.selector)}} matches no Process`
        : 'it has no selector';
      const have = list(there, 'none');
      const message = `nobody provides the service ${name}: ${why}. Processes in namespace ${namespace}: ${have}`;
      this.#report(service, 'WEFT-NO-PROVIDER', message, service.selector ? 'spec.selector' : 'spec');
      return;
    }
    for (const port of service.ports) {
      if (typeof port.targetPort !== 'string') continue;
      const ports = (p: (typeof providers)[number]) => ({
        ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
      });
      for (const p of providers) {
        if (targetPortOn(port, ports(p)) !== undefined) continue;
        const known = list(
          p.ports.filter((x) => x.name !== '').map((x) => x.name),
          'no port with a name',
        );
        const message = `names the port "${port.targetPort}", but the process ${p.name} has ${known}`;
        this.#report(service, 'WEFT-NO-PORT', message, `${port.field}.targetPort`);
      }
    }
  }

  /** Another name for a service of the mesh; names of other hosts need no service, or a rule that says what they are. */
  alias(alias: ServiceModel): void {
    if (!this.#ok(alias)) return;
    const target = resolveHost(alias.externalName ?? '', alias.namespace, this.#model.domain);
    if (findService(this.#model, target)) return;
    const message = `${target} is no service of the mesh, which this would be another name of. Hosts outside are called by their own name. Services: ${list(this.#hosts(), 'none')}`;
    this.#report(alias, 'WEFT-NO-SERVICE', message, 'spec.externalName');
  }

  #hosts(): string[] {
    return this.#model.services.map((s) => serviceHost(s, this.#model.domain));
  }

  /** The service that a host of a rule means; reports where there is none. */
  #serviceOf(rule: Resource, host: string, field: string): ServiceModel | undefined {
    const fqdn = resolveHost(host, rule.namespace, this.#model.domain);
    const service = findService(this.#model, fqdn);
    if (!service) {
      const have = list(this.#hosts(), 'none');
      const shown = fqdn === host ? host : `${host} (${fqdn})`;
      const message = `there is no service ${shown}. A name without dots belongs to the rule's namespace. Services: ${have}`;
      this.#report(rule, 'WEFT-NO-SERVICE', message, field);
    }
    return service;
  }

  virtualService(vs: VirtualServiceModel): void {
    if (!this.#ok(vs)) return;
    const mesh = vs.gateways.includes(MESH_GATEWAY);
    for (const [i, host] of vs.hosts.entries()) {
      const field = `spec.hosts[${i}]`;
      // What a gateway serves needs no service of its name.
      if (!mesh || this.#servedByGateway(vs, host)) continue;
      if (host.startsWith('*')) {
        if (!this.#hosts().some((h) => hostCovers(host.toLowerCase(), h))) {
          this.#report(vs, 'WEFT-NO-SERVICE', `no service has a host like ${host}`, field, 'warning');
        }
        continue;
      }
      const service = this.#serviceOf(vs, host, field);
      if (!service) continue;
      for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) {
        for (const [j, m] of route.match.entries()) {
          // A port of a Gateway need not be one of the service.
          if (m.gateways.length > 0 && !m.gateways.includes(MESH_GATEWAY)) continue;
          if (m.port !== 0 && !service.ports.some((p) => p.port === m.port)) {
            this.#noPort(vs, service, m.port, `${route.field}.match[${j}].port`);
          }
        }
      }
    }
    for (const route of [...vs.http, ...vs.tcp, ...vs.tls]) {
      for (const d of route.route) this.destination(vs, d, `${d.field}.destination`, d.weight > 0);
    }
    this.#delegates(vs);
    for (const route of vs.http) {
      for (const m of route.mirrors) this.destination(vs, m, m.field, m.percent > 0);
    }
  }

  /** Whom a rule hands over to must be there, and be a delegate; its routes must be within what is handed over. */
  #delegates(vs: VirtualServiceModel): void {
    const all = this.#model.virtualServices;
    for (const route of vs.http) {
      if (!route.delegate) continue;
      const { namespace, name } = route.delegate;
      const field = `${route.field}.delegate`;
      const named = all.find((v) => v.name === name && v.namespace === namespace);
      const delegate = delegateOf(this.#model, vs, route);
      if (named && !this.#ok(named)) continue;
      if (!named) {
        const have = list(
          all.filter((v) => v.hosts.length === 0).map((v) => `${v.namespace}/${v.name}`),
          'none (a delegate is a VirtualService without hosts)',
        );
        const message = `there is no VirtualService ${name} in namespace ${namespace}. Delegates: ${have}`;
        this.#report(vs, 'WEFT-NO-TARGET', message, `${field}.name`);
      } else if (!delegate) {
        const why = named.hosts.length > 0 ? 'has hosts of its own' : `is not exported to namespace ${vs.namespace}`;
        this.#report(vs, 'WEFT-NO-TARGET', `the VirtualService ${namespace}/${name} ${why}: it is no delegate`, field);
      } else {
        for (const leaf of delegate.http) {
          if (mergeDelegated(vs, route, delegate, leaf)) continue;
          const message = `is never reached by ${vs.namespace}/${vs.name} (${vs.source.file}:${vs.source.line}): no request meets the conditions of both`;
          this.#report(delegate, 'WEFT-UNREACHABLE', message, leaf.field, 'warning');
        }
      }
    }
    if (vs.hosts.length > 0 || all.some((v) => v.http.some((r) => delegateOf(this.#model, v, r) === vs))) return;
    const message = 'has no hosts, and no VirtualService hands over to it: it holds for nothing';
    this.#report(vs, 'WEFT-NO-EFFECT', message, 'metadata.name', 'warning');
  }

  #servedByGateway(vs: VirtualServiceModel, host: string): boolean {
    const one = { ...vs, hosts: [host] };
    const service = findService(this.#model, resolveHost(host, vs.namespace, this.#model.domain));
    if (service || vs.gateways.length === 1) return false;
    return this.#model.gateways.some(
      (g) => vs.gateways.includes(gatewayName(g)) && g.servers.some((s) => boundHosts(this.#model, s, one).length > 0),
    );
  }

  #noPort(rule: Resource, service: ServiceModel, port: number, field: string): void {
    const have = service.ports.map((p) => (p.name ? `${p.port} (${p.name})` : `${p.port}`));
    const message = `the service ${service.name}.${service.namespace} has no port ${port}; it has ${list(have, 'none')}`;
    this.#report(rule, 'WEFT-NO-PORT', message, field);
  }

  /** `used`: something is sent there. */
  destination(vs: Resource, d: Target, at: string, used: boolean): void {
    // Of a VirtualService, and of a reference of the Gateway API.
    const [hostField, portField] = vs.kind === 'VirtualService' ? ['host', 'port.number'] : ['name', 'port'];
    const service = this.#serviceOf(vs, d.host, `${at}.${hostField}`);
    if (!service || !this.#ok(service)) return;
    const tcp = service.ports.filter((p) => p.transport === 'TCP');
    if (d.port !== 0) {
      if (!tcp.some((p) => p.port === d.port)) this.#noPort(vs, service, d.port, `${at}.${portField}`);
    } else if (tcp.length !== 1) {
      const have = list(
        tcp.map((p) => `${p.port}`),
        'none',
      );
      const message = `the service ${service.name} has the ports ${have}: say which, with port.number`;
      this.#report(vs, 'WEFT-NO-PORT', message, at);
    }
    if (d.subset !== '') this.#subset(vs, d, at, service, used);
  }

  #subset(vs: Resource, d: Target, at: string, service: ServiceModel, used: boolean): void {
    if (this.#anyBroken('destinationRules')) return;
    const field = `${at}.subset`;
    // The rules a client sees depend on its namespace; a subset must be there for clients of the rule's and the service's.
    const host = serviceHost(service, this.#model.domain);
    for (const client of new Set([vs.namespace, service.namespace])) {
      const effective = destinationRuleFor(this.#model, { namespace: client, labels: {} }, service);
      const found = effective.subsets.find((s) => s.subset.name === d.subset);
      if (!found) {
        const have = list(
          effective.subsets.map((s) => s.subset.name),
          'none (a DestinationRule defines them)',
        );
        this.#report(vs, 'WEFT-NO-SUBSET', `${host} has no subset "${d.subset}". Subsets: ${have}`, field);
        return;
      }
      const providers = this.#providers(service);
      if (used && providers.length > 0 && !providers.some((p) => labelsMatch(found.subset.labels, p.labels))) {
        const have = list(
          providers.map((p) => `${p.name} {${pairs(p.labels)}}`),
          'none',
        );
        const message = `the subset "${d.subset}" {${pairs(found.subset.labels)}} of ${host} matches no process. Processes: ${have}`;
        this.#report(vs, 'WEFT-EMPTY-SUBSET', message, field);
        return;
      }
    }
  }

  oneVirtualServiceAHost(): void {
    const first = new Map<string, VirtualServiceModel[]>();
    for (const vs of this.#model.virtualServices) {
      // On gateways they are merged.
      if (!vs.gateways.includes(MESH_GATEWAY)) continue;
      for (const [i, host] of vs.hosts.entries()) {
        const fqdn = resolveHost(host, vs.namespace, this.#model.domain);
        const others = first.get(fqdn) ?? [];
        // Two that no client sees both do not meet.
        const other = others.find((o) => o === vs || meet(o, vs));
        if (!other) first.set(fqdn, [...others, vs]);
        else {
          const where = `${other.namespace}/${other.name} (${other.source.file}:${other.source.line})`;
          const message =
            other === vs
              ? `the host ${host} is there twice`
              : `the host ${fqdn} already has the VirtualService ${where}: they are not merged; make one of them`;
          this.#report(vs, 'WEFT-HOST-CONFLICT', message, `spec.hosts[${i}]`);
        }
      }
    }
  }

  destinationRule(rule: DestinationRuleModel): void {
    if (!this.#ok(rule)) return;
    const pattern = resolveHost(rule.host, rule.namespace, this.#model.domain);
    if (pattern.startsWith('*')) {
      if (!this.#hosts().some((h) => hostCovers(pattern, h))) {
        this.#report(rule, 'WEFT-NO-SERVICE', `no service has a host like ${rule.host}`, 'spec.host', 'warning');
      }
    } else if (!this.#serviceOf(rule, rule.host, 'spec.host')) return;
    const blocks = [rule.trafficPolicy, ...rule.subsets.map((s) => s.trafficPolicy)];
    for (const policy of blocks) {
      const header = 'opaque connections begin with the header; it is not sent';
      if (policy?.proxyProtocol) this.#opaqueOnly(rule, `${policy.field}.proxyProtocol`, pattern, header);
      const way = 'opaque connections go through a forward proxy; requests are sent as ever';
      if (policy?.tunnel) this.#opaqueOnly(rule, `${policy.field}.tunnel`, pattern, way);
    }
    this.#credentials(rule);
    if (this.#model.peerAuthentications.some((p) => !this.#ok(p))) return;
    for (const [i, policy] of blocks.entries()) {
      if (policy?.tlsMode && policy.tlsMode !== 'ISTIO_MUTUAL')
        this.#strictMeets(
          policy.tlsMode === 'DISABLE' ? 'plaintext' : 'TLS of their own',
          rule,
          policy.field,
          pattern,
          rule.subsets[i - 1]?.labels,
        );
    }
  }

  /** Secrets that gateways begin TLS with stand in their namespaces; sidecars are sent none. */
  #credentials(rule: DestinationRuleModel): void {
    const gateways = new Set(this.#model.processes.filter((p) => p.gateway).map((p) => p.namespace));
    const secrets = this.#model.secrets.filter((s) => gateways.has(s.namespace));
    for (const name of new Set(credentialsIn(rule))) {
      if (secrets.some((s) => s.name === name || s.name === `${name}-cacert`)) continue;
      const have = list(
        secrets.map((s) => `${s.namespace}/${s.name}`),
        'none',
      );
      const message = `no gateway has a Secret ${name} in its namespace: credentialName is for gateways (sidecars take files). Secrets there: ${have}`;
      this.#report(rule, 'WEFT-NO-SECRET', message, 'spec');
    }
  }

  /** Requests of many clients share a connection: what is said before it would hold for one of them. */
  #opaqueOnly(rule: DestinationRuleModel, field: string, pattern: string, what: string): void {
    for (const service of this.#model.services) {
      if (!hostCovers(pattern, serviceHost(service, this.#model.domain))) continue;
      const http = service.ports.filter((p) => ['http', 'http2', 'grpc', 'grpc-web'].includes(p.protocol));
      if (http.length === 0) continue;
      const ports = list(
        http.map((p) => `${p.port} (${p.protocol})`),
        'none',
      );
      const message = `${what} on these ports of ${service.name}: ${ports}`;
      this.#report(rule, 'WEFT-NO-EFFECT', message, field, 'warning');
    }
  }

  /** A port that takes the mesh's TLS alone, and clients that are told to send it `what`. */
  #strictMeets(
    what: string,
    rule: DestinationRuleModel,
    field: string,
    pattern: string,
    subset: Readonly<Record<string, string>> | undefined,
  ): void {
    for (const service of this.#model.services) {
      if (!hostCovers(pattern, serviceHost(service, this.#model.domain))) continue;
      for (const process of this.#providers(service)) {
        if (subset && !labelsMatch(subset, process.labels)) continue;
        for (const port of service.ports) {
          const ports = process.ports.map((p) => ({ number: p.port, name: p.name }));
          const target = targetPortOn(port, { ports });
          const mtls = target === undefined ? undefined : mtlsFor(this.#model, process, target);
          if (mtls?.mode !== 'STRICT' || !mtls.policy) continue;
          const { policy } = mtls;
          const where = `${policy.namespace}/${policy.name} (${policy.source.file}:${policy.source.line})`;
          const message = `clients would send ${what} to ${process.name}, whose port ${target} is STRICT by the PeerAuthentication ${where}`;
          this.#report(rule, 'WEFT-MTLS-CONFLICT', message, `${field}.tls.mode`);
          return;
        }
      }
    }
  }

  /** Selectors that select nothing, and levels with two PeerAuthentications. */
  policies(): void {
    const processesBroken = this.#model.processes.some((p) => !this.#ok(p));
    const { peerAuthentications, authorizationPolicies, requestAuthentications } = this.#model;
    const policies = [...peerAuthentications, ...authorizationPolicies, ...requestAuthentications];
    for (const policy of policies) {
      const selector = policy.selector;
      if (processesBroken || !selector || !this.#ok(policy)) continue;
      const root = policy.kind !== 'PeerAuthentication' && policy.namespace === this.#model.rootNamespace;
      const inReach = this.#model.processes.filter((p) => root || p.namespace === policy.namespace);
      if (!inReach.some((p) => labelsMatch(selector, p.labels))) {
        const message = `the selector {${pairs(selector)}} matches no process: the policy holds for nothing`;
        this.#report(policy, 'WEFT-NO-TARGET', message, 'spec.selector', 'warning');
      }
    }
    const first = new Map<string, Resource>();
    for (const p of this.#model.peerAuthentications) {
      const general = !p.selector || Object.keys(p.selector).length === 0;
      if (!general) continue;
      const other = first.get(p.namespace);
      if (!other) first.set(p.namespace, p);
      else this.#ignored(p, other, `namespace ${p.namespace}`);
    }
  }

  singletons(): void {
    const first = new Map<string, Resource>();
    for (const d of this.#model.meshDefaults) {
      const other = first.get(d.namespace);
      if (!other) first.set(d.namespace, d);
      else this.#ignored(d, other, `namespace ${d.namespace}`);
    }
  }

  /** Of Services without a selector; those of others come from their workloads. */
  endpointSlices(): void {
    for (const slice of this.#model.endpointSlices) {
      if (!this.#ok(slice)) continue;
      const field = 'metadata.labels.kubernetes.io/service-name';
      const service = this.#model.services.find(
        (s) => !s.external && s.namespace === slice.namespace && s.name === slice.service,
      );
      if (!service) this.#serviceOf(slice, slice.service, field);
      else if (service.selector) {
        const message = `the Service ${service.name} has a selector: its endpoints are the workloads that it selects`;
        this.#report(slice, 'WEFT-NO-EFFECT', message, field, 'warning');
      } else {
        for (const name of slice.ports.keys()) {
          if (service.ports.some((p) => p.name === name)) continue;
          const have = list(
            service.ports.map((p) => p.name || `${p.port}, without a name`),
            'none',
          );
          const message = `the Service ${service.name} has no port named "${name}". Its ports: ${have}`;
          this.#report(slice, 'WEFT-NO-PORT', message, 'ports', 'warning');
        }
      }
    }
  }

  /** The first one counts, and what it calls must be there. */
  meshConfigs(): void {
    const [first, ...others] = this.#model.meshConfigs;
    for (const m of others) this.#ignored(m, first, 'the mesh');
    if (!first || !this.#ok(first)) return;
    for (const provider of first.extensionProviders) {
      if (provider.type === 'telemetry' || provider.service === '') continue;
      const [namespace, host = namespace] = provider.service.split('/');
      const from = host === namespace ? first : { ...first, namespace };
      const service = findService(this.#model, resolveHost(host, from.namespace, this.#model.domain));
      if (!service) this.#serviceOf(first, host, `${provider.field}.service`);
      else if (!service.ports.some((p) => p.port === provider.port))
        this.#noPort(first, service, provider.port, `${provider.field}.port`);
    }
  }

  tcpFaults(): void {
    for (const f of this.#model.tcpFaults) if (this.#ok(f)) this.#serviceOf(f, f.host, 'spec.host');
  }

  /** Their Servers must be there, and each of those have one policy of a kind. */
  rateLimits(): void {
    const servers = new Map(this.#model.servers.map((s) => [`${s.namespace}/${s.name}`, s]));
    for (const policies of [this.#model.httpRateLimits, this.#model.tcpRateLimits]) {
      const first = new Map<string, Resource>();
      for (const p of policies) {
        if (!this.#ok(p)) continue;
        const key = `${p.namespace}/${p.server}`;
        const other = first.get(key);
        if (!servers.has(key)) {
          const there = this.#model.servers.filter((s) => s.namespace === p.namespace).map((s) => s.name);
          const message = `there is no Server ${p.server} in namespace ${p.namespace}. Servers there: ${list(there, 'none')}`;
          this.#report(p, 'WEFT-NO-TARGET', message, 'spec.targetRef.name');
        } else if (!other) first.set(key, p);
        else this.#ignored(p, other, `the Server ${p.server}`);
      }
    }
  }

  #ignored(r: Resource, first: Resource, scope: string): void {
    const where = `${first.name} (${first.source.file}:${first.source.line})`;
    this.#report(
      r,
      'WEFT-IGNORED',
      `${scope} already has ${where}; the first counts, this one is ignored`,
      'metadata.name',
      'warning',
    );
  }
}

/** Whether the clients of some namespace see both rules. */
function meet(a: VirtualServiceModel, b: VirtualServiceModel): boolean {
  const seen = (vs: VirtualServiceModel): string[] => [
    vs.namespace,
    ...(vs.exportTo ?? []).filter((n) => n !== '.' && n !== '*'),
  ];
  const everywhere = (vs: VirtualServiceModel): boolean => isExportedTo(vs.exportTo, '*');
  return (everywhere(a) && everywhere(b)) || [...seen(a), ...seen(b)].some((n) => isSeenFrom(a, n) && isSeenFrom(b, n));
}
