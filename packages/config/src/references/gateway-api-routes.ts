/** What is wrong between routes of the Gateway API, their parents and backends, and VirtualServices for the same services. */
import {
  type ApiRouteModel,
  allows,
  type BackendPolicyModel,
  type BackendTlsPolicyModel,
  backendTlsFor,
  type DestinationModel,
  destinationRuleFor,
  findService,
  gatewayName,
  isGranted,
  listenerNames,
  type MirrorModel,
  type Model,
  mayCarryHttp,
  meansListener,
  meansPort,
  type RouteParentModel,
  refOf,
  routesOfService,
  type ServiceModel,
  type ServicePortModel,
  serviceHost,
  virtualServiceFor,
} from '@weft/model';
import { BUILT_IN_CLASSES, CONTROLLERS } from '../gateway-api/gateway.ts';
import { list } from '../words.ts';
import type { Report } from './known.ts';

/** Reports a destination that does not exist. `used`: something is sent there. */
type Check = (rule: ApiRouteModel, target: DestinationModel | MirrorModel, used: boolean) => void;

export class RouteCheck {
  readonly #model: Model;
  readonly #broken: ReadonlySet<string>;
  readonly #report: Report;
  readonly #destination: Check;

  constructor(model: Model, broken: ReadonlySet<string>, report: Report, destination: Check) {
    this.#model = model;
    this.#broken = broken;
    this.#report = report;
    this.#destination = destination;
  }

  run(): void {
    this.#classes();
    for (const policy of this.#model.backendPolicies) if (this.#intact(policy)) this.#targets(policy);
    for (const policy of this.#model.backendTlsPolicies) if (this.#intact(policy)) this.#backendTls(policy);
    for (const route of this.#model.apiRoutes) {
      if (!this.#intact(route)) continue;
      for (const parent of route.parents) {
        if (parent.kind === 'Service') this.#onService(route, parent);
        else this.#onGateway(route, parent);
      }
      this.#backends(route);
      const mesh = route.parents.length > 0 && route.parents.every((p) => p.kind === 'Service');
      if (mesh && route.hostnames.length > 0 && route.tls.length === 0) {
        const message = 'on services hostnames say nothing: a service has its own';
        this.#report(route, 'WEFT-NO-EFFECT', message, 'spec.hostnames', 'warning');
      }
    }
    if (!this.#model.apiRoutes.every((r) => this.#intact(r))) return;
    for (const service of this.#model.services) this.#twoOfOneService(service);
    this.#twoOfOneListener();
  }

  #intact(r: { kind: string; namespace: string; name: string }): boolean {
    return !this.#broken.has(refOf(r));
  }

  #classes(): void {
    for (const c of this.#model.gatewayClasses) {
      if (!this.#intact(c) || CONTROLLERS.includes(c.controllerName)) continue;
      const message = `its Gateways are for ${c.controllerName} and not served here: ours are ${CONTROLLERS.join(', ')}`;
      this.#report(c, 'WEFT-NO-EFFECT', message, 'spec.controllerName', 'warning');
    }
    for (const gateway of this.#model.gateways) {
      const { className } = gateway;
      if (className === '' || !this.#intact(gateway)) continue;
      const found = this.#model.gatewayClasses.find((c) => c.name === className);
      const own = found ? CONTROLLERS.includes(found.controllerName) : BUILT_IN_CLASSES.includes(className);
      if (own) continue;
      const known = [...BUILT_IN_CLASSES, ...this.#model.gatewayClasses.map((c) => c.name)];
      const message = found
        ? `the GatewayClass ${className} belongs to ${found.controllerName}`
        : `there is no GatewayClass ${className}. Classes: ${list(known, 'none')}`;
      this.#report(gateway, 'WEFT-NO-CLASS', message, 'spec.gatewayClassName');
    }
  }

  #targets(policy: BackendPolicyModel): void {
    const own = this.#model.services.filter((s) => s.namespace === policy.namespace && !s.external);
    for (const target of policy.targets) {
      if (own.some((s) => s.name === target.name)) continue;
      const have = list(
        own.map((s) => s.name),
        'none',
      );
      const message = `there is no service ${target.name} in namespace ${policy.namespace}. Services there: ${have}`;
      this.#report(policy, 'WEFT-NO-SERVICE', message, `${target.field}.name`);
    }
  }

  #backendTls(policy: BackendTlsPolicyModel): void {
    const own = this.#model.services.filter((s) => s.namespace === policy.namespace);
    for (const target of policy.targets) {
      const service = own.find((s) => s.name === target.name);
      const ports = service?.ports.filter((p) => target.sectionName === '' || p.name === target.sectionName) ?? [];
      if (!service) {
        const have = list(
          own.map((s) => s.name),
          'none',
        );
        const message = `there is no service ${target.name} in namespace ${policy.namespace}. Services there: ${have}`;
        this.#report(policy, 'WEFT-NO-SERVICE', message, `${target.field}.name`);
      } else if (ports.length === 0) {
        const have = list(
          service.ports.map((p) => p.name).filter((n) => n !== ''),
          'no port with a name',
        );
        const message = `the service ${service.name} has no port named ${target.sectionName}; it has ${have}`;
        this.#report(policy, 'WEFT-NO-PORT', message, `${target.field}.sectionName`);
      } else this.#overshadowed(policy, service, target.field, ports);
    }
    for (const [i, name] of policy.configMaps.entries()) {
      const here = this.#model.configMaps.filter((c) => c.namespace === policy.namespace).map((c) => c.name);
      if (here.includes(name)) continue;
      const message = `there is no ConfigMap ${name} in namespace ${policy.namespace}. ConfigMaps there: ${list(here, 'none')}`;
      this.#report(policy, 'WEFT-NO-CONFIGMAP', message, `spec.validation.caCertificateRefs[${i}].name`);
    }
  }

  /** Another policy of the same service goes before it, or it goes before what a DestinationRule says of TLS. */
  #overshadowed(
    policy: BackendTlsPolicyModel,
    service: ServiceModel,
    field: string,
    ports: readonly ServicePortModel[],
  ): void {
    const first = ports.map((p) => backendTlsFor(this.#model, service, p)).find((p) => p !== policy);
    if (first) {
      const where = `${first.name} (${first.source.file}:${first.source.line})`;
      const message = `the BackendTLSPolicy ${where} goes before it: it names the port, or is the older one`;
      this.#report(policy, 'WEFT-IGNORED', message, field, 'warning');
      return;
    }
    const { policyRule, subsets } = destinationRuleFor(this.#model, { ...service, labels: {} }, service);
    const said = [policyRule?.trafficPolicy, ...subsets.map((s) => s.subset.trafficPolicy)];
    const tls = said.find((p) => p?.tlsMode);
    const rule = policyRule ?? subsets[0]?.rule;
    if (!tls || !rule) return;
    const where = `${policy.name} (${policy.source.file}:${policy.source.line})`;
    const message = `the BackendTLSPolicy ${where} says how clients speak to ${service.name}, and goes before it`;
    this.#report(rule, 'WEFT-IGNORED', message, `${tls.field}.tls`, 'warning');
  }

  #onService(route: ApiRouteModel, parent: RouteParentModel): void {
    const service = findService(this.#model, serviceHost(parent, this.#model.domain));
    if (!service) {
      const have = list(
        this.#model.services.map((s) => `${s.namespace}/${s.name}`),
        'none',
      );
      const message = `there is no service ${parent.namespace}/${parent.name}. Services: ${have}`;
      this.#report(route, 'WEFT-NO-SERVICE', message, `${parent.field}.name`);
      return;
    }
    if (!this.#intact(service)) return;
    const ports = service.ports.filter((p) => p.transport === 'TCP' && meansPort(parent, service, p));
    if (ports.length === 0) {
      const have = list(
        service.ports.map((p) => (p.name ? `${p.port} (${p.name})` : `${p.port}`)),
        'none',
      );
      const message = `the service ${service.name}.${service.namespace} has no such port; it has ${have}`;
      this.#report(route, 'WEFT-NO-PORT', message, parent.field);
    } else if (route.http.length > 0 && !ports.some((p) => mayCarryHttp(p.protocol))) {
      const shown = list(
        ports.map((p) => `${p.port} (${p.protocol})`),
        'none',
      );
      const message = `the ports of ${service.name} carry no HTTP that could be routed: ${shown}. Name the port http-…, or set appProtocol`;
      this.#report(route, 'WEFT-NO-EFFECT', message, parent.field, 'warning');
    }
  }

  #onGateway(route: ApiRouteModel, parent: RouteParentModel): void {
    const gateways = this.#model.gateways.filter((g) => g.gatewayApi);
    const gateway = gateways.find((g) => g.name === parent.name && g.namespace === parent.namespace);
    if (!gateway) {
      const have = list(gateways.map(gatewayName), 'none');
      const message = `there is no Gateway ${parent.namespace}/${parent.name} of the Gateway API. Gateways: ${have}`;
      this.#report(route, 'WEFT-NO-GATEWAY', message, `${parent.field}.name`);
      return;
    }
    if (!this.#intact(gateway)) return;
    const named = gateway.servers.filter((s) => meansListener(parent, gateway, s));
    if (named.length === 0) {
      const have = list(
        gateway.servers.map((s) => `${s.portName} (${s.port})`),
        'none',
      );
      const message = `the Gateway ${gatewayName(gateway)} has no such listener; it has ${have}`;
      this.#report(route, 'WEFT-NO-LISTENER', message, parent.field);
      return;
    }
    const open = named.filter((s) => allows(this.#model, route, gateway, s));
    if (open.length === 0) {
      const message = `no listener of ${gatewayName(gateway)} takes a ${route.kind} of namespace ${route.namespace}: see its protocol and allowedRoutes (by default only its own namespace)`;
      this.#report(route, 'WEFT-NOT-ALLOWED', message, parent.field);
    } else if (open.every((s) => listenerNames(s, route).length === 0)) {
      const have = list(
        open.flatMap((s) => s.hosts.map((h) => h.host)),
        'none',
      );
      const message = `none of its hostnames is one of the Gateway ${gatewayName(gateway)}: it would serve nothing there. That has ${have}`;
      this.#report(route, 'WEFT-NO-HOST', message, 'spec.hostnames', 'warning');
    }
  }

  #backends(route: ApiRouteModel): void {
    const seen = new Set<string>();
    const check = (d: DestinationModel | MirrorModel, used: boolean): void => {
      // The matches of a rule have its backends in common.
      if (seen.has(d.field)) return;
      seen.add(d.field);
      this.#destination(route, d, used);
      const service = findService(this.#model, d.host);
      if (!service || isGranted(this.#model, route, { ...service, kind: 'Service' })) return;
      const message = noGrant(route, 'Service', service.name, service.namespace);
      this.#report(route, 'WEFT-NO-GRANT', message, d.field);
    };
    for (const r of [...route.http.map((x) => x.route), ...route.tcp, ...route.tls]) {
      for (const d of r.route) check(d, true);
    }
    for (const { route: r } of route.http) for (const m of r.mirrors) check(m, m.percent > 0);
  }

  /** HTTPRoute and GRPCRoute do not mix, and what a route says goes before a VirtualService. */
  #twoOfOneService(service: ServiceModel): void {
    const told = new Set<ApiRouteModel>();
    for (const port of service.ports) {
      for (const what of ['http', 'tcp', 'tls'] as const) {
        for (const namespace of new Set(this.#model.apiRoutes.map((r) => r.namespace))) {
          const routes = routesOfService(this.#model, { namespace }, service, port, what);
          if (routes.length === 0 || told.has(routes[0])) continue;
          told.add(routes[0]);
          const other = routes.find((r) => r.kind !== routes[0].kind);
          if (other) this.#mixed(other, routes[0], `the port ${port.port} of ${service.name}`);
          const vs = virtualServiceFor(this.#model, service, { namespace });
          if (!vs || vs[what].length === 0) continue;
          const who = routes[0].namespace === service.namespace ? 'all clients' : `clients of namespace ${namespace}`;
          const where = `${routes[0].kind} ${routes[0].namespace}/${routes[0].name} (${routes[0].source.file}:${routes[0].source.line})`;
          const message = `the ${where} routes ${service.name} for ${who}, and goes before a VirtualService: this one is ignored there`;
          this.#report(vs, 'WEFT-IGNORED', message, `spec.${what}`, 'warning');
        }
      }
    }
  }

  #twoOfOneListener(): void {
    for (const gateway of this.#model.gateways) {
      for (const server of gateway.servers) {
        const first = new Map<string, ApiRouteModel>();
        for (const route of this.#model.apiRoutes) {
          const here = route.parents.some((p) => meansListener(p, gateway, server));
          if (!here || !allows(this.#model, route, gateway, server)) continue;
          if (route.tcp.length > 0) {
            this.#behind(route, first.get(''), `${gatewayName(gateway)} (${server.portName})`);
            if (!first.has('')) first.set('', route);
            continue;
          }
          for (const host of listenerNames(server, route)) {
            const other = first.get(host);
            if (!other) first.set(host, route);
            else if (other.kind !== route.kind && route.http.length > 0)
              this.#mixed(route, other, `the host ${host} of ${gatewayName(gateway)}`);
          }
        }
      }
    }
  }

  /** A listener for TCP has one route: nothing tells its connections apart. */
  #behind(route: ApiRouteModel, first: ApiRouteModel | undefined, listener: string): void {
    if (!first) return;
    const where = `${first.namespace}/${first.name} (${first.source.file}:${first.source.line})`;
    const message = `the listener ${listener} already leads by the older TCPRoute ${where}: this one is never reached there`;
    this.#report(route, 'WEFT-IGNORED', message, 'spec.parentRefs', 'warning');
  }

  #mixed(route: ApiRouteModel, first: ApiRouteModel, what: string): void {
    const where = `${first.kind} ${first.namespace}/${first.name} (${first.source.file}:${first.source.line})`;
    const message = `${what} already has the ${where}: HTTPRoute and GRPCRoute have no order between them. Use one kind there`;
    this.#report(route, 'WEFT-ROUTE-CONFLICT', message, 'spec.parentRefs');
  }
}

/** What to write so that a reference into another namespace holds. */
export function noGrant(
  from: { readonly kind: string; readonly namespace: string },
  kind: 'Service' | 'Secret' | 'ConfigMap',
  name: string,
  namespace: string,
): string {
  return `the ${kind} ${namespace}/${name} may not be named from namespace ${from.namespace}: a ReferenceGrant in ${namespace} would let ${from.kind} of ${from.namespace} (from) name a ${kind} (to)`;
}
